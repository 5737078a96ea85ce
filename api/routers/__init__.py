"""One router a file: health, jobs, batches."""
