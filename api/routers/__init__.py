"""One router a file: health, jobs, batches, dead letters."""
