"""docs/api.md says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.problems import status_of
from config.settings import JobsSettings, known_variables
from tests.contract.api.test_api_problems import error_tree
from warmline.jobs.errors import WarmlineError
from warmline.jobs.records import JobStatus

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "api.md").read_text()
QUEUE = (DOCS / "queue.md").read_text()
REQUESTS = re.findall(r"^curl -sS \$API(/\S+) [^\n]*?--json '(.*?)'", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_has_requests() -> None:
    assert len(REQUESTS) == 7


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_request_of_the_guide_is_accepted(client: httpx.Client, path: str, body: str) -> None:
    asked: dict[str, Any] = json.loads(body)
    answer = client.post(path, json=asked)
    # Its prefix holds no calls here, which the API can only say of a request that is valid.
    assert answer.status_code == (404 if "prefix" in asked else 201 if path == "/v1/uploads" else 202)


def test_the_guide_names_each_code_at_its_status() -> None:
    statuses = {error.code: int(status_of(error)) for error in error_tree(WarmlineError)}
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", GUIDE, re.MULTILINE)
    assert len(rows) == 14
    for status, codes in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert statuses[code] == int(status), code


def test_the_guide_s_addresses_are_there(openapi: dict[str, Any]) -> None:
    asked = re.findall(r"^curl -sS (?:-X (\w+) )?\"?\$API(/[^\s\"?]+)([^#\n]*)", GUIDE, re.MULTILINE)
    assert len(asked) > 12
    for method, path, rest in asked:
        wanted = (method or ("POST" if "--json" in rest else "GET")).lower()
        fitting = [
            operations
            for template, operations in openapi["paths"].items()
            if re.fullmatch(re.sub(r"\{\w+\}", r"\\$\\w+", template), path)
        ]
        assert any(wanted in operations for operations in fitting), (wanted, path)


@pytest.mark.parametrize("page", [GUIDE, QUEUE], ids=["api.md", "queue.md"])
def test_a_setting_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"WARMLINE_[A-Z0-9_]+[A-Z0-9]", page))
    assert len(named) > 3
    assert named <= known_variables().keys()


def test_the_queue_s_page_shows_every_status_and_how_many_attempts_there_are() -> None:
    for status in JobStatus:
        assert re.search(rf"^\| `{status}` \|", QUEUE, re.MULTILINE), status
        assert status.value in QUEUE.partition("```mermaid")[2].partition("```")[0]
    assert f"`dead` after {JobsSettings().max_attempts} attempts" in QUEUE


def test_the_guide_names_every_code_that_a_route_answers_with(openapi: dict[str, Any]) -> None:
    codes = {
        code
        for operations in openapi["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    assert {code for code in codes if f"`{code}`" not in GUIDE} == set()
