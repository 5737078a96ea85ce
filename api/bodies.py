"""A request's JSON, parsed where it is used: in the route's own thread, and not on the event loop.

FastAPI parses and validates a body on the loop, which for a batch of 100,000 keys keeps everybody else waiting for
longer than a probe may take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from api.problems import NotJson, RequestRefused

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Body:
    """What a client sent."""

    content: bytes
    content_type: str

    def parse(self, model: type[Model]) -> Model:
        """The model that the content says. Raises NotJson, and RequestRefused where it is no such model.

        An unknown field is a fault at any depth: what a client misspelt must not be left aside.
        """
        if self.content_type != "application/json":
            raise NotJson
        try:
            return model.model_validate_json(self.content, extra="forbid")
        except ValidationError as error:
            raise RequestRefused.by(error, "body") from None


async def _body(request: Request) -> Body:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Body(await request.body(), content_type)


SentBody = Annotated[Body, Depends(_body)]
