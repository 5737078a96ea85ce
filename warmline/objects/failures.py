"""The object store's errors become ours at this edge, by the table of `warmline.jobs.faults`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as boto
from urllib3.exceptions import HTTPError as ConnectionFault

from warmline.jobs.faults import classify


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turns what botocore raises within into our error tree. `what` is the object or bucket, for the message."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, boto.UndefinedModelAttributeError, ConnectionFault) as error:
        raise classify(error, what) from error


def s3_code(error: boto.ClientError) -> str:
    """The store's error code; after a HEAD only the HTTP status in digits."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: boto.ClientError) -> int:
    """The answer's HTTP status; 0 where there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
