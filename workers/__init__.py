"""The Celery edge: warm children that pull jobs and hand them to the domain."""
