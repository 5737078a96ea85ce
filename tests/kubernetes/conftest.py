"""The overlays, rendered, and a new Secret for them."""

from __future__ import annotations

import pytest

from api.app import create_app
from config.settings import Settings
from tests.kubernetes.objects import KUBERNETES, OVERLAYS, make_secret
from tests.kubernetes.rendering import Object, render


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """Of each overlay in turn."""
    return render(KUBERNETES / "overlays" / request.param)


@pytest.fixture(scope="session")
def secret() -> Object:
    """With random values."""
    return make_secret()


@pytest.fixture(scope="session")
def paths() -> set[str]:
    """Of the API."""
    return set(create_app(Settings()).openapi()["paths"])
