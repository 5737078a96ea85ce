"""Every call below a prefix is to have its report: begin to see to that, and ask how far it is."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter, Response, Security
from pydantic import BaseModel

from api.auth import bearer_in_openapi
from api.bodies import SentBody
from api.dependencies import Provided
from api.openapi import problems, takes, with_body
from api.problems import NotReady
from api.schemas import JobId, Links
from warmline.jobs.errors import BucketNotAllowed, ReconciliationNotFound, ReconciliationRunning
from warmline.jobs.reconciliation import Reconciliation, Wanted
from warmline.objects.reconcile import warm_model_hashes

router = APIRouter(
    prefix="/v1/reconciliations", tags=["reconciliations"], dependencies=[Security(bearer_in_openapi)]
)


class ReconciliationAccepted(BaseModel):
    """A reconciliation has begun."""

    id: str
    links: Links

    @classmethod
    def of(cls, run: Reconciliation) -> Self:
        """The answer for this one."""
        return cls(id=run.id, links=Links.model_validate({"self": f"{router.prefix}/{run.id}"}))


@router.post(
    "",
    status_code=202,
    summary="Reconcile calls and reports",
    responses={
        202: {"headers": {"Location": {"description": "its address", "schema": {"type": "string"}}}},
        **with_body(BucketNotAllowed, NotReady, ReconciliationRunning),
    },
    openapi_extra=takes(Wanted),
)
def begin(body: SentBody, response: Response, services: Provided) -> ReconciliationAccepted:
    """Enters a job for each call below the prefix that has no report under these options and the warm model.

    It goes on in this process; one runs at a time. Interrupted or repeated, it enters nothing twice.
    """
    wanted = body.parse(Wanted)
    hashes = warm_model_hashes(services.ledger.workers())
    if len(hashes) != 1:
        raise NotReady(
            "Workers with different models are warm; reconcile when all have the same one."
            if hashes
            else "No worker is warm, and the model decides which report a call is to have; try again when one is."
        )
    (model_hash,) = hashes
    accepted = ReconciliationAccepted.of(services.reconciler.start(wanted, model_hash))
    response.headers["Location"] = accepted.links.own
    return accepted


@router.get("/{run_id}", summary="How far is a reconciliation?", responses=problems(ReconciliationNotFound))
def get(run_id: JobId, services: Provided) -> Reconciliation:
    """What it has found and done so far. It is remembered for a day."""
    return services.reconciler.find(run_id)
