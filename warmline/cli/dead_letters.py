"""`warmline dead-letters`: looks at jobs that were given up, runs them again, or forgets them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from config.settings import load_settings
from warmline.cli import consoles, job_tables
from warmline.cli.api_client import ApiClient
from warmline.jobs.errors import InvalidRequest

app = typer.Typer(
    name="dead-letters",
    help="Jobs that were given up after too many attempts: look at them, run them again, forget them.",
    no_args_is_help=True,
)

OneId = Annotated[str, typer.Argument(help="One job's id; or use --batch or --all.")]
OfBatch = Annotated[str, typer.Option("--batch", help="Those of this batch.")]
Everyone = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_(
    batch: OfBatch = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
) -> None:
    """Lists dead letters, newest first."""
    params: dict[str, str | int] = {"limit": limit} | ({"batch_id": batch} if batch else {})
    with ApiClient(load_settings().api) as api:
        rows = api.dead_letters(**params)
    job_tables.show_jobs(consoles.results(), rows)


@app.command()
def show(job_id: Annotated[str, typer.Argument(help="A job's id.")]) -> None:
    """Shows a job with its last error and every attempt at it."""
    with ApiClient(load_settings().api) as api:
        state = api.job(job_id)
    out = consoles.results()
    for name, value in job_tables.facts(state):
        out.print(Text(f"{name:10}", style="bold"), Text(value), soft_wrap=True)
    if state.attempts:
        out.print()
        out.print(job_tables.attempts_table(state.attempts))


@app.command()
def replay(job_id: OneId = "", batch: OfBatch = "", everyone: Everyone = False) -> None:
    """Runs dead letters again. With --batch, or by its id, a job that failed is run again too."""
    _choose_one(job_id, batch, everyone)
    with ApiClient(load_settings().api) as api:
        if job_id:
            api.replay(job_id)
            count = 1
        else:
            count = api.replay_batch(batch) if batch else api.replay_dead_letters()
    consoles.results().print(f"{count} to run again")


@app.command()
def purge(
    job_id: OneId = "",
    batch: OfBatch = "",
    everyone: Everyone = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forgets dead letters for good; their calls stay in S3."""
    _choose_one(job_id, batch, everyone)
    with ApiClient(load_settings().api) as api:
        if not yes:
            what = job_id or (f"all dead letters of batch {batch}" if batch else "all dead letters")
            typer.confirm(f"Forget {what} for good?", abort=True, err=True)
        of_batch = {"batch_id": batch} if batch else {}
        count = api.purge(job_id) if job_id else api.purge_dead_letters(**of_batch)
    consoles.results().print(f"{count} purged")


def _choose_one(job_id: str, batch: str, everyone: bool) -> None:
    if sum(map(bool, (job_id, batch, everyone))) != 1:
        raise InvalidRequest("say which: one id, or --batch ID, or --all")
