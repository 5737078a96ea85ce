"""Reports as tables, for people and warehouses: JSON lines, CSV, Parquet; and sums over many calls."""
