"""The error tree. Its root decides what happens to a job: the retry policy is one `isinstance`.

WarmlineError
├── TransientError            tried again, with back-off
│   ├── StoreUnavailable      the object store did not answer, throttled, or cut the connection
│   ├── LedgerUnavailable     Redis did not answer
│   │   └── LedgerTooNew      a newer Warmline wrote what is there
│   ├── QueueUnavailable      the queue of events (SQS) did not answer, or throttled
│   ├── BacklogFull           as many jobs wait as may
│   ├── IdempotencyKeyInUse   the same request is being done
│   ├── NetworkFault          a connection to something else broke off
│   ├── ReconciliationRunning there is one at a time
│   ├── HubUnavailable        the model hub did not answer
│   ├── ScratchUnusable       the worker's disk is full or failing
│   ├── OutOfMemory           the device had no memory for this window
│   ├── EngineLost            the process that holds the model for several children died
│   └── WorkerLost            the process that ran the job died
└── PermanentError            fails at once, with a sentence that says what to do
    ├── ObjectNotFound, ObjectForbidden, ObjectChanged, ObjectTooLarge
    ├── BucketNotAllowed, StoreMisconfigured, QueueMisconfigured
    ├── NotAudio, EmptyAudio, BrokenAudio, AudioTooLong, TooManyChannels
    ├── InvalidRequest, IdempotencyKeyReused
    ├── TimedOut              the job took longer than its time limit
    ├── ReconciliationNotFound, DeliveryNotFound, EndpointNotFound
    ├── JobNotFound, BatchNotFound, BatchTooLarge, ReportNotReady, NotReplayable
    ├── ModelUnusable, DeviceUnavailable
    └── InternalError         a bug of ours: the log has the traceback, the user has this sentence

What only one room can raise stands there: NotAnEvent (objects), SnsTopicNotAllowed and its like (triggers),
StackError (local), PngUnavailable (pictures), what is wrong with a request (api/problems.py, and in its router).
"""

from __future__ import annotations

from typing import ClassVar


class WarmlineError(Exception):
    """Something Warmline can name. `code` is stable; the message is one sentence for a person."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or self.title).strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The sentence."""
        return str(self.args[0])


class TransientError(WarmlineError):
    """A fault that may pass; the job is tried again."""

    code = "transient"


class PermanentError(WarmlineError):
    """A fault that trying again cannot mend."""

    code = "permanent"


class StoreUnavailable(TransientError):
    """The object store does not answer; check WARMLINE_S3_ENDPOINT_URL and the network."""

    code = "store_unavailable"
    title = "The object store does not answer"


class LedgerUnavailable(TransientError):
    """Redis does not answer; check WARMLINE_REDIS_URL and the network."""

    code = "ledger_unavailable"
    title = "Redis does not answer"


class LedgerTooNew(LedgerUnavailable):
    """This Redis is written by a newer Warmline; upgrade Warmline on this machine first.

    It is a LedgerUnavailable: who meets it while running waits, as for a Redis that is away, and takes no jobs.
    """

    code = "ledger_too_new"
    title = "The ledger is a newer Warmline's"


class QueueUnavailable(TransientError):
    """SQS does not answer; check WARMLINE_SQS_ENDPOINT_URL and the network."""

    code = "queue_unavailable"
    title = "The queue of events does not answer"


class BacklogFull(TransientError):
    """As many jobs wait as WARMLINE_JOBS_MAX_BACKLOG allows; submit again later."""

    code = "backlog_full"
    title = "Too many jobs wait"


class IdempotencyKeyInUse(TransientError):
    """The request that came first with this Idempotency-Key is still being done; send this one again soon."""

    code = "idempotency_key_in_use"
    title = "The first request is not done yet"


class ReconciliationRunning(TransientError):
    """A reconciliation runs already, and there is one at a time; try again when it has finished."""

    code = "reconciliation_running"
    title = "A reconciliation runs"


class HubUnavailable(TransientError):
    """The model hub does not answer; check the network, or set WARMLINE_MODEL to a model directory."""

    code = "hub_unavailable"
    title = "The model hub does not answer"


class NetworkFault(TransientError):
    """A connection broke off or timed out; check the network between this machine and the others."""

    code = "network_fault"
    title = "The network failed"


class ScratchUnusable(TransientError):
    """The worker's disk is full or failing; make room in WARMLINE_WORKER_SCRATCH_DIR."""

    code = "scratch_unusable"
    title = "The worker's disk cannot be used"


class OutOfMemory(TransientError):
    """The device ran out of memory; use fewer children or a shorter window."""

    code = "out_of_memory"
    title = "Out of memory"


class EngineLost(TransientError):
    """The process that holds the model died while it scored this call, more often than is allowed."""

    code = "engine_lost"
    title = "The engine's process died"


class WorkerLost(TransientError):
    """The worker process died while it ran this job, more often than is allowed."""

    code = "worker_lost"
    title = "The worker process died"


class ObjectNotFound(PermanentError):
    """There is no such object; check bucket, key and version."""

    code = "object_not_found"
    title = "No such object"


class ObjectForbidden(PermanentError):
    """The object store refuses access; check the S3 credentials and the bucket's policy."""

    code = "object_forbidden"
    title = "Access refused"


class ObjectChanged(PermanentError):
    """The object was replaced while the job ran; submit it again to score the new one."""

    code = "object_changed"
    title = "The object changed"


class ObjectTooLarge(PermanentError):
    """The object is larger than WARMLINE_S3_MAX_OBJECT_BYTES."""

    code = "object_too_large"
    title = "The object is too large"


class BucketNotAllowed(PermanentError):
    """The bucket is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS."""

    code = "bucket_not_allowed"
    title = "Bucket not allowed"


class StoreMisconfigured(PermanentError):
    """The object store cannot be used as it is configured; check the WARMLINE_S3_ settings."""

    code = "store_misconfigured"
    title = "The object store's settings are wrong"


class QueueMisconfigured(PermanentError):
    """The queue of events cannot be used as it is configured; check the WARMLINE_SQS_ settings."""

    code = "queue_misconfigured"
    title = "The queue's settings are wrong"


class NotAudio(PermanentError):
    """The content is not audio that Warmline can read; check that the file plays elsewhere."""

    code = "not_audio"
    title = "Not audio"


class EmptyAudio(PermanentError):
    """The file holds no audio samples; check the recorder that wrote it."""

    code = "empty_audio"
    title = "No audio samples"


class BrokenAudio(PermanentError):
    """The audio holds samples that are not numbers; export the recording again."""

    code = "broken_audio"
    title = "Broken audio"


class AudioTooLong(PermanentError):
    """The call is longer than WARMLINE_AUDIO_MAX_SECONDS; split it or raise the limit."""

    code = "audio_too_long"
    title = "The call is too long"


class TooManyChannels(PermanentError):
    """The call has more channels than WARMLINE_AUDIO_MAX_CHANNELS; split it or raise the limit."""

    code = "too_many_channels"
    title = "Too many channels"


class InvalidRequest(PermanentError):
    """The request is not valid."""

    code = "invalid_request"
    title = "Invalid request"


class IdempotencyKeyReused(PermanentError):
    """This Idempotency-Key came with another request before; a new request needs a new key."""

    code = "idempotency_key_reused"
    title = "Idempotency-Key reused"


class JobNotFound(PermanentError):
    """There is no job with this id; finished jobs are kept for WARMLINE_JOBS_RETENTION_SECONDS."""

    code = "job_not_found"
    title = "No such job"


class BatchNotFound(PermanentError):
    """There is no batch with this id; finished batches are kept for WARMLINE_JOBS_RETENTION_SECONDS."""

    code = "batch_not_found"
    title = "No such batch"


class ReconciliationNotFound(PermanentError):
    """There is no reconciliation with this id; they are remembered for a day."""

    code = "reconciliation_not_found"
    title = "No such reconciliation"


class DeliveryNotFound(PermanentError):
    """There is no delivery with this id; their log is kept for WARMLINE_WEBHOOKS_RETENTION_SECONDS."""

    code = "delivery_not_found"
    title = "No such delivery"


class EndpointNotFound(PermanentError):
    """There is no such endpoint; GET /v1/webhooks lists the addresses of WARMLINE_WEBHOOKS_URLS with their ids."""

    code = "endpoint_not_found"
    title = "No such endpoint"


class BatchTooLarge(PermanentError):
    """The batch has more jobs than WARMLINE_JOBS_MAX_BATCH; split it."""

    code = "batch_too_large"
    title = "The batch is too large"


class NotReplayable(PermanentError):
    """Only a job that failed or is dead can be replayed."""

    code = "not_replayable"
    title = "Not to be replayed"


class TimedOut(PermanentError):
    """The job took longer than its time limit (WARMLINE_JOBS_TIME_LIMIT_FACTOR); is the recording intact?"""

    code = "timed_out"
    title = "The job took too long"


class ReportNotReady(PermanentError):
    """The job has no report yet; ask again when its status is succeeded."""

    code = "report_not_ready"
    title = "No report yet"


class ModelUnusable(PermanentError):
    """The model directory cannot be used."""

    code = "model_unusable"
    title = "Unusable model"


class DeviceUnavailable(PermanentError):
    """The device that was asked for is not there."""

    code = "device_unavailable"
    title = "No such device"


class InternalError(PermanentError):
    """Warmline failed in a way it did not foresee; the worker's log has the details under this job's id."""

    code = "internal_error"
    title = "Internal error"
