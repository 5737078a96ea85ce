"""Patterns that take keys apart, and texts with fields that are filled from what was found.

Keys come from strangers, so a pattern is no regular expression: with several lazy groups one takes time that grows
with a power of the key's length. Here each literal is looked for once, from where the one before it ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

MAX_TEXT = 1024  # characters of a pattern or of a text with fields

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_UNNAMED = "_"


@dataclass(frozen=True)
class Field:
    """A place in a text that stands for something else."""

    name: str


Piece = str | Field


@dataclass(frozen=True)
class _Name:
    """What one name between two slashes looks like."""

    head: str  # the literal that it begins with
    fields: tuple[tuple[str, str], ...]  # each field, and the literal behind it: empty for the last one alone

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Self:
        """From its literals and fields. Raises ValueError where nothing says where a field ends."""
        head, fields = "", list[tuple[str, str]]()
        for piece in pieces:
            if isinstance(piece, Field):
                if fields and not fields[-1][1]:
                    raise ValueError(f"{{{fields[-1][0]}}}{{{piece.name}}}: nothing says where the first one ends")
                fields.append((piece.name, ""))
            elif fields:
                name, literal = fields[-1]
                fields[-1] = (name, literal + piece)
            else:
                head += piece
        return cls(head, tuple(fields))

    @property
    def tail(self) -> str:
        """The literal that it ends with."""
        return self.fields[-1][1] if self.fields else self.head

    def find(self, name: str) -> dict[str, str] | None:
        """Its fields' values; None where the name does not fit."""
        if not self.fields:
            return {} if name == self.head else None
        if not name.startswith(self.head):
            return None
        found, here = {}, len(self.head)
        for field, literal in self.fields[:-1]:
            # The leftmost place leaves the most to what follows: if any place will do, this one does.
            end = name.find(literal, here + 1)
            if end < 0:
                return None
            found[field] = name[here:end]
            here = end + len(literal)
        field, literal = self.fields[-1]
        end = len(name) - len(literal)
        if end <= here or not name.endswith(literal):
            return None
        return {**found, field: name[here:end]}


@dataclass(frozen=True)
class Pattern:
    """What a key looks like, e.g. `calls/{date}/{agent}_{queue}_{id}.wav`.

    A field is one or more characters without `/`. It ends where the literal behind it is found first, so the first
    fields are as short as can be: `{a}_{b}` finds a=`x`, b=`y_z` in `x_y_z`. What a name between two slashes ends
    with in the pattern, it ends with in the key. A key has as many slashes as the pattern. Letters' case matters.
    `{_}` is a field that nobody asks for; `{{` and `}}` are braces.

    The work grows with the key's length and with nothing else of it.
    """

    names: tuple[_Name, ...]  # between its slashes

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its text. Raises ValueError with what is wrong there."""
        names: list[list[Piece]] = [[]]
        for piece in parse_pieces(text):
            if isinstance(piece, Field):
                names[-1].append(piece)
            else:
                first, *others = piece.split("/")
                names[-1].append(first)
                names.extend([other] for other in others)
        pattern = cls(tuple(_Name.of(pieces) for pieces in names))
        fields = [field for name in pattern.names for field, _ in name.fields]
        for field in fields:
            if not _FIELD_NAME.fullmatch(field):
                raise ValueError(f"{{{field}}} is no field of a key: letters, digits and _, at most 32 of them")
            if fields.count(field) > 1 and field != _UNNAMED:
                raise ValueError(f"{{{field}}} is there twice; give one of them another name, or {{_}}")
        return pattern

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields."""
        return frozenset(field for name in self.names for field, _ in name.fields) - {_UNNAMED}

    @property
    def end(self) -> str:
        """What every key that fits ends with."""
        return self.names[-1].tail

    def may_begin_with(self, prefix: str) -> bool:
        """False where no key can both begin with this and fit, as far as the first field."""
        first = next((number for number, name in enumerate(self.names) if name.fields), None)
        start = "/".join(name.head for name in self.names[: None if first is None else first + 1])
        return start.startswith(prefix) or (first is not None and prefix.startswith(start))

    def find(self, key: str) -> dict[str, str] | None:
        """The named fields of a key; None where the key does not fit."""
        parts = key.split("/")
        if len(parts) != len(self.names):
            return None
        found: dict[str, str] = {}
        for name, part in zip(self.names, parts, strict=True):
            fields = name.find(part)
            if fields is None:
                return None
            found |= fields
        found.pop(_UNNAMED, None)
        return found


@dataclass(frozen=True)
class Template:
    """A text with fields, e.g. `{date}-{id}`."""

    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its text. Raises ValueError with what is wrong there."""
        return cls(tuple(parse_pieces(text)))

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Field))

    def fill(self, values: Mapping[str, str]) -> str | None:
        """The text with its fields' values; None where one has none, or an empty one."""
        texts = [values.get(piece.name) if isinstance(piece, Field) else piece for piece in self.pieces]
        filled = [text for text in texts if text]
        return "".join(filled) if len(filled) == len(texts) else None


def parse_pieces(text: str) -> list[Piece]:
    """The literals and fields of a text; a literal may lie in several pieces. Raises ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"it has {len(text):,} characters, and {MAX_TEXT:,} are allowed")
    if "\x00" in text:
        raise ValueError("it holds a NUL")
    pieces: list[Piece] = []
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() > end:
            pieces.append(text[end : token.start()])
        end = token.end()
        match token[0]:
            case "{{" | "}}":
                pieces.append(token[0][0])
            case "{" | "}":
                raise ValueError(f"a lone {token[0]} at character {token.start() + 1}; as a literal it is doubled")
            case _ if not token[1]:
                raise ValueError(f"a field without a name at character {token.start() + 1}")
            case _:
                pieces.append(Field(token[1]))
    if end < len(text):
        pieces.append(text[end:])
    return pieces
