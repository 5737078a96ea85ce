"""The `warmline` command: puts the subcommands together and turns every error into one line.

Exit codes: 0 all went well, 1 something failed, 2 the command or the settings are wrong, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from config.settings import SettingsError
from warmline.cli import (
    aggregate,
    analyze,
    api_commands,
    bench,
    buckets,
    consoles,
    dashboard,
    dead_letters,
    demo,
    doctor,
    export,
    logs,
    model,
    reconcile,
    report,
    rules,
    schema,
    stack,
    triggers,
    webhooks,
)
from warmline.jobs.errors import WarmlineError

# What an installation for clients alone, as the API's image is one, does not have.
_OF_WORKERS = {"av", "modelscope", "numpy", "openvino", "pyarrow", "soundfile", "torch"}

app = typer.Typer(
    name="warmline",
    help="Scores emotion in recorded calls, in bulk, with a model that is always warm.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("analyze")(analyze.analyze)
app.command("demo")(demo.demo)
app.command("submit")(api_commands.submit)
app.command("watch")(api_commands.watch)
app.command("cancel")(api_commands.cancel)
app.command("jobs")(api_commands.jobs)
app.command("batches")(api_commands.batches)
app.command("report")(report.report)
app.command("reconcile")(reconcile.reconcile)
app.command("export")(export.export)
app.command("aggregate")(aggregate.aggregate)
app.command("schema")(schema.schema)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(model.app, name="model")
app.add_typer(triggers.app, name="triggers")
app.add_typer(rules.app, name="rules")
app.add_typer(webhooks.app, name="webhooks")
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("dashboard")(dashboard.dashboard)
app.command("logs")(logs.logs)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("buckets")(buckets.buckets)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"warmline {version('warmline')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """Entry point: runs the command, and says what went wrong in one line."""
    try:
        app()
    except WarmlineError as error:
        print(f"warmline: {consoles.shown(error.message)} [{error.code}]", file=sys.stderr)
        sys.exit(1)
    except SettingsError as error:
        print(f"warmline: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in _OF_WORKERS:
            raise
        print(
            f"warmline: this command needs {error.name}, which is not installed here: run "
            "`pip install 'warmline[worker]'`, or take the worker's image.",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`warmline jobs | head`): not an error, and nobody to tell.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
