"""The edges that fetch events themselves: an SQS queue, the log of the embedded S3."""
