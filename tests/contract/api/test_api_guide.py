"""docs/api.md says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.problems import status_of
from tests.contract.api.test_api_problems import error_tree
from warmline.jobs.errors import WarmlineError

GUIDE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
REQUESTS = re.findall(r"^curl -sS \$API(/\S+) [^\n]*?--json '(.*?)'", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_has_requests() -> None:
    assert len(REQUESTS) == 4


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_request_of_the_guide_is_accepted(client: httpx.Client, path: str, body: str) -> None:
    asked: dict[str, Any] = json.loads(body)
    answer = client.post(path, json=asked)
    # Its prefix holds no calls here, which the API can only say of a request that is valid.
    assert answer.status_code == (404 if "prefix" in asked else 202)


def test_the_guide_names_each_code_at_its_status() -> None:
    statuses = {error.code: int(status_of(error)) for error in error_tree(WarmlineError)}
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", GUIDE, re.MULTILINE)
    assert len(rows) == 13
    for status, codes in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert statuses[code] == int(status), code


def test_the_guide_names_every_code_that_a_route_answers_with(openapi: dict[str, Any]) -> None:
    codes = {
        code
        for operations in openapi["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert {code for code in codes if f"`{code}`" not in GUIDE} == set()
