"""Every dialect as its store sends it, and what is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.objects.event_bodies import (
    BUCKET,
    ETAG,
    SIZE,
    TEST_EVENT,
    as_body,
    aws_object,
    aws_record,
    b64,
    ceph_record,
    eventbridge_event,
    log_entry,
    merged,
    minio_body,
    minio_record,
    r2_message,
    seaweedfs_webhook,
    sns,
)
from warmline.jobs.records import Source
from warmline.objects.event_records import MAX_RECORDS
from warmline.objects.events import Decoded, NotAnEvent, Upload, decode, decode_log_entry

NOON = datetime(2026, 11, 23, 3, 2, 46, tzinfo=UTC)


def only(decoded: Decoded) -> Upload:
    """The upload of a body that holds nothing else."""
    assert (decoded.skipped, decoded.malformed) == ({}, ())
    (upload,) = decoded.uploads
    return upload


def decode_event(event: Any) -> Decoded:
    """As a body of its own."""
    return decode(json.dumps(event))


def complaint(decoded: Decoded) -> str:
    """The sentence on the only record."""
    assert (decoded.uploads, decoded.skipped) == ((), {})
    (sentence,) = decoded.malformed
    return sentence


def test_amazon() -> None:
    assert only(decode(as_body(aws_record("calls/anna b+c é.wav")))) == Upload(
        source=Source(bucket=BUCKET, key="calls/anna b+c é.wav", version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko"),
        dialect="aws",
        name="ObjectCreated:Put",
        etag=ETAG,
        size_bytes=SIZE,
        sequencer="55AED6DCD90281E5",
        happened_at=NOON.replace(microsecond=269_000),
        metadata=None,
    )


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("red+flower.wav", "red flower.wav"),
        ("red%20flower.wav", "red flower.wav"),
        ("a%2Bb.wav", "a+b.wav"),
        ("a%2Fb.wav", "a/b.wav"),
        ("a/b.wav", "a/b.wav"),
        ("100%25.wav", "100%.wav"),
        ("a%252Fb.wav", "a%2Fb.wav"),
        ("%C3%A9%F0%9F%98%80.wav", "é\U0001f600.wav"),
        ("é.wav", "é.wav"),
    ],
)
def test_keys_of_amazon_and_minio_are_decoded_once(encoded: str, key: str) -> None:
    for record in (aws_object(key=encoded), minio_record(s3={"object": {"key": encoded}})):
        assert only(decode(as_body(record))).source.key == key


@pytest.mark.parametrize("key", ["red+flower.wav", "a%2Fb.wav", "100%.wav", "%zz", "a b", "%C3%A9"])
def test_keys_of_the_others_are_taken_as_they_are(key: str) -> None:
    for body in (
        as_body(ceph_record(key)),
        json.dumps(eventbridge_event(key)),
        json.dumps(r2_message(key)),
        json.dumps(seaweedfs_webhook(key)),
        json.dumps(log_entry(key)),
    ):
        assert only(decode(body)).source.key == key


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.3", "2.17", ...])
def test_versions_2(version: Any) -> None:
    only(decode(as_body(aws_record(eventVersion=version))))


@pytest.mark.parametrize("version", ["1.0", "3.0", "20.1", "", 2.1, None, []])
def test_other_versions_are_malformed(version: Any) -> None:
    assert "eventVersion" in complaint(decode(as_body(aws_record(eventVersion=version))))


@pytest.mark.parametrize("prefix", ["", "s3:"])
@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("ObjectCreated:Put", None),
        ("ObjectCreated:Post", None),
        ("ObjectCreated:Copy", None),
        ("ObjectCreated:CompleteMultipartUpload", None),
        ("ObjectCreated:SomethingNew", None),
        ("ObjectCreated", None),
        ("ObjectRestore:Completed", None),
        ("ObjectSynced:Create", None),
        ("ObjectRemoved:Delete", "deleted"),
        ("ObjectRemoved:DeleteMarkerCreated", "deleted"),
        ("LifecycleExpiration:Delete", "deleted"),
        ("LifecycleExpiration:DeleteMarkerCreated", "deleted"),
        ("ObjectLifecycle:Expiration:Current", "deleted"),
        ("ObjectSynced:Delete", "deleted"),
        ("ObjectSynced:DeletionMarkerCreated", "deleted"),
        ("TestEvent", "test_event"),
        ("ObjectRestore:Post", "other_event"),
        ("ObjectRestore:Delete", "other_event"),
        ("ObjectLifecycle:Transition:Current", "other_event"),
        ("Replication:OperationFailedReplication", "other_event"),
        ("ObjectTagging:Put", "other_event"),
        ("ObjectAcl:Put", "other_event"),
        ("ReducedRedundancyLostObject", "other_event"),
        ("ObjectAccessed:Get", "other_event"),
        ("ObjectCreated:PutTagging", "other_event"),
        ("ObjectCreated:DeleteTagging", "other_event"),
        ("ObjectCreated:PutRetention", "other_event"),
        ("ObjectCreated:PutLegalHold", "other_event"),
    ],
)
def test_only_what_can_be_read_now_is_an_upload(prefix: str, name: str, skipped: str | None) -> None:
    decoded = decode(as_body(aws_record(eventName=prefix + name)))
    if skipped is None:
        assert only(decoded).name == name
    else:
        assert decoded == Decoded(skipped={skipped: 1})


def test_a_deletion_needs_no_legal_key() -> None:
    record = aws_record(eventName="ObjectRemoved:Delete", s3=...)
    assert decode(as_body(record, record)) == Decoded(skipped={"deleted": 2})


def test_records_of_other_services_are_skipped() -> None:
    decoded = decode(as_body(aws_record(eventSource="aws:ses"), aws_record()))
    assert len(decoded.uploads) == 1
    assert decoded.skipped == {"unknown_source": 1}


def test_the_test_event_also_over_sns() -> None:
    assert decode_event(TEST_EVENT) == Decoded(skipped={"test_event": 1})
    assert decode_event(sns(json.dumps(TEST_EVENT))) == Decoded(skipped={"test_event": 1})


def test_sns() -> None:
    body = as_body(aws_record("a b.wav"), aws_record("c.wav"))
    assert decode_event(sns(body)) == decode(body)


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_subscriptions_of_sns_are_no_events(kind: str) -> None:
    envelope = sns("You have chosen to subscribe to the topic ...", Type=kind, SubscribeURL="https://example.com/")
    assert decode_event(envelope) == Decoded(skipped={"subscription": 1})


@pytest.mark.parametrize("message", ["hello", "", "[1", 7, None, [1]])
def test_sns_with_another_message(message: Any) -> None:
    with pytest.raises(NotAnEvent, match="message of SNS"):
        decode_event(sns("", Message=message))


def test_envelopes_in_envelopes() -> None:
    event: Any = eventbridge_event()
    for _ in range(3):
        event = sns(json.dumps(event))
        assert only(decode_event(event)).dialect == "eventbridge"
    with pytest.raises(NotAnEvent, match="envelopes"):
        decode_event(sns(json.dumps(event)))


def test_eventbridge() -> None:
    assert only(decode_event(eventbridge_event("a+b%20é.wav"))) == Upload(
        source=Source(bucket=BUCKET, key="a+b%20é.wav", version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"),
        dialect="eventbridge",
        name="Object Created:PutObject",
        etag=ETAG,
        size_bytes=SIZE,
        sequencer="617f08299329d189",
        happened_at=NOON,
    )


def test_eventbridge_as_moto_sends_it() -> None:
    event = eventbridge_event(
        time=1795402966.27,
        detail={"reason": "ObjectCreated", "object": {"etag": ..., "eTag": ETAG, "version-id": "null"}},
    )
    upload = only(decode_event(event))
    assert (upload.etag, upload.source.version_id) == (ETAG, None)
    assert upload.happened_at == datetime.fromtimestamp(1795402966.27, UTC)


@pytest.mark.parametrize(
    ("changes", "skipped"),
    [
        ({"detail-type": "Object Restore Completed"}, None),
        ({"detail-type": "Object Deleted"}, "deleted"),
        ({"detail-type": "Object Restore Initiated"}, "other_event"),
        ({"detail-type": "Object Tags Added"}, "other_event"),
        ({"detail-type": "AWS API Call via CloudTrail"}, "other_event"),
        ({"source": "aws.ec2"}, "unknown_source"),
        ({"source": ...}, "unknown_source"),
    ],
)
def test_other_events_of_eventbridge(changes: Any, skipped: str | None) -> None:
    decoded = decode_event(eventbridge_event(**changes))
    assert decoded.skipped == ({} if skipped is None else {skipped: 1})
    assert len(decoded.uploads) == (skipped is None)


def test_minio() -> None:
    assert only(decode(minio_body("calls/anna b+c é.wav"))) == Upload(
        source=Source(bucket=BUCKET, key="calls/anna b+c é.wav"),
        dialect="minio",
        name="ObjectCreated:Put",
        etag=ETAG,
        size_bytes=SIZE,
        sequencer="18EA8D7C41320014",
        happened_at=NOON.replace(microsecond=269_000),
        metadata={"agent-name": "B. C"},
    )


def test_the_version_of_an_old_minio_is_none() -> None:
    old = {"object": {"versionId": "1"}}
    assert only(decode(as_body(minio_record(s3=old)))).source.version_id is None
    assert only(decode(as_body(aws_record(s3=old)))).source.version_id == "1"


@pytest.mark.parametrize("said", [..., None, [], "x", {"X-Amz-Meta-A": 7}, {"X-Amz-Meta-A": "\ud800"}])
def test_metadata_that_cannot_be_read_are_not_said(said: Any) -> None:
    assert only(decode(as_body(minio_record(s3={"object": {"userMetadata": said}})))).metadata is None


def test_minio_says_when_there_are_no_metadata() -> None:
    record = minio_record(s3={"object": {"userMetadata": {"X-Amz-Meta-Agent-Name": ...}}})
    assert only(decode(as_body(record))).metadata == {}


def test_ceph() -> None:
    assert only(decode(as_body(ceph_record("anna b+c%20é.wav")))) == Upload(
        source=Source(bucket=BUCKET, key="anna b+c%20é.wav"),
        dialect="ceph",
        name="ObjectCreated:Put",
        etag=ETAG,
        size_bytes=SIZE,
        sequencer="5DD7E6F708D142C7",
        happened_at=datetime(2019, 11, 22, 13, 47, 35, 124_724, tzinfo=UTC),
        metadata={"callid": "7"},
    )


def test_the_sequencers_of_ceph_compare() -> None:
    """It dumps its clock's memory: 255.999999999 s after the epoch comes before 256 s, whatever the text says."""
    earlier, later = (
        ceph_record(
            eventTime=f"1970-01-01T00:04:{second}Z",
            s3={"object": {"sequencer": (seconds.to_bytes(4, "little") + nanos.to_bytes(4, "little")).hex()}},
        )
        for second, seconds, nanos in (("15.999999999", 255, 999_999_999), ("16", 256, 0))
    )
    uploads = decode(as_body(earlier, later)).uploads
    sequencers = [upload.sequencer for upload in uploads]
    assert sequencers == ["000000FF3B9AC9FF", "0000010000000000"]
    assert sequencers == sorted(map(str, sequencers))


@pytest.mark.parametrize(
    "changes",
    [
        {"eventTime": ...},
        {"eventTime": "2019-11-24T13:47:35Z"},
        {"s3": {"object": {"sequencer": "5DD7E6F708D142C7"}}},  # a big-endian machine's
        {"s3": {"object": {"sequencer": "F7E6D75DC742D1"}}},
    ],
)
def test_a_sequencer_of_ceph_that_is_no_clock_is_none(changes: Any) -> None:
    assert only(decode(as_body(ceph_record(**changes)))).sequencer is None


@pytest.mark.parametrize(
    "changes",
    [
        {"eventName": "s3:ObjectCreated:Copy"},
        {"s3": {"object": {"metadata": []}}},
        {"s3": {"object": {"metadata": ...}}},
        {"s3": {"object": {"metadata": [7]}}},
        {"s3": {"object": {"metadata": [{"key": "x-amz-meta-a"}]}}},
    ],
)
def test_metadata_of_ceph_that_may_be_wrong_are_not_said(changes: Any) -> None:
    assert only(decode(as_body(ceph_record(**changes)))).metadata is None


def test_ceph_as_its_documentation_and_its_first_releases_write_it() -> None:
    record = ceph_record(s3={"object": {"size": "1024", "eTag": ..., "etag": ETAG}})
    upload = only(decode(as_body(record)))
    assert (upload.size_bytes, upload.etag) == (1024, ETAG)


def test_r2() -> None:
    assert only(decode_event(r2_message("a+b%20é.wav"))) == Upload(
        source=Source(bucket=BUCKET, key="a+b%20é.wav"),
        dialect="r2",
        name="CopyObject",
        etag=ETAG,
        size_bytes=SIZE,
        happened_at=NOON.replace(microsecond=269_000),
    )


@pytest.mark.parametrize(
    ("action", "skipped"),
    [
        ("PutObject", None),
        ("CompleteMultipartUpload", None),
        ("DeleteObject", "deleted"),
        ("LifecycleDeletion", "deleted"),
        ("AbortMultipartUpload", "other_event"),
    ],
)
def test_actions_of_r2(action: str, skipped: str | None) -> None:
    decoded = decode_event(r2_message(action=action, copySource=...))
    assert decoded.skipped == ({} if skipped is None else {skipped: 1})
    assert len(decoded.uploads) == (skipped is None)


def test_seaweedfs_webhook() -> None:
    assert only(decode_event(seaweedfs_webhook("d/é 5+%.wav"))) == Upload(
        source=Source(bucket=BUCKET, key="d/é 5+%.wav"),
        dialect="seaweedfs",
        name="create",
        etag=ETAG,
        size_bytes=SIZE,
        happened_at=NOON,
        metadata={"agent-name": "B. C"},
    )


def test_seaweedfs_log() -> None:
    upload = only(decode_log_entry(log_entry("d/é 5+%.wav")))
    assert upload == Upload(
        source=Source(bucket=BUCKET, key="d/é 5+%.wav"),
        dialect="seaweedfs",
        name="create",
        etag=ETAG,
        size_bytes=SIZE,
        sequencer=f"{1795402966677563303:016X}",
        happened_at=upload.happened_at,
        metadata={"callid": "7"},
    )
    assert upload.happened_at is not None
    assert abs((upload.happened_at - NOON).total_seconds() - 0.677563303) < 1e-3


def in_log(path: str, **changes: Any) -> Decoded:
    """The log's entry for a file at a path of the filer."""
    folder, name = path.rsplit("/", 1)
    entry = log_entry(name=name, **changes)
    return decode_log_entry(
        merged(entry, {"directory": folder, "eventNotification": {"newParentPath": folder}}),
    )


def in_webhook(path: str, **changes: Any) -> Decoded:
    """The webhook's body for it."""
    folder, name = path.rsplit("/", 1)
    message = {"new_parent_path": folder, "new_entry": {"name": name, **changes}}
    return decode_event(seaweedfs_webhook(key=path, message=message))


@pytest.mark.parametrize("told", [in_log, in_webhook])
@pytest.mark.parametrize(
    ("path", "skipped"),
    [
        ("/buckets/calls/.uploads/d19e_a1cc/0001_c069.part", "multipart_part"),
        ("/buckets/.system/owners/warmline/calls", "outside_buckets"),
        ("/buckets/file.wav", "outside_buckets"),
        ("/topics/log", "outside_buckets"),
        ("/bucketsful/calls/a.wav", "outside_buckets"),
        ("/etc/seaweedfs/filer.conf", "outside_buckets"),
    ],
)
def test_files_of_seaweedfs_that_are_no_objects(told: Any, path: str, skipped: str) -> None:
    assert told(path) == Decoded(skipped={skipped: 1})


def test_folders_of_seaweedfs() -> None:
    assert in_log("/buckets/calls/d", isDirectory=True) == Decoded(skipped={"folder": 1})
    assert in_webhook("/buckets/calls/d", is_directory=True) == Decoded(skipped={"folder": 1})


VERSION = "67157281c735a4f1b8215fe87b9589d7"


@pytest.mark.parametrize("told", [in_log, in_webhook])
def test_versions_of_seaweedfs(told: Any) -> None:
    stored = f"/buckets/calls/v\nd/v+1.wav.versions/v_{VERSION}"
    upload = only(told(stored, extended={"Seaweed-X-Amz-Version-Id": b64(VERSION)}))
    assert upload.source == Source(bucket=BUCKET, key="v\nd/v+1.wav", version_id=VERSION)
    # a file that only looks like one, as any client may write
    assert only(told(stored)).source == Source(bucket=BUCKET, key=f"v\nd/v+1.wav.versions/v_{VERSION}")
    # written while versioning was suspended
    upload = only(told("/buckets/calls/a.wav", extended={"Seaweed-X-Amz-Version-Id": b64("null")}))
    assert upload.source == Source(bucket=BUCKET, key="a.wav")


@pytest.mark.parametrize("told", [in_log, in_webhook])
def test_changes_to_versions_of_seaweedfs_that_are_no_uploads(told: Any) -> None:
    stored, version = f"/buckets/calls/a.wav.versions/v_{VERSION}", b64(VERSION)
    marker = {"Seaweed-X-Amz-Version-Id": version, "Seaweed-X-Amz-Delete-Marker": b64("true")}
    assert told(stored, extended=marker) == Decoded(skipped={"deleted": 1})
    replaced = {
        "Seaweed-X-Amz-Version-Id": version,
        "Seaweed-X-Amz-Noncurrent-Since-Ns": b64("1795402975329571267"),
    }
    assert told(stored, extended=replaced) == Decoded(skipped={"other_event": 1})


@pytest.mark.parametrize("told", [in_log, in_webhook])
@pytest.mark.parametrize(
    ("extended", "etag"),
    [
        ({"Seaweed-X-Amz-ETag": b64("d621a39d7fe094929855bd95879c4e7b-2")}, "d621a39d7fe094929855bd95879c4e7b-2"),
        ({"Seaweed-X-Amz-ETag": ...}, ETAG),
        ({"Seaweed-X-Amz-ETag": "not base64!"}, ETAG),
        ({"Seaweed-X-Amz-ETag": b64("x" * 6) + "!"}, ETAG),
    ],
)
def test_etags_of_seaweedfs(told: Any, extended: Any, etag: str) -> None:
    assert only(told("/buckets/calls/a.wav", extended=extended)).etag == etag


@pytest.mark.parametrize("md5", [..., "", "AAAA", "not base64!", 7])
def test_a_file_of_seaweedfs_without_etag(md5: Any) -> None:
    decoded = in_log("/buckets/calls/a.wav", extended=..., attributes={"md5": md5})
    assert only(decoded).etag is None
    assert only(decoded).metadata == {}


def test_sizes_of_seaweedfs() -> None:
    """The webhook leaves out what is 0; the log does not. A file with chunks and no size has one all the same."""
    assert only(in_webhook("/buckets/calls/a", attributes={"file_size": ...}, chunks=...)).size_bytes == 0
    assert only(in_log("/buckets/calls/a", attributes={"fileSize": "0"}, chunks=[])).size_bytes == 0
    assert only(in_log("/buckets/calls/a", attributes={"fileSize": "0"})).size_bytes is None


def test_deletions_of_seaweedfs() -> None:
    gone = merged(log_entry(), {"eventNotification": {"oldEntry": {"name": "a.wav"}, "newEntry": None}})
    assert decode_log_entry(gone) == Decoded(skipped={"deleted": 1})
    body = seaweedfs_webhook(event_type="delete", message={"new_entry": ..., "old_entry": {"name": "a.wav"}})
    assert decode_event(body) == Decoded(skipped={"deleted": 1})


def test_renames_of_seaweedfs() -> None:
    """Caught from `fs.mv`: the webhook's key is the old path, the log's directory is the old one."""
    moved = {"new_parent_path": "/buckets/calls/done", "new_entry": {"name": "b.wav"}}
    upload = only(decode_event(seaweedfs_webhook("in/a.wav", event_type="rename", message=moved)))
    assert (upload.name, upload.source.key) == ("rename", "done/b.wav")

    notification = {
        "oldEntry": {"name": "a.wav"},
        "newEntry": {"name": "b.wav"},
        "newParentPath": "/buckets/calls/done",
    }
    upload = only(decode_log_entry(merged(log_entry("in/a.wav"), {"eventNotification": notification})))
    assert (upload.name, upload.source.key) == ("rename", "done/b.wav")

    notification = {"oldEntry": {"name": "a.wav"}}
    upload = only(decode_log_entry(merged(log_entry("in/a.wav"), {"eventNotification": notification})))
    assert (upload.name, upload.source.key) == ("update", "in/a.wav")


def test_the_webhook_of_a_seaweedfs_that_names_no_parent() -> None:
    body = seaweedfs_webhook("in/a.wav", message={"new_parent_path": ...})
    assert only(decode_event(body)).source.key == "in/a.wav"
    assert "key is nothing" in complaint(decode_event(merged(body, {"key": ...})))


def test_entries_that_the_log_bundles() -> None:
    bundle = log_entry("a.wav") | {"events": [log_entry("b.wav"), 7, log_entry("c.wav")]}
    decoded = decode_log_entry(bundle)
    assert [upload.source.key for upload in decoded.uploads] == ["a.wav", "b.wav", "c.wav"]
    assert decoded.malformed == ("The entry, event 2: it is a value of type int, not an object.",)
    decoded = decode_log_entry(bundle | {"eventNotification": None})
    assert [upload.source.key for upload in decoded.uploads] == ["b.wav", "c.wav"]


@pytest.mark.parametrize("entry", [{}, {"eventNotification": 7}, log_entry(name=7), log_entry(attributes=[1])])
def test_a_log_entry_that_is_none_is_malformed(entry: Any) -> None:
    assert complaint(decode_log_entry(entry)).startswith("The entry: ")


def test_a_log_entry_without_a_time_has_no_sequencer() -> None:
    upload = only(decode_log_entry(log_entry() | {"tsNs": "soon"}))
    assert (upload.sequencer, upload.happened_at) == (None, None)


def test_a_list_of_events() -> None:
    decoded = decode_event(
        [eventbridge_event("a"), {"x": 1}, json.loads(as_body(aws_record("b"), 7)), "c", r2_message()]
    )
    assert [upload.source.key for upload in decoded.uploads] == ["a", "b", "calls/a.wav"]
    assert decoded.malformed == (
        "Event 2: no object store that Warmline knows sends such an event.",
        "Event 3, record 2: it is a value of type int, not an object.",
        "Event 4: the event is 'c', not an object.",
    )


def test_one_record_without_its_envelope() -> None:
    assert only(decode_event(aws_record())).dialect == "aws"


def test_a_body_without_records_announces_nothing() -> None:
    assert decode('{"Records": []}') == decode("[]") == Decoded()


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ...},
        {"key": ""},
        {"key": 7},
        {"key": None},
        {"key": ["a"]},
        {"key": "a" * 1025},
        {"key": "%C3%A9" * 513},
        {"key": "a%00b"},
        {"key": ".."},
        {"key": "../../etc/passwd"},
        {"key": "a/../b"},
        {"key": "a%2F..%2Fb"},
        {"key": "a/.."},
        {"key": "\ud800"},
        {"key": "a\udfffb"},
        {"key": "%"},
        {"key": "100%"},
        {"key": "%zz"},
        {"key": "%4"},
        {"key": "%ff"},
        {"key": "%C3"},
        {"key": "%ED%A0%80"},
        {"size": "1024"},
        {"size": -1},
        {"size": 1.5},
        {"size": float("nan")},
        {"size": float("inf")},
        {"size": True},
        {"size": 2**63},
        {"size": []},
        {"eTag": 7},
        {"eTag": []},
        {"eTag": "a" * 257},
        {"eTag": "é"},
        {"eTag": "a\nb"},
        {"versionId": 7},
        {"versionId": []},
        {"versionId": "\ud800"},
        {"versionId": "é"},
        {"versionId": "a\r\nb"},
        {"versionId": "a" * 1025},
    ],
)
def test_a_bad_object_is_rejected_alone(changes: Any) -> None:
    decoded = decode(as_body(aws_record("before"), aws_object(**changes), aws_record("after")))
    assert [upload.source.key for upload in decoded.uploads] == ["before", "after"]
    (sentence,) = decoded.malformed
    assert sentence.startswith("Record 2: ")
    assert sentence.endswith(".")
    assert len(sentence) < 220


@pytest.mark.parametrize(
    "record",
    [
        None,
        7,
        "x",
        [],
        {},
        aws_record(eventSource=...),
        aws_record(eventSource=7),
        aws_record(eventName=...),
        aws_record(eventName=7),
        aws_record(eventName="Object\x1bCreated"),
        aws_record(eventName="ObjectCreated:" + "x" * 100),
        aws_record(s3=...),
        aws_record(s3=[]),
        aws_record(s3={"bucket": ...}),
        aws_record(s3={"bucket": "calls"}),
        aws_record(s3={"object": None}),
        *(
            aws_record(s3={"bucket": {"name": name}})
            for name in (..., None, 7, "", "ab", "Calls", "a/b", "..", "calls\n", "a" * 64)
        ),
    ],
)
def test_a_bad_record_is_rejected_alone(record: Any) -> None:
    decoded = decode(as_body(aws_record("before"), record, aws_record("after")))
    assert [upload.source.key for upload in decoded.uploads] == ["before", "after"]
    assert len(decoded.malformed) == 1


def test_sentences_repeat_little_of_what_they_blame() -> None:
    sentence = complaint(decode(as_body(aws_object(key="../" + "\x1b[2J" * 200))))
    assert "\x1b" not in sentence
    assert len(sentence) < 160


@pytest.mark.parametrize("key", ["folder/", "a%2F", "/"])
def test_markers_of_folders_are_skipped(key: str) -> None:
    assert decode(as_body(aws_object(key=key))) == Decoded(skipped={"folder": 1})


@pytest.mark.parametrize("key", ["..a", "a..", "...", "a/..b/c..", "a/./b", ".wav"])
def test_dots_that_lead_nowhere_are_legal(key: str) -> None:
    assert only(decode(as_body(aws_object(key=key)))).source.key == key


@pytest.mark.parametrize(
    ("said", "etag"),
    [
        (f'"{ETAG}"', ETAG),
        (f'W/"{ETAG}"', ETAG),
        (f"{ETAG}-12", f"{ETAG}-12"),
        ("", None),
        ('""', None),
        (None, None),
        (..., None),
    ],
)
def test_etags(said: Any, etag: str | None) -> None:
    assert only(decode(as_body(aws_object(eTag=said)))).etag == etag


@pytest.mark.parametrize("said", ["null", "", None, ...])
def test_no_version(said: Any) -> None:
    assert only(decode(as_body(aws_object(versionId=said)))).source.version_id is None


@pytest.mark.parametrize("said", ["617f08299329d189", "00617f08299329d189"])
def test_the_sequencers_of_one_upload_are_one_over_both_roads_of_amazon(said: str) -> None:
    event = eventbridge_event(detail={"object": {"sequencer": said}})
    uploads = decode_event([aws_object(sequencer="00617F08299329D189"), event]).uploads
    assert {str(upload.sequencer).upper() for upload in uploads} == {"617F08299329D189"}


@pytest.mark.parametrize("said", ["xyz", "", "00", 7, None, ..., [], "1" * 65, "-1", " 1"])
def test_a_sequencer_that_does_not_compare_is_none(said: Any) -> None:
    assert only(decode(as_body(aws_object(sequencer=said)))).sequencer is None


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-11-23T03:02:46Z", NOON),
        ("2026-11-23T03:02:46.000000000Z", NOON),
        ("2026-11-23T04:02:46+01:00", NOON),
        ("2026-11-23T03:02:46", NOON),
        (1795402966, NOON),
        ("soon", None),
        ("0001-01-01T00:00:00+14:00", None),
        (1e300, None),
        (float("nan"), None),
        (10**400, None),
        (True, None),
        (..., None),
    ],
)
def test_times(said: Any, moment: datetime | None) -> None:
    assert only(decode(as_body(aws_record(eventTime=said)))).happened_at == moment


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is not JSON."),
        (b"{", "The body is not JSON."),
        (b"<xml/>", "The body is not JSON."),
        (b"\xff\xfe", "The body is not UTF-8."),
        (b"1" * 5000, "The body is not JSON."),
        (b"[" * 100_000, "The body is nested too deeply."),
        (b'{"Records":' * 100_000, "The body is nested too deeply."),
        (b"null", "The event is nothing, not an object."),
        (b"7", "The event is a value of type int, not an object."),
        (b'"x"', "The event is 'x', not an object."),
        (b"{}", "No object store that Warmline knows sends such an event."),
        (b'{"Records": {}}', "Records is a value of type dict, not a list."),
        (
            b'{"Type": "Notification", "Message": "[' + b"[" * 100_000 + b'"}',
            "The message of SNS is nested too deeply.",
        ),
    ],
)
def test_what_is_no_event(body: bytes, sentence: str) -> None:
    with pytest.raises(NotAnEvent) as refused:
        decode(body)
    assert refused.value.message == sentence


def test_bytes_and_text_are_the_same_also_after_a_byte_order_mark() -> None:
    body = minio_body("é.wav")
    assert decode(body) == decode(body.encode()) == decode(b"\xef\xbb\xbf" + body.encode())


def test_of_two_members_of_one_name_the_last_counts() -> None:
    body = as_body(aws_record("a.wav"))
    doubled = body.replace('"key": "a.wav"', '"key": "first.wav", "key": "a.wav"')
    assert doubled != body
    assert decode(doubled) == decode(body)


def test_a_body_of_too_many_records() -> None:
    skipped = {"eventSource": "aws:s3", "eventName": "TestEvent"}
    full = [skipped] * MAX_RECORDS
    assert decode(as_body(*full)) == Decoded(skipped={"test_event": MAX_RECORDS})
    for body in (as_body(*full, 7), json.dumps([json.loads(as_body(*full)), skipped])):
        with pytest.raises(NotAnEvent, match="10,000"):
            decode(body)
