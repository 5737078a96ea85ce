"""Puts one file under many keys of the first source bucket, as a night's recordings would come: a process's work.

python -m benchmarks.upload_many FILE PREFIX COUNT
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from config.settings import load_settings
from warmline.objects.store import ObjectStore

UPLOADERS = 8
AT_ONCE = 1000  # keys that are planned at a time


def main(file: str, prefix: str, count: str) -> None:
    """Returns when all are there."""
    settings, recording, total = load_settings().s3, Path(file), int(count)
    with closing(ObjectStore(settings)) as store, ThreadPoolExecutor(UPLOADERS) as pool:
        for first in range(0, total, AT_ONCE):
            keys = (f"{prefix}{first:06}/call-{n:06}.wav" for n in range(first, min(total, first + AT_ONCE)))
            list(pool.map(lambda key: store.put_call(settings.source_buckets[0], key, recording), keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
