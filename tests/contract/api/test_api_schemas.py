"""The report's schema, as the API hands it out."""

from __future__ import annotations

import httpx

from warmline.calls.report_schema import report_schema


def test_anyone_has_the_report_s_schema_and_may_keep_it(stranger: httpx.Client) -> None:
    answer = stranger.get("/v1/schemas/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.json() == report_schema()


def test_another_schema_is_not_open(stranger: httpx.Client, client: httpx.Client) -> None:
    assert stranger.get("/v1/schemas/reports").status_code == 401
    assert client.get("/v1/schemas/job").status_code == 404
