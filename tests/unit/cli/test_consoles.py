"""What other people called their calls does not rule the terminal of who looks at them."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from warmline.cli.consoles import PLAIN, Terminal, shown

EVIL = "x\x1b]0;owned\x07\x1b[31mred\x1b[2J\r\x08\x9b31m\u202egpj\u2066.wav"
ORDERS = ("\x1b]", "\x1b[31m", "\x1b[2J", "\x07", "\x08", "\r", "\x9b", "\u202e", "\u2066")


def printed(*, terminal: bool, what: object, **how: object) -> str:
    file = io.StringIO()
    console = Terminal(file=file, width=200, force_terminal=terminal)
    console.print(what, **how)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_call_s_name_gives_a_terminal_no_orders(terminal: bool) -> None:
    table = Table("id", "call", box=None)
    table.add_row("1", Text(f"s3://calls/{EVIL}", style="dim"))
    for text in (
        printed(terminal=terminal, what=table),
        printed(terminal=terminal, what=f"{EVIL}: cancelled", **PLAIN),
        shown(EVIL),
    ):
        assert not any(order in text for order in ORDERS), text
        assert "owned" in text


def test_what_is_no_order_stays_as_it_is_and_so_do_colours() -> None:
    name = "2026/05/Anruf é 客\t[bold]1[/bold].wav\n"
    assert shown(name) == name
    assert "\x1b[" in printed(terminal=True, what="fails", style="red")
