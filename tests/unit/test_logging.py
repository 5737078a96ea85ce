"""The one log shape: a process of its own writes lines in every way there is, and each is judged as it came."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

SECRET = "hunter2-hunter2"
WRITES = f"""
import logging, sys, threading, time, warnings
import structlog
from config.logging import configure_logging
from config.settings import ApiSettings, LogSettings, Settings

settings = Settings(api=ApiSettings(keys=("{SECRET}",)), log=LogSettings(**eval(sys.argv[1])))
configure_logging(settings, process="api")
configure_logging(settings, process="worker")  # as Celery has it done once more
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(job_id="1f", batch_id="2f", worker="w/1", attempt=2):
    log.info("job_started", uri="s3://calls/+49 151 2345.wav", key="+49 151 2345.wav")
    logging.getLogger("uvicorn.error").error("%s is refused: %s", "{SECRET}", {{"token": "abcdefgh"}})
    logging.getLogger("botocore.auth").debug("GET /calls/+49 151 2345.wav")
    try:
        raise ValueError("s3://calls/+49 151 2345.wav: {SECRET}")
    except ValueError:
        log.exception("job_crashed", code="internal_error")
        logging.getLogger("celery.pool").exception("process %r", 7)
    warnings.warn("{SECRET} is old")
    log.warning("positional %s", "words")
    log.warning("odd", value=object(), error=ValueError("{SECRET}"))
thread = threading.Thread(target=lambda: 1 / 0, name="keeper")
thread.start(); thread.join()
raise RuntimeError("{SECRET} at the end")
"""


def written(**log: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WRITES, repr(log)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1  # its last line is an error
    assert done.stdout == ""
    return done.stderr


@pytest.fixture(scope="module")
def text() -> str:
    return written(level="DEBUG", format="json")


@pytest.fixture(scope="module")
def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_says_when_what_how_grave_and_who(lines: list[dict[str, Any]]) -> None:
    assert len(lines) == 10
    for line in lines:
        assert {"timestamp", "level", "action", "process"} <= line.keys(), line
        assert line["process"] == "worker"
        assert line["timestamp"].endswith("Z")


def test_what_is_bound_is_in_every_line_also_in_other_libraries_lines(lines: list[dict[str, Any]]) -> None:
    for line in lines[:8]:
        assert (line["job_id"], line["batch_id"], line["worker"], line["attempt"]) == ("1f", "2f", "w/1", 2), line
    assert [line.get("logger") for line in lines[1:3]] == ["uvicorn.error", "botocore.auth"]


def test_what_nobody_caught_has_the_shape_too(lines: list[dict[str, Any]]) -> None:
    thread, end = lines[-2:]
    assert (thread["action"], thread["thread"], thread["level"]) == ("thread_crashed", "keeper", "critical")
    assert "ZeroDivisionError" in thread["exception"]
    assert (end["action"], end["level"]) == ("process_crashed", "critical")
    assert "RuntimeError: [hidden] at the end" in end["exception"]


def test_no_line_shows_a_secret(text: str) -> None:
    assert SECRET not in text
    assert "abcdefgh" not in text
    assert text.count("[hidden]") >= 6
    assert "+49 151 2345.wav" in text  # unless it is asked for


@pytest.mark.parametrize("shape", ["json", "console"])
def test_keys_of_calls_are_masked_where_that_is_asked_for(shape: str) -> None:
    text = written(level="DEBUG", format=shape, mask_keys=True)
    assert SECRET not in text
    assert "+49" not in text
    assert "2345.wav" not in text
    assert len(re.findall(r"…[0-9a-f]{8}\.wav", text)) >= 3


def test_lower_levels_are_left_out() -> None:
    lines = [json.loads(line) for line in written(level="WARNING").splitlines()]
    assert {line["level"] for line in lines} == {"warning", "error", "critical"}
