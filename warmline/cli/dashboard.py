"""`warmline dashboard`: where the page is that shows what is going on, and how to get in."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from config.settings import STACK_ENV_FILE, Settings, SettingsError, load_settings
from warmline.cli import consoles

PATH = "/dashboard"


def dashboard(
    key: Annotated[
        bool, typer.Option("--key", help="Print the API key alone, to be pasted, and open nothing.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
) -> None:
    """Opens the page that shows lanes, workers, batches and the newest calls as they change."""
    settings = load_settings()
    if key:
        if not settings.api.keys:
            raise SettingsError("WARMLINE_API_KEYS is empty: the page needs no key, or no stack runs here")
        typer.echo(settings.api.keys[0].get_secret_value())
        return
    notes = consoles.notes()
    notes.print(f"{address(settings)}", markup=False, highlight=False, soft_wrap=True)
    notes.print(way_in(settings), markup=False, highlight=False, soft_wrap=True)
    if browser and not webbrowser.open(address(settings)):
        notes.print("There is no browser here: open that address in one.")


def address(settings: Settings) -> str:
    """The page's address. It never holds a key: addresses are kept in histories and logs."""
    return f"{settings.api.base_url}{PATH}"


def way_in(settings: Settings) -> str:
    """For people: what the page asks for."""
    if not settings.api.keys:
        return "It needs no key."
    file = settings.stack.data_dir / STACK_ENV_FILE
    if not file.exists():
        return "It asks for an API key: one of WARMLINE_API_KEYS."
    command = f"{consoles.command()} dashboard --key"
    return f"It asks for the API key: `{command}` prints it (WARMLINE_API_KEYS in {file})."
