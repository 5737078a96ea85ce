"""One upload by every road at once, SQS pollers, the API and a listing among them: one job."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
from pydantic import SecretStr

from config.settings import RedisSettings, Settings
from tests.api_process import running_api
from tests.moto_server import AwsServer
from tests.servers import wait_until
from tests.sqs_process import running_sqs
from warmline.jobs.ledger import Ledger
from warmline.jobs.reconciliation import Wanted
from warmline.jobs.upload_ledger import UploadLedger
from warmline.objects.reconcile import Reconciler
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Rules

TOKEN = "token-of-the-store"
CALLS = 20


def test_every_road_at_once_leads_to_one_job(aws: AwsServer, redis_url: str, tmp_path: Path) -> None:
    # Given a bucket that tells a queue directly, by SNS and by EventBridge, two pollers there, and the API
    bucket, queue = aws.new_bucket(), aws.new_queue()
    aws.notify_queue(bucket, queue)
    settings = Settings(
        redis=RedisSettings(url=SecretStr(redis_url)),
        s3=aws.s3_settings(bucket, results_bucket=aws.new_bucket()),
        sqs=aws.sqs_settings(queue),
    )
    variables = {"WARMLINE_S3_SOURCE_BUCKETS": bucket, "WARMLINE_TRIGGERS_TOKENS": TOKEN}
    with ExitStack() as stack:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            stack.enter_context(running_sqs(tmp_path / name, settings))
        api = stack.enter_context(running_api(tmp_path, redis_url, settings.s3, **variables))
        ledger = stack.enter_context(closing(Ledger.connect(settings.redis, settings.jobs)))
        # When recordings come, each is told of to the API as well, in another store's words, and then listed
        for n in range(CALLS):
            key = f"2026/call {n}.wav"
            aws.upload(bucket, key, b"%d" % n)
            told = {"account": "a", "action": "PutObject", "bucket": bucket, "object": {"key": key, "size": 1}}
            answer = httpx.post(
                f"{api.url}/v1/events/s3",
                content=json.dumps(told),
                headers={"Authorization": f"Bearer {TOKEN}"},
                trust_env=False,
                timeout=60,
            )
            assert answer.status_code == 202, answer.text
        uploads = UploadLedger.connect(settings.redis, settings.jobs)
        intake = Intake(settings, Rules.load(settings), uploads, ObjectStore(settings.s3))
        with closing(Reconciler(settings, rules=intake)) as reconciler:
            wanted = Wanted(bucket=bucket, by_rules=True)
            counts = reconciler.carry_out(reconciler.begin(wanted, "m")).counts
        intake.close()
        wait_until(lambda: aws.left(queue) == 0, "the queue is empty")
        # Then each has one job
        assert sorted(state.job.source.key for state in ledger.list(limit=1000)) == sorted(
            f"2026/call {n}.wav" for n in range(CALLS)
        )
        assert (counts.found, counts.in_ledger + counts.enqueued) == (CALLS, CALLS)
        assert aws.dead(queue) == 0
