"""Files of rules in TOML, read with care: they have limits, and a mistake in one becomes one sentence.

A file is a list of tables, `[[rule]]` or `[[category]]`; what a table means is its reader's own affair.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.settings import SettingsError

MAX_FILE_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True)
class RuleFile:
    """One such file."""

    path: Path
    variable: str  # that names it; "" where a command line did
    table: str  # what each table is called, e.g. rule
    plural: str  # e.g. rules
    most: int  # tables that are allowed

    def refusal(self, what: str) -> SettingsError:
        """The error for a file that cannot be used as it is."""
        return SettingsError(f"{self.variable} {self.path}: {what}".lstrip())

    def tables(self, *, beside: Collection[str] = (), none: str, too_many: str) -> Sequence[Mapping[str, Any]]:
        """The tables, in their order. Raises SettingsError.

        `beside` are other keys that the file may have. `none` and `too_many` are said of a file without a table,
        and of one with more than are allowed.
        """
        document = self.document()
        known = [self.table, *beside]
        if unknown := [key for key in document if key not in known]:
            raise self.refusal(
                f"unknown key {unknown[0]!r}{near(unknown[0], known)}; {self.plural} are tables [[{self.table}]]"
            )
        tables = document.get(self.table, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.refusal(
                f"`{self.table}` is no list of tables; begin each {self.table} with [[{self.table}]], in double "
                "brackets"
            )
        if not tables:
            raise self.refusal(f"there is no [[{self.table}]]; {none}")
        if len(tables) > self.most:
            raise self.refusal(f"{len(tables):,} {self.plural}, and {self.most:,} are allowed; {too_many}")
        return tables

    def document(self) -> Mapping[str, Any]:
        """All that the file says. Raises SettingsError."""
        try:
            if not self.path.is_file():
                mend = ", or set the variable to nothing for no file" if self.variable else ""
                raise self.refusal(f"there is no such file; write it{mend}")
            with self.path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            raise self.refusal(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from None
        if len(content) > MAX_FILE_BYTES:
            raise self.refusal(f"it is larger than {MAX_FILE_BYTES:,} bytes, which no file of rules needs to be")
        try:
            return tomllib.loads(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise self.refusal(f"it is not UTF-8 at byte {error.start + 1}; save it as UTF-8") from None
        except RecursionError:
            raise self.refusal("it is nested too deeply; a rule needs one table in another at most") from None
        except ValueError as error:
            # tomllib's own, which says the line; and Python's, of a number with too many digits
            raise self.refusal(f"it is not TOML: {error}") from None

    def name_of(self, number: int, name: object) -> str:
        """How to speak of a table before it is known to be good."""
        return (
            f"{self.table} {number} ({name!r})"
            if isinstance(name, str) and len(name) <= 64
            else f"{self.table} {number}"
        )


def first_fault(
    error: ValidationError,
    *,
    known: Iterable[str],
    noun: str,
    say: Callable[[ErrorDetails, Sequence[str]], str],
) -> str:
    """The first fault of a table in a sentence, and how many more there are.

    `known` are the keys that the table could have had besides those it has; `noun` is what it is, e.g. rule; `say`
    makes a sentence of any other fault, whose place in the table it is given.
    """
    faults = error.errors(include_url=False, include_input=False)
    # An unknown key first: it is what the others may come from.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = [str(part) for part in fault["loc"]]
    match fault["type"]:
        case "extra_forbidden":
            sentence = f"unknown key {place[0]!r}{near(place[0], known)}"
        case "missing":
            sentence = f"it has no {place[0]}; each {noun} needs one"
        case _:
            sentence = say(fault, place)
    return sentence + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")


def plain_fault(fault: ErrorDetails, place: Sequence[str]) -> str:
    """pydantic's own sentence, after the key that it is about."""
    message = fault["msg"].removeprefix("Value error, ")
    # A fault in a table's own key is told of by the key itself, and `[key]`.
    return ": ".join(filter(None, [".".join(part for part in place if part != "[key]"), message]))


def near(name: str, known: Iterable[str]) -> str:
    """A hint, where something that is known is spelled nearly so."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
