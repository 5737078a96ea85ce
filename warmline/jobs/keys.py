"""Every Redis key that Warmline writes, a line each.

Redis Cluster is not supported: a script changes keys of several slots, and Celery's transport knows no cluster.
"""

from __future__ import annotations

PREFIX = "warmline:"

VERSION = f"{PREFIX}version"  # a string: the ledger's layout, JSON (`layout.LedgerLayout`)

BROKER = f"{PREFIX}broker:"  # put before every key of Celery's transport: queues, unacknowledged messages
QUEUE = f"{BROKER}warmline."  # + lane: a list, Celery's queue of the lane (`queue.QUEUES`)

JOB = f"{PREFIX}job:"  # + job id: a hash, the fields of `rows.JOB_FIELDS`
REPORT = f"{PREFIX}report:"  # + job id: a string, the report's JSON
JOBS = f"{PREFIX}jobs:"  # + status: a sorted set of job ids by creation time, for listings
ENDED = f"{PREFIX}ended:"  # + status: a list of the ids of the jobs that ended so last, the last first; cut short

BATCH = f"{PREFIX}batch:"  # + batch id: a hash, what its jobs have in common, times, a counter for each status
CALLS = f"{PREFIX}batch-calls:"  # + batch id: a list, a call for each job in the order of submission
BATCHES = f"{PREFIX}batches"  # a sorted set of batch ids by creation time

REQUEST = f"{PREFIX}request:"  # + digest of an Idempotency-Key: a string, what was asked and made; expires

WAITING = f"{PREFIX}waiting"  # a hash: lane -> how many jobs wait to be sent
TURN = f"{PREFIX}turn:"  # + lane: a list of the lines that wait in it, each a batch id or SINGLES_LINE, next first
SINGLES = f"{PREFIX}singles:"  # + lane: a list of the ids of waiting jobs that are sent one by one
SINGLES_LINE = "-"

SENT = f"{PREFIX}sent"  # a sorted set of job ids by the time when they were sent; gone when claimed
DELAYED = f"{PREFIX}delayed"  # a sorted set of job ids by the time when they are tried again
HELD = f"{PREFIX}held"  # a sorted set of lane:job id by the time when the job gets into its lane's line
PACE = f"{PREFIX}pace:"  # + rule name: a string, when its next job is due in ms; gone when that has passed
LATEST = f"{PREFIX}latest:"  # + digest of bucket and key: a string, the highest sequencer that was seen
LEASES = f"{PREFIX}leases"  # a sorted set of job ids by the time when their worker's lease ends
HOLDERS = f"{PREFIX}holders"  # a hash: worker's child -> the job that it has the lease of

COUNTS = f"{PREFIX}counts"  # a hash: job:STATUS or attempt:OUTCOME -> how often that was the end; only ever grows

LOW = f"{PREFIX}low"  # a hash: lane -> how short its Celery queue is when the feeder fills it up
BELL = f"{PREFIX}bell"  # a channel: something is said there when there may be something to send
FEEDER = f"{PREFIX}feeder"  # a string, the token of the one that feeds; gone when it does not renew it
PREFERRED = f"{PREFIX}preferred-feeder"  # a string: others stand back for this token; gone like that

RECONCILER = f"{PREFIX}reconciler"  # a string, the id of the reconciliation that runs; it has to be renewed
RECONCILED = f"{PREFIX}reconciliation:"  # + its id: a string, how far it is, JSON
RECONCILE_DUE = f"{PREFIX}reconciled"  # a string that is there until the periodic reconciliation is due

LISTENED = f"{PREFIX}listened"  # a hash: an event that somebody is to be told of -> how many may wait in ENDINGS
ENDINGS = f"{PREFIX}endings"  # a stream of such events, until each receiver's deliveries are made of them
DROPPED = f"{PREFIX}endings-dropped"  # a string: how many left it before that, because too many waited
DELIVERY = f"{PREFIX}delivery:"  # + delivery id: a string, packed, what is posted and what came of it
DELIVERIES = f"{PREFIX}deliveries:"  # + status: a sorted set of delivery ids by the time of their event
DUE = f"{PREFIX}deliveries-due:"  # + endpoint id: a sorted set of delivery ids by the time of their next try
ENDPOINTS = f"{PREFIX}endpoints"  # a hash: endpoint id -> what is known of it, JSON
CURSORS = f"{PREFIX}endpoint-cursors"  # a hash: endpoint id -> the last of ENDINGS that it has its delivery of
DELIVERER = f"{PREFIX}deliverer"  # a string, the token of the one that delivers; gone when it does not renew it
PREFERRED_DELIVERER = f"{PREFIX}preferred-deliverer"  # a string: others stand back for this token; gone like that

WORKER = f"{PREFIX}worker:"  # + worker name: a string, its heartbeat's JSON; gone when the worker is
LAST_BEAT = f"{PREFIX}last-beat:"  # + worker name: a string, the same; outlives a worker that fell silent
WORKERS = f"{PREFIX}workers"  # a sorted set of worker names by the time of their last heartbeat, in seconds


def job(job_id: str) -> str:
    """What was asked, and how far it got."""
    return f"{JOB}{job_id}"


def report(job_id: str) -> str:
    """The job's report, where Redis keeps it."""
    return f"{REPORT}{job_id}"


def jobs(status: str) -> str:
    """The jobs in this status."""
    return f"{JOBS}{status}"


def ended(status: str) -> str:
    """The jobs that came to this status last."""
    return f"{ENDED}{status}"


def batch(batch_id: str) -> str:
    """How far a batch got."""
    return f"{BATCH}{batch_id}"


def calls(batch_id: str) -> str:
    """The calls of a batch."""
    return f"{CALLS}{batch_id}"


def turn(lane: str) -> str:
    """Whose turn it is in a lane."""
    return f"{TURN}{lane}"


def singles(lane: str) -> str:
    """The waiting jobs of a lane that belong to no waiting batch."""
    return f"{SINGLES}{lane}"


def worker(name: str) -> str:
    """One worker's heartbeat."""
    return f"{WORKER}{name}"


def last_beat(name: str) -> str:
    """What one worker's heartbeat said last."""
    return f"{LAST_BEAT}{name}"


def delivery(delivery_id: str) -> str:
    """What is posted to one endpoint of one event."""
    return f"{DELIVERY}{delivery_id}"


def deliveries(status: str) -> str:
    """The deliveries in this status."""
    return f"{DELIVERIES}{status}"


def due(endpoint_id: str) -> str:
    """The deliveries that an endpoint waits for."""
    return f"{DUE}{endpoint_id}"
