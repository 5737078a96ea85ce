"""Whatever a key or a body holds, the decoder gives the key back, or says that the body is none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.objects.event_bodies import (
    BUCKET,
    as_body,
    aws_record,
    ceph_record,
    eventbridge_event,
    every_body,
    log_entry,
    minio_record,
    r2_message,
    seaweedfs_webhook,
    sns,
)
from warmline.jobs.records import Source
from warmline.objects.events import Decoded, NotAnEvent, decode, decode_log_entry

quick = settings(deadline=None)  # a busy machine is no failure


def _is_legal(key: str) -> bool:
    return not key.endswith("/") and ".." not in key.split("/") and len(key.encode()) <= 1024


# Mostly the characters that encodings trip over, now and then the longest key there can be.
CHARACTERS = st.one_of(
    st.sampled_from("+% /&=?#.~é\u202e\U0001f600\n\"'\\%2F"),
    st.characters(exclude_categories=["Cs"], min_codepoint=1),
)
KEYS = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=40),
    st.text(CHARACTERS, min_size=1, max_size=340),
    st.sampled_from(["%", "+", "%2F", "%252F", "a%2Bb", "a+b", "100%", "é" * 512, "a" * 1024, "...", "a/..b/c"]),
).filter(_is_legal)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=30),
    st.sampled_from(["", "null", "..", "a/../b", "\x00", "\ud800", "%zz", "%ff", "x" * 1025, -1, 10**30, "2.1"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)


@settings(quick, max_examples=120)
@given(key=KEYS)
def test_any_legal_key_comes_back_from_every_dialect(key: str) -> None:
    for name, body in every_body(key).items():
        decoded = decode(body)
        assert [(upload.source.bucket, upload.source.key) for upload in decoded.uploads] == [(BUCKET, key)], name
        assert (decoded.skipped, decoded.malformed) == ({}, ()), name
        assert decode(body.encode()) == decoded, name


@settings(quick, max_examples=200)
@given(body=st.binary(max_size=200) | st.text(st.characters(), max_size=200))
def test_arbitrary_bytes_announce_nothing(body: bytes | str) -> None:
    assert _decode_or_refuse(body).uploads == ()


@settings(quick, max_examples=300)
@given(value=JSON)
def test_arbitrary_json_is_an_event_or_none(value: Any) -> None:
    _decode_or_refuse(json.dumps(value))


TEMPLATES = [
    aws_record(),
    minio_record(),
    ceph_record(),
    eventbridge_event(),
    r2_message(),
    seaweedfs_webhook(),
    log_entry(),
    sns(as_body(aws_record())),
    {"Records": [aws_record()]},
    [eventbridge_event()],
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a value."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(place for name, inner in items for place in _places(inner, (*path, name)))]


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copy


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """An event in which something else stands where something stood."""
    template = draw(st.sampled_from(TEMPLATES))
    return _replaced(template, draw(st.sampled_from(_places(template))), draw(JSON))


@settings(quick, max_examples=400)
@given(event=spoilt())
def test_an_event_with_anything_in_it_never_breaks_the_decoder(event: Any) -> None:
    for decoded in (_decode_or_refuse(json.dumps(event)), _decode_or_refuse(as_body(event))):
        for upload in decoded.uploads:
            assert upload.source == Source.model_validate(upload.source.model_dump())
            # what the intake does with them
            f"{upload.etag} {upload.source.version_id} {upload.sequencer} {upload.metadata}".encode()
            assert upload.sequencer is None or int(upload.sequencer, 16) >= 0
            assert upload.happened_at is None or upload.happened_at.isoformat().endswith("+00:00")
            assert upload.size_bytes is None or upload.size_bytes >= 0
        for sentence in decoded.malformed:
            assert len(sentence) <= 300
            sentence.encode()
    if isinstance(event, dict):
        assert isinstance(decode_log_entry(event), Decoded)


@settings(quick, max_examples=200)
@given(
    before=st.lists(KEYS, max_size=3),
    bad=st.tuples(st.sampled_from([aws_record(), minio_record(), ceph_record()]), JSON, st.randoms()),
    after=st.lists(KEYS, max_size=3),
)
def test_a_spoilt_record_never_loses_a_neighbour(before: list[str], bad: Any, after: list[str]) -> None:
    record, value, random = bad
    middle = _replaced(record, random.choice(_places(record)), value)
    decoded = decode(as_body(*map(aws_record, before), middle, *map(aws_record, after)))
    keys = [upload.source.key for upload in decoded.uploads]
    assert keys[: len(before)] == before
    assert keys[len(keys) - len(after) :] == after
    found = len(decoded.uploads) + len(decoded.malformed) + sum(decoded.skipped.values())
    assert found == len(before) + 1 + len(after)


def _decode_or_refuse(body: bytes | str) -> Decoded:
    sentence = "Decoded."
    try:
        return decode(body)
    except NotAnEvent as refused:
        sentence = refused.message
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert len(sentence) <= 300
    return Decoded()
