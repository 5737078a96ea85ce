"""`warmline webhooks`: who is told when jobs end, what was posted to them, and posting it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from config.settings import load_settings
from warmline.cli import consoles
from warmline.cli.api_client import ApiClient
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest

app = typer.Typer(
    name="webhooks",
    help="Who is told when jobs and batches end: what was posted, posting it again, trying an address out.",
    no_args_is_help=True,
)

STYLES = {"pending": "yellow", "delivered": "green", "failed": "red"}

OneId = Annotated[str, typer.Argument(help="A delivery's id.")]


@app.command("list")
def list_(
    status: Annotated[str, typer.Option(help="Only pending, delivered or failed ones.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
) -> None:
    """Lists deliveries, newest first, below the addresses and how far they are."""
    params: dict[str, str | int] = {"limit": limit} | ({"status": status} if status else {})
    with ApiClient(load_settings().api) as api:
        state, rows = api.webhooks(), api.deliveries(**params)
    out = consoles.results()
    for line in _state_lines(state):
        out.print(line, **PLAIN)
    if not rows:
        return
    table = _table("id", "event", "ended", "to", "status", "tries", "note")
    for row in rows:
        table.add_row(
            row["id"],
            row["event"],
            _clock(row["created_at"]),
            row["endpoint_id"],
            Text(row["status"], style=STYLES[row["status"]]),
            str(row["tries_made"]),
            Text(_note(row)),
        )
    out.print(table)


@app.command()
def show(delivery_id: OneId) -> None:
    """Shows a delivery with every try and what is posted."""
    with ApiClient(load_settings().api) as api:
        row = api.delivery(delivery_id)
    out = consoles.results()
    for name in ("id", "webhook_id", "event", "subject_id", "endpoint_id", "status", "created_at", "next_try_at"):
        if row[name] is not None:
            out.print(Text(f"{name:12}", style="bold"), Text(str(row[name])), soft_wrap=True)
    if row["tries"]:
        table = _table("try", "seconds", "status", "error")
        for one in row["tries"]:
            table.add_row(
                _clock(one["at"]),
                f"{one['seconds']:.3f}",
                str(one["status_code"] or ""),
                Text(one["error"] or "delivered"),
            )
        out.print()
        out.print(table)
    out.print()
    out.print(row["body"], **PLAIN)


@app.command()
def redeliver(
    delivery_id: Annotated[str, typer.Argument(help="One delivery's id; or use --failed.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up.")] = False,
    since: Annotated[
        str, typer.Option(help="With --failed: only of events since then, as 2026-11-23T06:00Z.")
    ] = "",
) -> None:
    """Posts deliveries again, under the same webhook-id: receivers know what they have had."""
    if bool(delivery_id) == failed or (since and not failed):
        raise InvalidRequest("say which: one delivery's id, or --failed, with --since TIME if not all")
    with ApiClient(load_settings().api) as api:
        if delivery_id:
            api.redeliver(delivery_id)
            count = 1
        else:
            count = api.redeliver_failed(**({"since": _moment(since)} if since else {}))
    consoles.results().print(f"{count} to be posted again")


@app.command()
def test() -> None:
    """Posts a signed test event to every address, from where the API runs. Exit code 1: one did not take it."""
    with ApiClient(load_settings().api) as api:
        trials = api.test_webhooks()
    if not trials:
        raise InvalidRequest("there is nobody to be told: set WARMLINE_WEBHOOKS_URLS for the API")
    out = consoles.results()
    for trial in trials:
        verdict = trial["error"] or f"took it ({trial['status_code']})"
        out.print(f"{trial['url']}: {verdict} {trial['seconds']:.2f} s", **PLAIN)
        if trial["error"] and trial["answer"].strip():
            out.print(f"  {trial['answer'].strip()}", **PLAIN)
    if any(trial["error"] for trial in trials):
        raise typer.Exit(1)


@app.command()
def enable(endpoint_id: Annotated[str, typer.Argument(help="An endpoint's id, as `list` shows it.")]) -> None:
    """Has an endpoint that answered 410 Gone get events again."""
    with ApiClient(load_settings().api) as api:
        endpoint = api.enable_endpoint(endpoint_id)
    consoles.results().print(f"{endpoint['url']} gets what ends from now on", **PLAIN)


@app.command()
def secret() -> None:
    """Makes a secret: for WARMLINE_WEBHOOKS_SECRETS, and for the receiver to verify with."""
    from warmline.webhooks.signing import new_secret

    print(new_secret())


def _state_lines(state: dict[str, Any]) -> list[str]:
    if not state["events"] and not state["endpoints"]:
        return ["Webhooks are off: WARMLINE_WEBHOOKS_URLS of the API is empty."]
    lines = [f"Told: {', '.join(state['events'])}"]
    for endpoint in state["endpoints"]:
        note = f"{endpoint['pending']} pending"
        if endpoint["disabled_at"]:
            note = f"disabled since {_clock(endpoint['disabled_at'])} (410 Gone); {note}"
        lines.append(f"{endpoint['id']}  {endpoint['url']}  {note}")
    counts = ", ".join(f"{state[name]} {name}" for name in ("pending", "delivered", "failed"))
    lines.append(f"{counts}; {state['waiting']} endings wait")
    if not state["delivering"]:
        lines.append("Nobody delivers now: start the API.")
    if state["dropped"]:
        lines.append(f"{state['dropped']} endings were dropped: more waited than WARMLINE_WEBHOOKS_MAX_WAITING")
    return lines


def _note(row: dict[str, Any]) -> str:
    note = row["last_error"] or ""
    if row["status"] == "pending" and row["next_try_at"]:
        note += f" Again at {_clock(row['next_try_at'])}."
    return note.strip()


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no time; write it as 2026-11-23T06:00Z") from None
    return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC).isoformat()


def _clock(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")  # to be copied
    return table
