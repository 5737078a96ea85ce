"""The command line's side of the HTTP API: settings in, records out, problems as errors."""

from __future__ import annotations

import time
import uuid
from types import TracebackType
from typing import Any, Self

import httpx

from config.settings import ApiSettings
from warmline.calls.report import Report
from warmline.jobs.errors import IdempotencyKeyInUse, TransientError, WarmlineError
from warmline.jobs.reconciliation import Reconciliation
from warmline.jobs.records import BatchState, JobState

SUBMIT_AGAIN_SECONDS = 60.0  # an API that is restarted is there again by then
SUBMIT_PAUSE_SECONDS = 1.0


class ApiUnavailable(TransientError):
    """The API does not answer; start the stack with `warmline up`, or set WARMLINE_API_URL."""

    code = "api_unavailable"
    title = "The API does not answer"


class AnswerLost(ApiUnavailable):
    """The API took the request, and its answer did not come."""


class ApiProblem(WarmlineError):
    """The API refused the request; carries the problem's code and sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # the code of the problem, not of this class


class ApiClient:
    """A connection to the API. Raises ApiUnavailable or ApiProblem."""

    def __init__(self, settings: ApiSettings, *, timeout_seconds: float = 120.0) -> None:
        keys = settings.keys
        headers = {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}
        self.base_url = settings.base_url
        # trust_env off: a proxy of the company must not see calls to a loopback address.
        self._client = httpx.Client(
            base_url=self.base_url, headers=headers, timeout=timeout_seconds, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def submit_job(self, body: dict[str, Any]) -> str:
        """Submits one job; returns its id."""
        return self._submit("/v1/jobs", body)

    def submit_batch(self, body: dict[str, Any]) -> str:
        """Submits many jobs as one; returns the batch's id."""
        return self._submit("/v1/batches", body)

    def reconcile(self, body: dict[str, Any]) -> str:
        """Begins a reconciliation; returns its id."""
        return str(self._call("POST", "/v1/reconciliations", json=body)["id"])

    def reconciliation(self, run_id: str) -> Reconciliation:
        """How far a reconciliation is."""
        return Reconciliation.model_validate(self._call("GET", f"/v1/reconciliations/{run_id}"), extra="ignore")

    def job(self, job_id: str) -> JobState:
        """How far a job is."""
        return JobState.model_validate(self._call("GET", f"/v1/jobs/{job_id}"), extra="ignore")

    def jobs(self, **params: str | int) -> list[JobState]:
        """The newest jobs; `params` are status and limit."""
        rows = self._call("GET", "/v1/jobs", params=params)["jobs"]
        return [JobState.model_validate(row, extra="ignore") for row in rows]

    def batch(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        return BatchState.model_validate(self._call("GET", f"/v1/batches/{batch_id}"), extra="ignore")

    def batch_jobs(self, batch_id: str, **params: str | int) -> list[JobState]:
        """The jobs of a batch."""
        rows = self._call("GET", f"/v1/batches/{batch_id}/jobs", params=params)["jobs"]
        return [JobState.model_validate(row, extra="ignore") for row in rows]

    def batches(self, **params: str | int) -> list[BatchState]:
        """The newest batches; `params` is limit."""
        rows = self._call("GET", "/v1/batches", params=params)["batches"]
        return [BatchState.model_validate(row, extra="ignore") for row in rows]

    def report(self, job_id: str) -> Report:
        """A finished job's report."""
        return Report.model_validate(self._call("GET", f"/v1/jobs/{job_id}/report"), extra="ignore")

    def cancel(self, job_id: str) -> JobState:
        """Cancels a job, or asks its worker to; returns how it stands now."""
        return JobState.model_validate(self._call("POST", f"/v1/jobs/{job_id}/cancel"), extra="ignore")

    def cancel_batch(self, batch_id: str) -> BatchState:
        """Cancels what has not ended of a batch; returns how it stands now."""
        return BatchState.model_validate(self._call("POST", f"/v1/batches/{batch_id}/cancel"), extra="ignore")

    def replay(self, job_id: str) -> JobState:
        """Runs a failed or dead job again; returns how it stands now."""
        return JobState.model_validate(self._call("POST", f"/v1/jobs/{job_id}/replay"), extra="ignore")

    def replay_batch(self, batch_id: str) -> int:
        """Runs a batch's failed and dead jobs again; returns how many."""
        return int(self._call("POST", f"/v1/batches/{batch_id}/replay")["replayed"])

    def dead_letters(self, **params: str | int) -> list[JobState]:
        """The newest dead letters; `params` are batch_id and limit."""
        rows = self._call("GET", "/v1/dead-letters", params=params)["jobs"]
        return [JobState.model_validate(row, extra="ignore") for row in rows]

    def replay_dead_letters(self) -> int:
        """Runs all dead letters again; returns how many."""
        return int(self._call("POST", "/v1/dead-letters/replay")["replayed"])

    def purge(self, job_id: str) -> int:
        """Forgets a dead letter."""
        return int(self._call("DELETE", f"/v1/dead-letters/{job_id}")["purged"])

    def purge_dead_letters(self, **params: str) -> int:
        """Forgets all dead letters; `params` is batch_id. Returns how many."""
        return int(self._call("DELETE", "/v1/dead-letters", params=params)["purged"])

    def overview(self, batch_id: str, **params: str) -> str:
        """A batch's overview, an SVG document; `params` is emotion."""
        return self._answer("GET", f"/v1/batches/{batch_id}/overview.svg", params=params).text

    def webhooks(self) -> dict[str, Any]:
        """How far webhooks are."""
        return self._call("GET", "/v1/webhooks")

    def deliveries(self, **params: str | int) -> list[dict[str, Any]]:
        """The newest deliveries; `params` are status and limit."""
        return list(self._call("GET", "/v1/webhooks/deliveries", params=params)["deliveries"])

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its tries and its body."""
        return self._call("GET", f"/v1/webhooks/deliveries/{delivery_id}")

    def redeliver(self, delivery_id: str) -> None:
        """Has a delivery posted again."""
        self._call("POST", f"/v1/webhooks/deliveries/{delivery_id}/redeliver")

    def redeliver_failed(self, **params: str) -> int:
        """Has all failed deliveries posted again; `params` is since. Returns how many."""
        return int(self._call("POST", "/v1/webhooks/redeliver", params=params)["redelivered"])

    def test_webhooks(self) -> list[dict[str, Any]]:
        """Has a test event posted to every address; returns what came back."""
        return list(self._call("POST", "/v1/webhooks/test")["trials"])

    def enable_endpoint(self, endpoint_id: str) -> dict[str, Any]:
        """Has an endpoint get events again."""
        return self._call("POST", f"/v1/webhooks/endpoints/{endpoint_id}/enable")

    def _submit(self, path: str, body: dict[str, Any]) -> str:
        """Asks again where the answer was lost, for a while: under one key, that makes nothing twice."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        give_up_at, lost = time.monotonic() + SUBMIT_AGAIN_SECONDS, False
        while True:
            try:
                return str(self._call("POST", path, json=body, headers=headers)["id"])
            except (ApiUnavailable, ApiProblem) as error:
                lost = lost or isinstance(error, AnswerLost)
                passes = isinstance(error, ApiUnavailable) or error.code == IdempotencyKeyInUse.code
                if not (lost and passes) or time.monotonic() > give_up_at:
                    raise
            time.sleep(SUBMIT_PAUSE_SECONDS)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return dict(self._answer(method, path, **request).json())

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            never_there = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise (ApiUnavailable if never_there else AnswerLost)(
                f"the API at {self.base_url} does not answer: start the stack with `warmline up`, "
                "or set WARMLINE_API_URL"
            ) from None
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
            code, message = str(problem["code"]), str(problem["detail"])
            if code == "unauthorized":  # what the API says is for those who write requests
                message = (
                    f"the API at {self.base_url} wants another key: set WARMLINE_API_KEYS, or run this where "
                    "`warmline up` was run (its .warmline/stack.env has the key)"
                )
            raise ApiProblem(code, message)
        except (ValueError, KeyError, TypeError):
            message = f"the API at {self.base_url} answered {answer.status_code}: is it Warmline's?"
            raise ApiProblem("unexpected_answer", message) from None
