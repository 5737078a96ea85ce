"""What object stores say of an upload, in every dialect we know, as one record. Pure: reads only the text.

An event may come in envelopes: SNS's, CloudEvents', a list. They are opened here; who reads the record inside is
told by the fields that only its dialect has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from warmline.objects.event_records import (
    BadRecord,
    Decoded,
    Findings,
    NotAnEvent,
    Skipped,
    Upload,
    shown,
)
from warmline.objects.filer_events import decode_log_entry, read_webhook, take_log_entry
from warmline.objects.s3_events import read_eventbridge, read_r2, read_s3_record

__all__ = ["Decoded", "NotAnEvent", "Upload", "decode", "decode_log_entry"]

_MAX_LEVELS = 4  # envelopes in envelopes: EventBridge over SNS in a list is three

_SUBSCRIPTIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


def decode(body: bytes | str) -> Decoded:
    """The uploads that a body announces. Raises NotAnEvent where the body as a whole is no known dialect."""
    findings = Findings()
    try:
        _open(_parse(body, "The body"), findings, "", _MAX_LEVELS)
    except BadRecord as bad:
        sentence = str(bad)
        raise NotAnEvent(f"{sentence[0].upper()}{sentence[1:]}.") from None
    return findings.decoded()


def _parse(text: bytes | str, what: str) -> object:
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except UnicodeDecodeError:
        raise BadRecord(f"{what} is not UTF-8") from None
    except RecursionError:
        raise BadRecord(f"{what} is nested too deeply") from None
    except ValueError:
        raise BadRecord(f"{what} is not JSON") from None


def _open(value: object, findings: Findings, where: str, levels: int) -> None:
    """Takes what is in a value into `findings`. Raises BadRecord where that is no event at all, NotAnEvent."""
    if levels == 0:
        raise BadRecord(f"there are more than {_MAX_LEVELS} envelopes around the event")
    if isinstance(value, list):
        _open_list(value, findings, where, levels)
        return
    if not isinstance(value, Mapping):
        raise BadRecord(f"the event is {shown(value)}, not an object")
    if "Records" in value:
        _take_records(value["Records"], findings, where)
    elif value.get("Type") == "Notification" and "Message" in value:
        message = value["Message"]
        if not isinstance(message, str):
            raise BadRecord(f"the message of SNS is {shown(message)}, not text")
        _open(_parse(message, "the message of SNS"), findings, where, levels - 1)
    elif "specversion" in value and "data" in value:  # CloudEvents, all in one piece
        _open(value["data"], findings, where, levels - 1)
    elif "eventNotification" in value:
        take_log_entry(value, findings, where or "The entry")
    else:
        findings.take(where or "The event", _reader(value))


def _open_list(values: list[Any], findings: Findings, where: str, levels: int) -> None:
    for number, value in enumerate(values, 1):
        place = f"{where}, event {number}" if where else f"Event {number}"
        try:
            _open(value, findings, place, levels - 1)
        except BadRecord as bad:
            findings.take(place, _raiser(bad))


def _take_records(records: object, findings: Findings, where: str) -> None:
    if not isinstance(records, list):
        raise BadRecord(f"Records is {shown(records)}, not a list")
    for number, record in enumerate(records, 1):
        place = f"{where}, record {number}" if where else f"Record {number}"
        if isinstance(record, Mapping):
            findings.take(place, partial(read_s3_record, record))
        else:
            findings.take(place, _raiser(BadRecord(f"it is {shown(record)}, not an object")))


def _reader(event: Mapping[str, Any]) -> Callable[[], Upload]:
    """Who reads an event that comes without an envelope. Raises BadRecord."""
    if event.get("Event") == "s3:TestEvent":
        return _raiser(Skipped("test_event"))
    if event.get("Type") in _SUBSCRIPTIONS:
        return _raiser(Skipped("subscription"))
    if "detail-type" in event:
        return partial(read_eventbridge, event)
    if "event_type" in event and "message" in event:
        return partial(read_webhook, event)
    if "action" in event and "bucket" in event and "object" in event:
        return partial(read_r2, event)
    if "eventSource" in event and "s3" in event:
        return partial(read_s3_record, event)
    raise BadRecord("no object store that Warmline knows sends such an event")


def _raiser(error: Exception) -> Callable[[], Upload]:
    def read() -> Upload:
        raise error

    return read
