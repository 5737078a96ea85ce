"""Events as the stores send them: each as it was caught or documented, with what a test changes."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

BUCKET = "calls"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
SIZE = 1024

Body = dict[str, Any]


def merged(base: Body, changes: Body) -> Body:
    """`base` with what `changes` holds, at any depth; `...` takes a member out."""
    result = dict(base)
    for name, value in changes.items():
        if value is ...:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def as_body(*records: Any) -> str:
    """Records in the envelope that all but EventBridge, R2 and SeaweedFS use."""
    return json.dumps({"Records": records})


def aws_key(key: str) -> str:
    """As Amazon encodes it: like a form's field, but for the slash."""
    return quote_plus(key, safe="/")


def minio_key(key: str) -> str:
    """As Go's url.QueryEscape."""
    return quote_plus(key, safe="")


def aws_record(key: str = "calls/a.wav", **changes: Any) -> Body:
    """The record of the S3 user guide; `key` is encoded here."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "2026-11-23T03:02:46.269Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQ"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {"name": BUCKET, "ownerIdentity": {"principalId": "A3NL1"}, "arn": f"arn:aws:s3:::{BUCKET}"},
            "object": {
                "key": aws_key(key),
                "size": SIZE,
                "eTag": ETAG,
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }
    return merged(record, changes)


def aws_object(**changes: Any) -> Body:
    """An Amazon record whose object differs."""
    return aws_record(s3={"object": changes})


def minio_record(key: str = "calls/a.wav", **changes: Any) -> Body:
    """What MinIO's webhook sends, as its issues 7665 and 15200 show it."""
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-23T03:02:46.269Z",
        "eventName": "s3:ObjectCreated:Put",
        "userIdentity": {"principalId": "minio"},
        "requestParameters": {"principalId": "minio", "region": "", "sourceIPAddress": "172.18.0.1"},
        "responseElements": {
            "x-amz-request-id": "159FB6B233B08AF0",
            "x-minio-origin-endpoint": "http://172.18.0.6:9000",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": BUCKET, "ownerIdentity": {"principalId": "minio"}, "arn": f"arn:aws:s3:::{BUCKET}"},
            "object": {
                "key": minio_key(key),
                "size": SIZE,
                "eTag": ETAG,
                "contentType": "audio/wav",
                "userMetadata": {"X-Amz-Meta-Agent-Name": "B. C", "content-type": "audio/wav"},
                "sequencer": "18EA8D7C41320014",
            },
        },
        "source": {"host": "172.18.0.1", "port": "", "userAgent": "MinIO (linux; amd64) minio-go/v7.0.0 mc/2022"},
    }
    return merged(record, changes)


def minio_body(key: str = "calls/a.wav", **changes: Any) -> str:
    """The whole body: beside its record, MinIO names bucket and key as they are."""
    record = minio_record(key, **changes)
    return json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": f"{BUCKET}/{key}", "Records": [record]})


def ceph_record(key: str = "calls/a.wav", **changes: Any) -> Body:
    """What Ceph's documentation shows and its source writes; the key is as it is."""
    record = {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2019-11-22T13:47:35.124724Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "tester"},
        "requestParameters": {"sourceIPAddress": ""},
        "responseElements": {
            "x-amz-request-id": "503a4c37.5330.903595",
            "x-amz-id-2": "14d2-zone1-zonegroup1",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "mynotif1",
            "bucket": {
                "name": BUCKET,
                "ownerIdentity": {"principalId": "tester"},
                "arn": f"arn:aws:s3:us-east-1::{BUCKET}",
                "id": "503a4c37-85eb-47cd-8681-2817e80b4281.5332.38",
            },
            "object": {
                "key": key,
                "size": SIZE,
                "eTag": ETAG,
                "versionId": "",
                "sequencer": "F7E6D75DC742D108",
                "metadata": [{"key": "x-amz-meta-callid", "val": "7"}],
                "tags": [{"key": "team", "val": "red"}],
            },
        },
        "eventId": "1575221657.102001.80dad3aad8584778352c68ea06250327",
        "opaqueData": "me@example.com",
    }
    return merged(record, changes)


def eventbridge_event(key: str = "calls/a.wav", **changes: Any) -> Body:
    """The event of the S3 user guide; the key is as it is."""
    event = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-23T03:02:46Z",
        "region": "ca-central-1",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {
                "key": key,
                "size": SIZE,
                "etag": ETAG,
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }
    return merged(event, changes)


def r2_message(key: str = "calls/a.wav", **changes: Any) -> Body:
    """The message of Cloudflare's documentation; the key is as it is."""
    message = {
        "account": "3f4b7e3dcab231cbfdaa90a6a28bd548",
        "action": "CopyObject",
        "bucket": BUCKET,
        "object": {"key": key, "size": SIZE, "eTag": ETAG},
        "eventTime": "2026-11-23T03:02:46.269Z",
        "copySource": {"bucket": BUCKET, "object": "my-original-object"},
    }
    return merged(message, changes)


def b64(text: str) -> str:
    """As SeaweedFS keeps what stands beside a file."""
    return base64.b64encode(text.encode()).decode()


def seaweedfs_webhook(key: str = "calls/a.wav", **changes: Any) -> Body:
    """What SeaweedFS 4.48 sent for a PUT."""
    folder, name = f"/buckets/{BUCKET}/{key}".rsplit("/", 1)
    body = {
        "event_type": "create",
        "key": f"{folder}/{name}",
        "message": {
            "new_entry": {
                "name": name,
                "chunks": [
                    {
                        "size": SIZE,
                        "modified_ts_ns": 1795402966677254709,
                        "e_tag": base64.b64encode(bytes.fromhex(ETAG)).decode(),
                        "fid": {"volume_id": 1, "file_key": 2, "cookie": 4161931409},
                        "is_compressed": True,
                    }
                ],
                "attributes": {
                    "file_size": SIZE,
                    "mtime": 1795402966,
                    "file_mode": 432,
                    "crtime": 1795402966,
                    "mime": "audio/wav",
                    "md5": base64.b64encode(bytes.fromhex(ETAG)).decode(),
                    "inode": 6898828346296514713,
                    "ctime": 1795402966,
                    "atime": 1795402966,
                },
                "extended": {
                    "Seaweed-X-Amz-ETag": b64(ETAG),
                    "Seaweed-X-Amz-Owner": b64("warmline"),
                    "X-Amz-Meta-Agent-Name": b64("B. C"),
                    "X-Amz-Tagging-team": b64("red"),
                    "x-seaweedfs-checksum-value": b64("O0HJ5g=="),
                },
            },
            "delete_chunks": True,
            "new_parent_path": folder,
            "signatures": [109059561],
        },
    }
    return merged(body, changes)


def log_entry(key: str = "calls/a.wav", **changes: Any) -> Body:
    """What `weed filer.meta.tail` of SeaweedFS 4.48 printed for a PUT; `changes` are in the new entry."""
    folder, name = f"/buckets/{BUCKET}/{key}".rsplit("/", 1)
    entry = {
        "name": name,
        "isDirectory": False,
        "chunks": [{"fileId": "", "offset": "0", "size": str(SIZE), "modifiedTsNs": "1795402966677254709"}],
        "attributes": {
            "fileSize": str(SIZE),
            "mtime": "1795402966",
            "mime": "audio/wav",
            "md5": base64.b64encode(bytes.fromhex(ETAG)).decode(),
            "inode": "6898828346296514713",
            "ctime": "-62135596800",
            "mtimeNs": 0,
        },
        "extended": {
            "Seaweed-X-Amz-ETag": b64(ETAG),
            "Seaweed-X-Amz-Owner": b64("warmline"),
            "X-Amz-Meta-Callid": b64("7"),
        },
        "hardLinkId": "",
        "content": "",
        "remoteEntry": None,
        "quota": "0",
    }
    return {
        "directory": folder,
        "eventNotification": {
            "oldEntry": None,
            "newEntry": merged(entry, changes),
            "deleteChunks": True,
            "newParentPath": folder,
            "isFromOtherCluster": False,
            "signatures": [109059561],
        },
        "tsNs": "1795402966677563303",
        "events": [],
        "logFileRefs": [],
        "flushedTsNs": "0",
    }


def sns(message: str, **changes: Any) -> Body:
    """SNS's envelope; with raw delivery there is none."""
    envelope = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:uploads",
        "Subject": "Amazon S3 Notification",
        "Message": message,
        "Timestamp": "2026-11-23T03:02:46.400Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN==",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59.pem",
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
    }
    return merged(envelope, changes)


TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-11-23T03:02:46.555Z",
    "Bucket": BUCKET,
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}


def every_body(key: str) -> dict[str, str]:
    """One body of every dialect and envelope, by name; all of them announce the same object."""
    records = as_body(aws_record(key))
    return {
        "aws": records,
        "aws, slash and space as %XX": as_body(aws_record(s3={"object": {"key": quote(key, safe="")}})),
        "sns": json.dumps(sns(records)),
        "minio": minio_body(key),
        "rustfs": as_body(minio_record(key, eventSource="rustfs:s3")),
        "ceph": as_body(ceph_record(key)),
        "eventbridge": json.dumps(eventbridge_event(key)),
        "eventbridge over sns": json.dumps(sns(json.dumps(eventbridge_event(key)))),
        "r2": json.dumps(r2_message(key)),
        "seaweedfs": json.dumps(seaweedfs_webhook(key)),
        "seaweedfs log": json.dumps(log_entry(key)),
        "list": json.dumps([eventbridge_event(key)]),
        "cloudevents": json.dumps({"specversion": "1.0", "type": "x", "source": "y", "data": aws_record(key)}),
    }
