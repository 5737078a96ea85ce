"""S3: the only place that speaks to an object store."""
