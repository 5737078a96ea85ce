"""What becomes of the messages that were taken together: each is done with, refused, or to come again later.

Their uploads go to the intake together, because that is quick. Where something is wrong with them they go
message by message, so that none holds up its neighbours: what was entered before is known then, and not entered
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from warmline.jobs.errors import (
    BacklogFull,
    LedgerUnavailable,
    ObjectForbidden,
    PermanentError,
    StoreMisconfigured,
    TransientError,
)
from warmline.jobs.faults import classify
from warmline.jobs.records import Failure
from warmline.objects.events import Decoded, Upload, decode
from warmline.objects.sqs import Message
from warmline.triggers.intake import Intake, Outcome

log = structlog.get_logger()

MAX_REASON = 200  # characters of what is wrong with a message
MAX_STUCK = 3  # so many messages that nothing came of, and no other: it is the store, not the messages

# Whatever the message: nothing can be entered now.
NOTHING_ENTERED = (LedgerUnavailable, BacklogFull)

# Not the message's fault either: somebody may mend our credentials before SQS gives it up.
_OUR_ACCESS = {ObjectForbidden.code, StoreMisconfigured.code}


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of the messages of a lot. Every one of them is in one of the three."""

    done: tuple[Message, ...]  # every upload in them has its job, or is to have none
    refused: Mapping[Message, str]  # no attempt can mend what is wrong with it -> what that is
    later: Mapping[Message, str]  # the store is away, or refuses us -> the error's code
    uploads: Mapping[str, int]  # what became of the uploads in them -> how many
    skipped: Mapping[str, int]  # why a record is no upload -> how many


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A message and what it says."""

    message: Message
    decoded: Decoded
    fault: str | None = None

    @property
    def uploads(self) -> Sequence[Upload]:
        return self.decoded.uploads


def settle(messages: Sequence[Message], intake: Intake, hurry: Callable[[], bool]) -> Settled:
    """Enters jobs for what the messages announce. While `hurry()`, no message is tried on its own.

    Raises LedgerUnavailable and BacklogFull: then nothing is settled, and all are to be brought again.
    """
    read = [_read(message) for message in messages]
    bringing = [one for one in read if one.uploads]
    refused = {one.message: one.fault for one in read if one.fault}
    later: dict[Message, str] = {}
    outcome = Outcome()
    try:
        if bringing:
            outcome = intake.accept([upload for one in bringing for upload in one.uploads])
    except NOTHING_ENTERED:
        raise
    except Exception as error:  # it may be one message's alone
        if not isinstance(error, TransientError | PermanentError):
            log.exception("sqs_messages_failed")
        counts = _one_by_one(bringing, intake, hurry, refused, later)
    else:
        counts = Counter(outcome.counts)
        if outcome.failures and len(bringing) == 1:
            _blame(bringing[0].message, outcome.failures, refused, later)
        elif outcome.failures:
            _one_by_one(bringing, intake, hurry, refused, later)  # whose are they?
    return Settled(
        done=tuple(message for message in messages if message not in refused and message not in later),
        refused=refused,
        later={message: code for message, code in later.items() if message not in refused},
        uploads=counts,
        skipped=sum((Counter(one.decoded.skipped) for one in read), Counter()),
    )


def _read(message: Message) -> _Read:
    try:
        decoded = decode(message.body)
    except PermanentError as error:
        return _Read(message=message, decoded=Decoded(), fault=_reason(error.message))
    except Exception as error:  # a bug of ours: the message waits in the dead letter queue until it is mended
        log.exception("sqs_message_not_decoded", message_id=message.id)
        return _Read(message=message, decoded=Decoded(), fault=_reason(classify(error).message))
    return _Read(message=message, decoded=decoded, fault=_reason(*decoded.malformed))


def _one_by_one(
    bringing: Sequence[_Read],
    intake: Intake,
    hurry: Callable[[], bool],
    refused: dict[Message, str],
    later: dict[Message, str],
) -> Counter[str]:
    """Writes into `refused` and `later` what does not get through; counts the uploads of the rest."""
    counts: Counter[str] = Counter()
    passed, stuck = False, ""
    for one in bringing:
        if hurry() or (stuck and not passed and len(later) >= MAX_STUCK):
            later[one.message] = stuck
            continue
        try:
            outcome = intake.accept(one.uploads)
        except NOTHING_ENTERED:
            raise
        except TransientError as error:
            later[one.message] = stuck = error.code
        except Exception as error:
            cause = classify(error)
            if cause is not error:
                log.exception("sqs_message_failed", message_id=one.message.id)
            _blame(one.message, [Failure(code=cause.code, message=cause.message)], refused, later)
        else:
            passed = True
            counts.update(outcome.counts)
            _blame(one.message, outcome.failures, refused, later)
    return counts


def _blame(
    message: Message, failures: Sequence[Failure], refused: dict[Message, str], later: dict[Message, str]
) -> None:
    final = [failure for failure in failures if failure.code not in _OUR_ACCESS]
    reason = _reason(*(f"{failure.code}: {failure.message}" for failure in final))
    if reason:
        refused[message] = reason
    elif failures:
        later[message] = failures[0].code


def _reason(*sentences: str) -> str | None:
    """What is wrong, in a line that is not long; None where nothing is."""
    return repr(" ".join(sentences)[:MAX_REASON])[1:-1] or None
