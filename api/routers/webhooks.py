"""Who is told when jobs and batches end: look at what was posted to them, post it again, try the addresses out."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Security
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from api.auth import bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from api.routers.jobs import Limit
from api.schemas import JobId, Links
from warmline.jobs.deliveries import Delivery, DeliveryStatus, Endpoint, WebhooksState
from warmline.jobs.errors import DeliveryNotFound, EndpointNotFound
from warmline.webhooks.trial import Trial, try_out

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], dependencies=[Security(bearer_in_openapi)])

DeliveryId = JobId
EndpointId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
_ID = "0e566874be7a68730ecf9ce2c023a5b1"


class DeliveryHead(BaseModel):
    """One event for one endpoint."""

    id: str = Field(examples=[_ID])
    links: Links
    webhook_id: str = Field(description="the header of that name", examples=[f"msg_{_ID[:24]}"])
    endpoint_id: str = Field(examples=[_ID[24:]])
    event: str = Field(examples=["job.succeeded"])
    subject_id: str = Field(description="the job's id, or the batch's")
    created_at: datetime = Field(description="when the job or batch ended")
    status: DeliveryStatus
    tries_made: int = Field(description="since its beginning, or since it was last redelivered")
    last_status_code: int | None = Field(description="of the last try; null: there was no answer, or no try yet")
    last_error: str | None = Field(description="why the last try is no success")
    next_try_at: datetime | None = Field(description="of a pending one; null: soon")


class DeliveryTry(BaseModel):
    """One try at a delivery."""

    at: datetime
    seconds: float
    status_code: int | None
    error: str | None


class DeliveryView(DeliveryHead):
    """One event for one endpoint, with every try and what is posted."""

    tries: list[DeliveryTry] = Field(description="the last thirty, oldest first")
    body: str = Field(description="what is posted, to the byte")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The view of this delivery."""
        tries = [DeliveryTry(**dict(one)) for one in delivery.tries]
        return cls(**_head(delivery), tries=tries, body=delivery.body)


class DeliveryList(BaseModel):
    """A page of deliveries, those of the newest events first."""

    deliveries: list[DeliveryHead]
    next: str | None = Field(None, description="the next page, relative to the API's address; null: there is none")


class Redelivered(BaseModel):
    """How many deliveries are tried again."""

    redelivered: int = Field(examples=[3])


class Trials(BaseModel):
    """What the receivers answered to a test."""

    trials: list[Trial]


class Since(BaseModel):
    """Which failed deliveries. An unknown name is an error: a typing mistake must not mean all of them."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(None, description="only those of events since then; without it, all")


@router.get("", summary="How far are webhooks?", responses=problems())
def state(services: Provided) -> WebhooksState:
    """The addresses, what they are told, and how many deliveries are pending, delivered and given up."""
    return services.deliveries.state()


@router.get("/deliveries", summary="List deliveries", responses=problems(DeliveryNotFound))
def list_deliveries(
    services: Provided,
    status: Annotated[DeliveryStatus | None, Query(description="only those in this status")] = None,
    limit: Limit = 50,
    before: Annotated[
        DeliveryId | None, Query(description="only what comes after this one: the next page")
    ] = None,
) -> DeliveryList:
    """Those of the newest events first."""
    found = services.deliveries.list(status=status, limit=limit, before=before)
    following = None
    if len(found) == limit:
        query: dict[str, Any] = {"limit": limit, "before": found[-1].id}
        query |= {"status": status.value} if status is not None else {}
        following = f"{router.prefix}/deliveries?{urlencode(query)}"
    return DeliveryList(deliveries=[DeliveryHead(**_head(delivery)) for delivery in found], next=following)


@router.get("/deliveries/{delivery_id}", summary="Look at a delivery", responses=problems(DeliveryNotFound))
def get(delivery_id: DeliveryId, services: Provided) -> DeliveryView:
    """Every try, with its time, its duration and what came back; and the body."""
    return DeliveryView.of(services.deliveries.get(delivery_id))


@router.post(
    "/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Post a delivery again",
    responses=problems(DeliveryNotFound, EndpointNotFound),
)
def redeliver(delivery_id: DeliveryId, services: Provided) -> DeliveryView:
    """Within a second or two, under the same webhook-id, with as many tries as a new one; a pending one: now."""
    return DeliveryView.of(services.deliveries.redeliver(delivery_id))


@router.post("/redeliver", status_code=202, summary="Post failed deliveries again", responses=problems())
def redeliver_failed(services: Provided, which: Annotated[Since, Query()]) -> Redelivered:
    """All that were given up, or those of events since then."""
    return Redelivered(redelivered=services.deliveries.redeliver_failed(which.since))


@router.post("/test", summary="Post a test event", responses=problems())
def test(services: Provided) -> Trials:
    """To every address now, once, from this process: what came back. Signed as all events; not in the log."""
    return Trials(trials=asyncio.run(try_out(services.settings.webhooks)))


@router.post("/endpoints/{endpoint_id}/enable", summary="Enable an endpoint", responses=problems(EndpointNotFound))
def enable(endpoint_id: EndpointId, services: Provided) -> Endpoint:
    """One that answered 410 Gone, and so gets nothing any more, gets again what ends from now on."""
    return services.deliveries.set_disabled(endpoint_id, None)


def _head(delivery: Delivery) -> dict[str, Any]:
    last = delivery.tries[-1] if delivery.tries else None
    return {
        "id": delivery.id,
        "links": Links.model_validate({"self": f"{router.prefix}/deliveries/{delivery.id}"}),
        "webhook_id": delivery.webhook_id,
        "endpoint_id": delivery.endpoint_id,
        "event": delivery.event,
        "subject_id": delivery.subject_id,
        "created_at": delivery.created_at,
        "status": delivery.status,
        "tries_made": delivery.tries_made,
        "last_status_code": last.status_code if last else None,
        "last_error": last.error if last else None,
        "next_try_at": delivery.next_try_at,
    }
