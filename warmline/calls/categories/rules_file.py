"""Reads WARMLINE_CATEGORIES_FILE: TOML with a table `[[category]]` for each; a mistake becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from config.rule_files import RuleFile, first_fault, near, plain_fault
from warmline.calls.categories.conditions import (
    KINDS,
    AnyCondition,
    Name,
    RangedCondition,
    unknown_label,
)
from warmline.calls.report import STANDARD_LABELS

MAX_CATEGORIES: Final = 200
MAX_CONDITIONS: Final = 32  # of one category
MAX_LABELS: Final = 64

LISTS: Final = ("all", "any", "none")
_SENTENCES: Final = {  # for pydantic's own, which name a regular expression
    "name": "a name has 1 to 64 letters, digits, spaces, _ and -, and begins and ends with no space",
    "after": "give the name of another condition",
    "before": "give the name of another condition",
    "role": "a role is a small letter and then up to 31 small letters, digits and _",
    "by": "a role is a small letter and then up to 31 small letters, digits and _",
    "of": "a role is a small letter and then up to 31 small letters, digits and _",
}


@dataclass(frozen=True, kw_only=True)
class Category:
    """It applies where each of `all` holds, one of `any` does where there are some, and each of `none` fails."""

    name: str
    description: str = ""
    all: tuple[AnyCondition, ...] = ()
    any: tuple[AnyCondition, ...] = ()
    none: tuple[AnyCondition, ...] = ()

    @property
    def conditions(self) -> tuple[AnyCondition, ...]:
        """Each of them."""
        return (*self.all, *self.any, *self.none)


class _Head(BaseModel):
    """A category's table without its conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    description: Annotated[str, StringConstraints(strict=True, max_length=500)] = ""


class _Labels(BaseModel):
    labels: Annotated[
        tuple[Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)], ...],
        Field(max_length=MAX_LABELS),
    ] = ()


def categories_file(path: Path, *, variable: str) -> RuleFile:
    """The file, to be read; `variable` names it, or nothing does."""
    return RuleFile(path=path, variable=variable, table="category", plural="categories", most=MAX_CATEGORIES)


def read_categories(file: RuleFile) -> Sequence[Category]:
    """The file's categories, in their order. Raises SettingsError."""
    tables = file.tables(
        beside=("labels",),
        none="without a file no report is matched with anything",
        too_many="join some by `any`",
    )
    labels = _read_labels(file)
    found: dict[str, Category] = {}
    for number, table in enumerate(tables, start=1):
        try:
            category = _Reader(labels).read(table)
        except ValueError as mistake:
            raise file.refusal(f"{file.name_of(number, table.get('name'))}: {mistake}") from None
        if category.name in found:
            raise file.refusal(
                f"{file.name_of(number, category.name)}: an earlier category has this name; give each its own"
            )
        found[category.name] = category
    return tuple(found.values())


def _read_labels(file: RuleFile) -> tuple[str, ...]:
    try:
        return _Labels.model_validate({"labels": file.document().get("labels", ())}).labels
    except ValidationError:
        raise file.refusal(
            f"labels: give a list of up to {MAX_LABELS} names, which a model of your own has beside the usual ones"
        ) from None


class _Reader:
    """Makes a category of its table. What is wrong is a ValueError whose message is one sentence."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels

    def read(self, table: Mapping[str, Any]) -> Category:
        """Raises ValueError."""
        head = self._head({key: value for key, value in table.items() if key not in LISTS})
        lists = {key: tuple(self._conditions(key, table.get(key, []))) for key in LISTS}
        category = Category(name=head.name, description=head.description, **lists)
        if not category.conditions:
            raise ValueError(
                "it asks nothing; give it conditions: [[category.all]], [[category.any]], [[category.none]]"
            )
        if len(category.conditions) > MAX_CONDITIONS:
            raise ValueError(
                f"{len(category.conditions)} conditions, and {MAX_CONDITIONS} are allowed; make two of it"
            )
        _check_relations(category)
        return category

    def _head(self, table: Mapping[str, Any]) -> _Head:
        try:
            return _Head.model_validate(table)
        except ValidationError as error:
            known = [name for name in (*_Head.model_fields, *LISTS) if name not in table]
            raise ValueError(first_fault(error, known=known, noun="category", say=_describe)) from None

    def _conditions(self, key: str, tables: object) -> Iterator[AnyCondition]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"`{key}` is no list of tables; begin each condition with [[category.{key}]]")
        for number, table in enumerate(tables, start=1):
            try:
                yield self._condition(table)
            except ValueError as mistake:
                raise ValueError(f"{key} {number}: {mistake}") from None

    def _condition(self, table: Mapping[str, Any]) -> AnyCondition:
        kind = table.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            said = "it has no kind" if kind is None else f"{kind!r} is no kind{near(str(kind), KINDS)}"
            raise ValueError(f"{said}; there are {', '.join(KINDS)}")
        cls = KINDS[kind]
        try:
            condition = cls.model_validate(table)
        except ValidationError as error:
            known = [name for name in cls.model_fields if name not in table]
            raise ValueError(
                first_fault(error, known=known, noun=f"condition of the kind {kind}", say=_describe)
            ) from None
        label = unknown_label(condition, self._labels)
        if label is not None:
            labels = (*STANDARD_LABELS, *self._labels)
            raise ValueError(
                f"no emotion is called {label!r}{near(label, labels)}; there are {', '.join(labels)}, and those "
                "in the file's `labels`"
            )
        return condition


def _check_relations(category: Category) -> None:
    """Raises ValueError where a condition is after or before what is not there, or cannot be."""
    named: dict[str, AnyCondition] = {}
    for condition in category.conditions:
        if condition.name is None:
            continue
        if condition.name in named:
            raise ValueError(f"two conditions are called {condition.name!r}; give each its own name")
        named[condition.name] = condition
    for condition in category.conditions:
        if not isinstance(condition, RangedCondition) or condition.other is None:
            continue
        word, other = ("after" if condition.after else "before"), named.get(condition.other)
        if other is None:
            raise ValueError(
                f"{word} = {condition.other!r}: no condition of this category has that name"
                f"{near(condition.other, named)}; give the other one a `name`"
            )
        if not isinstance(other, RangedCondition):
            raise ValueError(  # noqa: TRY004 - a mistake in a file, not of a type
                f"{word} = {condition.other!r}: that is about the whole call, and nothing is {word} it"
            )
        if other in category.none:
            raise ValueError(
                f"{word} = {condition.other!r}: that is one of `none`, so where the category applies it is nowhere"
            )
        _refuse_circles(condition, named)


def _refuse_circles(condition: AnyCondition, named: Mapping[str, AnyCondition]) -> None:
    seen = [condition.name]
    at: AnyCondition | None = condition
    while isinstance(at, RangedCondition) and at.other is not None:
        at = named.get(at.other)
        if at is not None and at.name in seen:
            raise ValueError(f"conditions are after or before each other in a circle: {at.name!r} is one of them")
        seen.append(at.name if at is not None else None)


def _describe(fault: ErrorDetails, place: Sequence[str]) -> str:
    if fault["type"] == "string_pattern_mismatch" and place[0] in _SENTENCES:
        return f"{place[0]}: {_SENTENCES[place[0]]}"
    return plain_fault(fault, place)
