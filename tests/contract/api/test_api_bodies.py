"""Large bodies: few at once, whatever comes, and nobody with a small one waits for them."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from api.edge import LARGE_AT_ONCE, LARGE_BYTES, LimitBody


class Route:
    """An application that takes its time, and counts who is in it."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.inside = 0
        self.most_inside = 0
        self.sizes_bytes: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.sizes_bytes.append(len((await receive())["body"]))
        await self.leave.wait()
        self.inside -= 1


def post(app: LimitBody, size_bytes: int) -> asyncio.Task[None]:
    """A request whose body comes in two pieces."""
    pieces = [b"x" * (size_bytes // 2), b"x" * (size_bytes - size_bytes // 2)]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def send(_: Message) -> None:
        raise AssertionError("the route answers")

    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    return asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_few_large_bodies_are_served_at_once_and_all_in_the_end() -> None:
    async def scenario() -> None:
        # Given more requests with large bodies than are served at once
        route = Route()
        app = LimitBody(route, max_bytes=4 * LARGE_BYTES)
        large = [post(app, 2 * LARGE_BYTES) for _ in range(LARGE_AT_ONCE + 3)]
        await settle()
        assert route.inside == LARGE_AT_ONCE
        # When one with a small body comes, then it does not wait
        small = post(app, 100)
        await settle()
        assert (route.inside, route.sizes_bytes[-1]) == (LARGE_AT_ONCE + 1, 100)
        # and in the end all are served, in pieces as they came
        route.leave.set()
        await asyncio.gather(*large, small)
        assert sorted(route.sizes_bytes) == [100, *[2 * LARGE_BYTES] * (LARGE_AT_ONCE + 3)]
        assert route.most_inside == LARGE_AT_ONCE + 1

    asyncio.run(scenario())
