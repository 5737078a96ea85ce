"""Where a report lies in S3: a key that the object's identity and the options decide, so that it is written once.

    {prefix}{bucket}/{key, escaped}@{ETag or version}-{digest of the options}.json

A file of embeddings lies beside it, with `.npy` or `.parquet` instead of `.json`.

The key stays readable and keeps its folders, so that reports can be listed by the prefix of their calls. What is
not safe in every store (spaces, `//`, `..`, controls) is written `=XX` for each byte of UTF-8, as quoted-printable
has it.
`@` is never left in an escaped key, so no report can have the name of another call's folder.
"""

from __future__ import annotations

import hashlib
import json
import re

from warmline.jobs.records import Options, Source

MAX_KEY_BYTES = 1024  # S3's limit, in UTF-8
MAX_SEGMENT_BYTES = 160  # with the rest of the name below 255, where stores on file systems end
MAX_IDENTITY_BYTES = 64

# Letters of other scripts stay readable; their ranges are fixed, where str.isalnum() grows with Python's version.
_UNSAFE = re.compile(r"[^A-Za-z0-9._~\-\u00C0-\u1FFF\u2E80-\uD7FF]")


def report_key(
    source: Source,
    options: Options,
    *,
    etag: str,
    version_id: str | None = None,
    model_hash: str = "",
    prefix: str = "",
) -> str:
    """The report's key in the results bucket, at most 1,024 bytes.

    `etag` identifies the content, quotes or not; where a store has none, `version_id` does. `model_hash` joins the
    options in their digest: another model's report is another report. `prefix` is put in front as it is.
    Raises ValueError when there is neither ETag nor version, or when the prefix leaves no room.
    """
    name = f"@{_identity(etag, version_id)}-{options_digest(options, model_hash)}.json"
    # Of a job that asks for embeddings their file's name has to fit as well.
    longest = name if options.embedding == "none" else max(name, embeddings_key(name, options.embedding), key=len)
    room = MAX_KEY_BYTES - len(f"{prefix}{source.bucket}/{longest}".encode())
    path = _fit(source.key, room)
    return f"{prefix}{source.bucket}/{path}{name}"


def report_beginning(source: Source, *, etag: str, version_id: str | None = None, prefix: str = "") -> str:
    """What the keys of this content's reports begin with, whatever options and model. Raises ValueError."""
    key = report_key(source, Options(), etag=etag, version_id=version_id, prefix=prefix)
    return key.removesuffix(f"{options_digest(Options())}.json")


def embeddings_key(key: str, file_format: str) -> str:
    """Where the embeddings of the report with this key are."""
    return f"{key.removesuffix('.json')}.{file_format}"


def options_digest(options: Options, model_hash: str = "") -> str:
    """16 hex digits over the options and the model: sha256 of JSON with sorted keys and no spaces."""
    decides = {"options": options.model_dump(mode="json"), "model": model_hash}
    canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _identity(etag: str, version_id: str | None) -> str:
    stripped = etag.removeprefix("W/").strip('"')
    if not stripped and (version_id is None or version_id == "null"):
        # "null" names whatever is there without a version: it identifies nothing.
        raise ValueError("an object without ETag and version has no identity")
    escaped = _escape(stripped or f"v.{version_id}")
    return escaped if len(escaped.encode()) <= MAX_IDENTITY_BYTES else f"@{_digest(escaped)}"


def _fit(key: str, room: int) -> str:
    """The key escaped; the segments that do not fit give way to a digest of the whole key."""
    segments = [_escape_segment(segment) for segment in key.split("/")]
    path = "/".join(segments)
    if len(path.encode()) <= room and all(len(s.encode()) <= MAX_SEGMENT_BYTES for s in segments):
        return path
    tail = f"@{_digest(key)}"
    room -= len(tail)
    if room < 0:
        raise ValueError("WARMLINE_S3_RESULTS_PREFIX leaves no room for the reports' keys")
    head = ""
    for segment in segments[:-1]:
        grown = f"{head}{segment}/"
        if len(grown.encode()) > room or len(segment.encode()) > MAX_SEGMENT_BYTES:
            break
        head = grown
    return f"{head}{tail}"


def _escape_segment(segment: str) -> str:
    if segment == "":
        return "="  # of `//` and of a trailing slash
    if segment in {".", ".."}:
        return segment.replace(".", "=2E")
    return _escape(segment)


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
