"""A report's key: one per identity, legal in every store, readable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmline.jobs.records import ExcludedRange, Options, Source
from warmline.objects.report_keys import MAX_KEY_BYTES, embeddings_key, options_digest, report_key

ETAG = "8e32e22642bddc89698e25a4e9bf528b"


def legal(key: str) -> bool:
    return "\x00" not in key and len(key.encode()) <= 1024


keys = st.text(
    st.one_of(st.characters(codec="utf-8", exclude_characters="\x00"), st.sampled_from("/.@=%+ é客")),
    min_size=1,
    max_size=1024,
).filter(legal)
etags = st.one_of(
    st.just(ETAG), st.from_regex(r"[0-9a-f]{32}-[0-9]{1,5}", fullmatch=True), st.text(min_size=1)
).filter(lambda etag: bool(etag.removeprefix("W/").strip('"')) and etag.isprintable())
options = st.builds(
    Options,
    granularity=st.sampled_from(["segment", "utterance"]),
    embedding=st.sampled_from(["none", "npy", "parquet"]),
)


def test_options_that_came_later_do_not_move_reports_that_do_not_use_them() -> None:
    # What these were in the first release: a report that is there must be found
    assert options_digest(Options()) == "1f32037fd0d9dc0c"
    whole = Options(roles=("agent", "customer"), granularity="utterance")
    assert options_digest(whole, "ab") == "e926702ff7224c53"
    # And each of the later ones makes another report
    later = [
        Options(),
        Options(hop_seconds=2.0),
        Options(embedding="npy"),
        Options(embedding="parquet"),
        Options(split_speakers=True),
        Options(exclude=(ExcludedRange(start_seconds=0, end_seconds=1),)),
    ]
    assert len({options_digest(each) for each in later}) == len(later)


@settings(max_examples=50)
@given(key=keys, etag=etags, opts=options, prefix=st.sampled_from(["", "v1/", "a" * 400 + "/"]))
def test_a_key_is_legal_and_safe_whatever_the_call_is_named(
    key: str, etag: str, opts: Options, prefix: str
) -> None:
    made = report_key(Source(bucket="calls", key=key), opts, etag=etag, prefix=prefix)

    assert len(made.encode()) <= MAX_KEY_BYTES
    # and so is that of the embeddings beside it
    assert len(embeddings_key(made, opts.embedding).encode()) <= MAX_KEY_BYTES or opts.embedding == "none"
    assert made.startswith(f"{prefix}calls/")
    assert made.endswith(f"-{options_digest(opts)}.json")
    own = made.removeprefix(prefix)
    assert not {"", ".", ".."} & set(own.split("/"))
    assert not re.search(r"[\x00-\x20%+\\?#&]", own)
    assert all(len(part.encode()) <= 255 for part in own.split("/"))


def test_the_longest_key_leaves_room_for_its_embeddings() -> None:
    # Given calls whose reports' keys come up to S3's last byte
    sources = [Source(bucket="calls", key="/".join([*["f" * 120] * 7, "g" * last])) for last in range(110, 117)]
    assert len(report_key(sources[-1], Options(), etag=ETAG).encode()) == MAX_KEY_BYTES
    for source in sources:
        for embedding in ("npy", "parquet"):
            made = report_key(source, Options(embedding=embedding), etag=ETAG)
            # Then the files beside them have legal keys, too
            beside = embeddings_key(made, embedding)
            assert beside == made.removesuffix(".json") + f".{embedding}"
            assert len(beside.encode()) <= MAX_KEY_BYTES


@settings(max_examples=50)
@given(one=keys, other=keys)
def test_two_calls_never_share_a_report(one: str, other: str) -> None:
    made = [report_key(Source(bucket="calls", key=key), Options(), etag=ETAG) for key in (one, other)]

    assert (made[0] == made[1]) == (one == other)
    # and no report stands where another call's reports have their folder, which file systems cannot hold
    assert not made[0].startswith(made[1] + "/")


@pytest.mark.parametrize(
    ("one", "other"),
    [("a b", "a=20b"), ("a/", "a/="), ("a//b", "a/=/b"), ("..", "=2E=2E"), ("é", "=C3=A9"), ("a@b", "a=40b")],
)
def test_an_escape_spelled_out_is_another_call(one: str, other: str) -> None:
    first, second = (report_key(Source(bucket="calls", key=key), Options(), etag=ETAG) for key in (one, other))
    assert first != second


def test_long_keys_that_differ_only_at_the_end_have_different_reports() -> None:
    # Given two keys of 1,024 bytes whose escaped form does not fit
    stem = "call recording/" * 60
    made = {report_key(Source(bucket="calls", key=f"{stem}{n:0124}"), Options(), etag=ETAG) for n in range(2)}
    # Then each has its own, and both keep the folders that fit
    assert len(made) == 2
    assert all(key.startswith("calls/call=20recording/call=20recording/") for key in made)


def test_what_decides_a_report_changes_its_key() -> None:
    source = Source(bucket="calls", key="2026/05/a.wav")
    made = [
        report_key(source, Options(), etag=ETAG),
        report_key(source, Options(), etag=ETAG[::-1]),
        report_key(source, Options(granularity="utterance"), etag=ETAG),
        report_key(source, Options(roles=("agent", "customer")), etag=ETAG),
        report_key(source, Options(roles=("customer", "agent")), etag=ETAG),
        report_key(source, Options(), etag=ETAG, model_hash="ab"),
        report_key(Source(bucket="other", key="2026/05/a.wav"), Options(), etag=ETAG),
        report_key(source, Options(), etag="", version_id="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"),
    ]
    assert len(set(made)) == len(made)


def test_a_key_is_the_same_tomorrow() -> None:
    # Reports that lie in S3 are found by this key: a change here orphans every one of them.
    source = Source(bucket="calls", key="2026/05/Anruf 17.wav")
    assert (
        report_key(source, Options(), etag=f'"{ETAG}"', prefix="v1/")
        == f"v1/calls/2026/05/Anruf=2017.wav@{ETAG}-1f32037fd0d9dc0c.json"
    )


@pytest.mark.parametrize("version", [None, "null"])
def test_an_object_without_identity_has_no_key(version: str | None) -> None:
    with pytest.raises(ValueError, match="no identity"):
        report_key(Source(bucket="calls", key="a.wav"), Options(), etag='""', version_id=version)


def test_a_prefix_that_leaves_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="WARMLINE_S3_RESULTS_PREFIX"):
        report_key(Source(bucket="calls", key="x" * 500), Options(), etag=ETAG, prefix="p" * 950)
