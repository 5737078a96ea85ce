"""`warmline report KEY`: one report, or a picture of it; or a picture of many reports at once.

KEY is a job's or a batch's id, a call or a report in S3, or a file or folder of reports, which needs no server.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from config.settings import Settings, load_settings
from warmline.calls.report import Report
from warmline.cli import consoles, pictures, tables
from warmline.cli.api_client import ApiClient, ApiProblem
from warmline.cli.consoles import PLAIN
from warmline.cli.report_sources import open_reports
from warmline.jobs.errors import BatchNotFound, InvalidRequest, JobNotFound, ObjectNotFound
from warmline.jobs.records import ReportLocation, Source

_ID = re.compile(r"[0-9a-f]{32}")


def report(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A job's id, s3://bucket/key of a call or of its report, or a report's file. With --plot also: "
            "a batch's id, s3://bucket/prefix/ of reports, a folder of reports, a .jsonl file.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The report itself, on one line.")] = False,
    plot: pictures.Plot = None,
    emotion: pictures.Emotion = "",
) -> None:
    """Shows a call's report, or draws it; or draws the overview of many."""
    pictures.check_picture(plot)
    settings = load_settings()
    path = Path(key)
    if key.startswith("s3://"):
        if key.endswith("/"):
            _draw_overview(settings, key, plot, emotion)
            return
        found: Report | None = _from_s3(settings, key)
    elif path.is_dir() or (path.is_file() and path.suffix == ".jsonl"):
        _draw_overview(settings, key, plot, emotion)
        return
    elif path.is_file():
        found = _parsed(path.read_bytes(), key)
    else:
        found = _from_api(settings, key, plot, emotion)
    if found is not None:
        _show(found, as_json=as_json, plot=plot, emotion=emotion)


def _show(found: Report, *, as_json: bool, plot: Path | None, emotion: str) -> None:
    if as_json:
        print(found.model_dump_json())
    if plot is not None:
        from warmline.pictures.timeline import timeline_svg

        pictures.write_picture(plot, timeline_svg(found, emotion))
    elif not as_json:
        tables.print_report(consoles.results(), found)


def _from_api(settings: Settings, key: str, plot: Path | None, emotion: str) -> Report | None:
    """The job's report; None where it was a batch, whose picture is drawn."""
    if not _ID.fullmatch(key):
        raise InvalidRequest(f"{key} is no file, no s3:// address and no id of a job or a batch")
    with ApiClient(settings.api) as api:
        try:
            return api.report(key)
        except ApiProblem as problem:
            if problem.code != JobNotFound.code:
                raise
            _expect_batch(api, key, problem)
        if plot is None:
            raise InvalidRequest(f"{key} is a batch: --plot FILE draws its overview, `warmline watch` shows it")
        pictures.write_picture(plot, api.overview(key, **({"emotion": emotion} if emotion else {})))
    return None


def _expect_batch(api: ApiClient, key: str, no_job: ApiProblem) -> None:
    """Raises `no_job` for what is no batch either: of the two a person more likely meant the job."""
    try:
        api.batch(key)
    except ApiProblem as problem:
        raise no_job if problem.code == BatchNotFound.code else problem from None


def _from_s3(settings: Settings, uri: str) -> Report:
    """The report at this address or, where a call is there, the newest report of the call as it is now."""
    from warmline.objects.report_keys import report_beginning
    from warmline.objects.store import ObjectStore  # boto3 takes 0.3 s to import

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise InvalidRequest(f"{uri} is not s3://bucket/key")
    results, store = settings.s3.results_bucket, ObjectStore(settings.s3)
    try:
        if bucket == results and "@" in key and key.endswith(".json"):
            return _parsed(store.get_report(ReportLocation(bucket=bucket, key=key)), uri)
        source = Source(bucket=bucket, key=key)
        facts = store.head(source)
        beginning = report_beginning(
            source, etag=facts.etag, version_id=facts.version_id, prefix=settings.s3.results_prefix
        )
        there = [found for found in store.list_report_keys(beginning) if found.endswith(".json")]
        if not there:
            raise ObjectNotFound(f"{uri} has no report in s3://{results}/; `warmline submit {uri}` makes one.")
        read = [_parsed(store.get_report(ReportLocation(bucket=results, key=found)), found) for found in there]
    finally:
        store.close()
    if len(read) > 1:
        consoles.notes().print(f"{uri} has {len(read)} reports, by option and model: the newest is shown", **PLAIN)
    return max(read, key=lambda each: each.provenance.analysed_at)


def _parsed(body: bytes, where: str) -> Report:
    from warmline.calls.report_reading import NotAReport, read_report

    try:
        return read_report(body)
    except NotAReport as error:
        raise InvalidRequest(f"{where}: {error}") from None


def _draw_overview(settings: Settings, place: str, plot: Path | None, emotion: str) -> None:
    """The overview of the reports at a place; what is no report among them is told of."""
    from warmline.calls.stored_reports import Unreadable, read_reports
    from warmline.pictures.overview import Overview

    if plot is None:
        raise InvalidRequest(f"{place} holds many reports: --plot FILE draws their overview")
    overview = Overview(place, emotion)
    with open_reports(settings, place, "", versions=False) as shelf:
        for found in read_reports(shelf):
            if isinstance(found, Unreadable):
                consoles.notes().print(f"{found.place}: {found.reason}", **PLAIN)
            else:
                overview.add(found.report)
    pictures.write_picture(plot, overview.svg())
