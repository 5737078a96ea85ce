"""The HTTP edge: accepts jobs, says how far they are, and whether the pool is warm."""
