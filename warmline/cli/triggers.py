"""`warmline triggers`: what the rules are, and what an upload would lead to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from config.settings import Settings, load_settings
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Source
from warmline.triggers.rules import Rules

app = typer.Typer(
    name="triggers",
    help="Uploads that become jobs by themselves: what the rules are, and what they make of a key.",
    no_args_is_help=True,
)

MAX_EVENT_BYTES = 16 * 1024**2

Look = Annotated[
    bool, typer.Option(help="Ask the store for the object, and Redis for its job, where they can be reached.")
]


@app.command()
def check() -> None:
    """Checks the rules and shows them in the order in which they are asked. Exit code 2: they cannot be used."""
    from warmline.cli.trigger_view import rules_table

    settings = load_settings()
    rules = Rules.load(settings)
    out = consoles.results()
    out.print(_origin(settings), style="dim", **PLAIN)
    out.print(rules_table(rules))
    if rules.ignore_prefixes:
        ignored = ", ".join(rules.ignore_prefixes)
        out.print(f"No rule sees keys below {ignored} (WARMLINE_TRIGGERS_IGNORE_PREFIXES).", **PLAIN)
    for warning in rules.warnings():
        consoles.notes().print(f"warning: {warning}", style="yellow", **PLAIN)


@app.command("test")
def try_out(
    key: Annotated[str, typer.Argument(help="A key, or s3://bucket/key; it need not be there.")] = "",
    bucket: Annotated[str, typer.Option(help="The key's bucket; the first source bucket unless given.")] = "",
    event: Annotated[
        Path | None, typer.Option(help="Instead of a key, a file with an event as its store sent it; - for stdin.")
    ] = None,
    look: Look = True,
) -> None:
    """Shows what an upload would lead to; enters nothing. Exit code 0 only when a rule makes a job of it."""
    from warmline.cli.trigger_view import open_desk
    from warmline.objects.events import decode

    if bool(key) == (event is not None):
        raise InvalidRequest("say what was uploaded: a key, or --event FILE")
    settings = load_settings()
    rules = Rules.load(settings)
    source = _source(key, bucket, settings) if event is None else None
    decoded = decode(_read_event(event)) if event is not None else None
    consoles.results().print(_origin(settings), style="dim", **PLAIN)
    with open_desk(settings, rules, look=look) as desk:
        makes_a_job = (source is not None and desk.show_key(source)) or (
            decoded is not None and desk.show_event(decoded)
        )
    if not makes_a_job:
        raise typer.Exit(1)


def _source(key: str, bucket: str, settings: Settings) -> Source:
    if key.startswith("s3://"):
        named, _, key = key.removeprefix("s3://").partition("/")
        if bucket not in {"", named}:
            raise InvalidRequest(f"the key is in the bucket {named}, and --bucket says {bucket}")
        bucket = named
    try:
        return Source(bucket=bucket or next(iter(settings.s3.source_buckets), ""), key=key)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{fault['loc'][0]}: {fault['msg'].removeprefix('Value error, ')}") from None


def _read_event(path: Path) -> bytes:
    try:
        if str(path) == "-":
            body = sys.stdin.buffer.read(MAX_EVENT_BYTES + 1)
        else:
            with path.open("rb") as file:
                body = file.read(MAX_EVENT_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidRequest(f"{path} is larger than any event: {MAX_EVENT_BYTES:,} bytes are read")
    return body


def _origin(settings: Settings) -> str:
    file = settings.triggers.file
    return f"The rules of {file}" if file else "No WARMLINE_TRIGGERS_FILE: every recording in the source buckets"
