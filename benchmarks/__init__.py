"""The public benchmark: Warmline side by side with its peers. `python -m benchmarks --help` says how to run it."""
