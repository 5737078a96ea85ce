"""The dashboard: a page that anyone may load, since it holds nothing; what it shows, it asks for with a key."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api.dashboard_paths import DASHBOARD, FILES
from config.settings import Settings

router = APIRouter(include_in_schema=False)

_PAGES: Final = Path(__file__).parents[1] / "pages"
_HEADERS: Final = {
    # Its own files and this API, and pictures that it made of an answer. Nothing inline, nobody else's.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
_NEEDS_KEY: Final = b'data-key="needed"'


@router.get("/")
async def root() -> Response:
    """Who opens the API's address in a browser wants to see something."""
    return RedirectResponse(DASHBOARD.lstrip("/"), status_code=307)


@router.get(DASHBOARD)
async def page(request: Request) -> Response:
    """The page. It is told whether a key is needed, so that it need not find out by being refused."""
    settings: Settings = request.app.state.services.settings
    body = (_PAGES / "dashboard.html").read_bytes()
    if not settings.api.keys:
        body = body.replace(_NEEDS_KEY, b'data-key="not-needed"')
    return Response(body, media_type="text/html; charset=utf-8", headers=_HEADERS)


def _add_file(name: str, media_type: str) -> None:
    path = _PAGES / name

    @router.get(f"{DASHBOARD}/{name}")
    async def file() -> Response:
        return Response(path.read_bytes(), media_type=media_type, headers=_HEADERS)


for _name, _media_type in FILES.items():
    _add_file(_name, _media_type)
