"""Parts of a call, as a rule names them: `last third`, `first 30 s`, `20% to 50%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

SHARES = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5, "tenth": 1 / 10}
EXAMPLES = "'whole', 'first half', 'last third', 'first 30 s', 'last 10%', '60 s to 120 s' or '20% to 50%'"

_NUMBER = r"(\d{1,6}(?:\.\d{1,3})?)"
_AT_AN_END = re.compile(rf"(first|last) (?:({'|'.join(SHARES)})|{_NUMBER} ?(s|%))")
_FROM_TO = re.compile(rf"{_NUMBER} ?(s|%) to {_NUMBER} ?(s|%)")


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Where a part begins or ends: so much of the call's length, and so many milliseconds, from its start."""

    share: float = 0.0
    milliseconds: int = 0

    def of(self, duration_ms: int) -> int:
        """In a call of this length, in milliseconds; never outside of it."""
        return min(max(round(self.share * duration_ms) + self.milliseconds, 0), duration_ms)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a call."""

    text: str  # as a person writes it, in one way only
    start: Edge
    end: Edge

    def bounds(self, duration_ms: int) -> tuple[int, int]:
        """From and to, in milliseconds of a call of this length; empty where the call has no such part."""
        start_ms, end_ms = self.start.of(duration_ms), self.end.of(duration_ms)
        return start_ms, max(start_ms, end_ms)

    @property
    def whole(self) -> bool:
        """Whether it is all of the call."""
        return self.text == "whole"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, whose message says what a part looks like."""
        words = " ".join(text.split())
        if words == "whole":
            return cls(text=words, start=Edge(), end=Edge(share=1.0))
        if found := _AT_AN_END.fullmatch(words):
            end, share, number, unit = found.groups()
            size = Edge(share=SHARES[share]) if share else _edge(number, unit)
            _refuse_nothing(size)
            name = share or _size_text(number, unit)
            if end == "first":
                return cls(text=f"first {name}", start=Edge(), end=size)
            start = Edge(share=1.0 - size.share, milliseconds=-size.milliseconds)
            return cls(text=f"last {name}", start=start, end=Edge(share=1.0))
        if (found := _FROM_TO.fullmatch(words)) and found[2] == found[4]:
            start, end_edge = _edge(found[1], found[2]), _edge(found[3], found[4])
            if (start.share, start.milliseconds) >= (end_edge.share, end_edge.milliseconds):
                raise ValueError(f"{words!r} ends before it begins")
            text = f"{_size_text(found[1], found[2])} to {_size_text(found[3], found[4])}"
            return cls(text=text, start=start, end=end_edge)
        raise ValueError(f"{text!r} is no part of a call; write {EXAMPLES}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from text, and written as text."""
        return core_schema.no_info_after_validator_function(
            cls.parse,
            core_schema.str_schema(strict=True, max_length=64),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda part: part.text),
        )


WHOLE = Part.parse("whole")


def _edge(number: str, unit: str) -> Edge:
    if unit == "s":
        return Edge(milliseconds=round(float(number) * 1000))
    if float(number) > 100:
        raise ValueError(f"{number}% is more than the call")
    return Edge(share=float(number) / 100)


def _refuse_nothing(size: Edge) -> None:
    if not size.share and not size.milliseconds:
        raise ValueError("a part of no length holds nothing")


def _size_text(number: str, unit: str) -> str:
    return f"{float(number):g}" + (" s" if unit == "s" else "%")
