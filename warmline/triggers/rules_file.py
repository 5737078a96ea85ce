"""Reads WARMLINE_TRIGGERS_FILE: TOML with a table `[[rule]]` for each rule; a mistake becomes one sentence."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from config.settings import SettingsError
from warmline.jobs.records import BucketName, Lane, Metadata, Options
from warmline.triggers.patterns import Pattern, Template

MAX_FILE_BYTES: Final = 1024**2
MAX_RULES: Final = 1000

# What the files are called that Warmline's decoders read. Which decoder takes one is decided by its content alone.
RECORDING_SUFFIXES: Final = (
    ".wav", ".wave", ".bwf", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
    ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aac", ".ac3", ".eac3", ".wv", ".tta", ".ape",
    ".amr", ".awb", ".gsm", ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".mka", ".webm",
    ".weba", ".wma", ".wmv", ".asf", ".avi", ".flv", ".mpg", ".mpeg", ".ts",
)  # fmt: skip

_OBJECT, _TAG = "object.", "tag."  # what a field of the metadata begins with that is not the key's
_MEANINGLESS_WITH_SKIP: Final = (*Options.model_fields, "lane", "jobs_per_minute", "rerun", "metadata")
_SENTENCES: Final = {  # for pydantic's own, which name a regular expression
    "name": "give it 1 to 64 letters, digits, spaces, _ or -",
    "bucket": "that is no bucket's name: 3 to 63 small letters, digits, - and .",
    "buckets": "that is no bucket's name: 3 to 63 small letters, digits, - and .",
    "roles": "a role is a small letter and then up to 31 small letters, digits and _",
}


def _is_start_of_key(text: str) -> str:
    if len(text.encode()) > 1024 or "\x00" in text:
        raise ValueError("a prefix has at most 1,024 bytes in UTF-8 and no NUL")
    return text


def _is_pattern(text: str) -> str:
    if text:
        Pattern.parse(text)
    return text


class RuleEntry(Options):
    """One `[[rule]]` as the file has it. Its options are those of its jobs."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 _\-]{1,64}$")]
    bucket: BucketName | None = None
    buckets: Annotated[tuple[BucketName, ...], Field(min_length=1, max_length=100)] | None = None
    prefix: Annotated[str, AfterValidator(_is_start_of_key)] = ""
    suffixes: (
        Annotated[
            tuple[Annotated[str, StringConstraints(min_length=1, max_length=64, to_lower=True)], ...],
            Field(max_length=100),
        ]
        | None
    ) = None  # None: recordings; of a rule that skips: any
    pattern: Annotated[str, AfterValidator(_is_pattern)] = ""
    lane: Lane = "bulk"
    jobs_per_minute: Annotated[StrictInt, Field(ge=0, le=60_000)] | None = None  # None: the settings' own
    rerun: StrictBool = False
    skip: StrictBool = False
    metadata: Metadata = Field(default_factory=dict)

    @property
    def options(self) -> Options:
        """What its jobs are asked to do."""
        return Options.model_validate({name: getattr(self, name) for name in Options.model_fields})

    @property
    def named_buckets(self) -> tuple[str, ...]:
        """Its buckets, each once; none: the first source bucket."""
        return tuple(dict.fromkeys(self.buckets or filter(None, [self.bucket])))

    @cached_property
    def effective_suffixes(self) -> tuple[str, ...]:
        """One of these ends the key; none: any key."""
        if self.suffixes is not None:
            return self.suffixes
        return () if self.skip else RECORDING_SUFFIXES

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.skip and (given := [key for key in _MEANINGLESS_WITH_SKIP if key in self.model_fields_set]):
            raise ValueError(f"it skips, so there is no job for {', '.join(given)}: remove skip, or those")
        if self.bucket is not None and self.buckets is not None:
            raise ValueError("give bucket or buckets, not both")
        pattern = Pattern.parse(self.pattern) if self.pattern else None
        if pattern is not None:
            self._check_reach(pattern)
        known = pattern.fields if pattern is not None else frozenset()
        for line, text in self.metadata.items():
            try:
                fields = Template.parse(text).fields
            except ValueError as error:
                raise ValueError(f"metadata.{line}: {error}") from None
            for field in sorted(fields):
                if field in known or (field.startswith((_OBJECT, _TAG)) and field not in {_OBJECT, _TAG}):
                    continue
                there = f"its fields are {', '.join(sorted(known))}" if known else "the rule has none with fields"
                raise ValueError(
                    f"metadata.{line}: {{{field}}} is not in the pattern ({there}{_near(field, known)}); "
                    "what is not in the key is {object.NAME} or {tag.NAME}"
                )
        return self

    def _check_reach(self, pattern: Pattern) -> None:
        """Raises ValueError where the pattern contradicts the prefix or the suffixes: no key could fit both."""
        end = pattern.end.lower()
        if not pattern.may_begin_with(self.prefix):
            raise ValueError(
                f"no key begins with the prefix {self.prefix!r} and fits the pattern {self.pattern!r}"
            )
        suffixes = self.effective_suffixes
        if end and suffixes and not any(end.endswith(suffix) or suffix.endswith(end) for suffix in suffixes):
            raise ValueError(
                f"no key ends in {pattern.end!r}, as the pattern does, and in one of the suffixes; set those to []"
            )


def read_rules(path: Path) -> Sequence[RuleEntry]:
    """The file's rules, in their order. Raises SettingsError."""
    document = _read(path)
    if unknown := [key for key in document if key != "rule"]:
        raise refusal(path, f"unknown key {unknown[0]!r}{_near(unknown[0], ['rule'])}; rules are tables [[rule]]")
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise refusal(path, "`rule` is no list of tables; begin each rule with [[rule]], in double brackets")
    if not tables:
        raise refusal(path, "there is no [[rule]]; without a file every recording in the source buckets is scored")
    if len(tables) > MAX_RULES:
        raise refusal(path, f"{len(tables):,} rules, and {MAX_RULES:,} are allowed; join some by a pattern")
    entries: dict[str, RuleEntry] = {}
    for number, table in enumerate(tables, start=1):
        where = _name_of(number, table.get("name"))
        try:
            entry = RuleEntry.model_validate(table)
        except ValidationError as error:
            raise refusal(path, f"{where}: {_describe(error, table)}") from None
        if entry.name in entries:
            raise refusal(path, f"{where}: an earlier rule has this name; give each its own")
        entries[entry.name] = entry
    return tuple(entries.values())


def refusal(path: Path, what: str) -> SettingsError:
    """The error for a file that cannot be used as it is."""
    return SettingsError(f"WARMLINE_TRIGGERS_FILE {path}: {what}")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if not path.is_file():
            raise refusal(path, "there is no such file; write it, or set the variable to nothing for no file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refusal(path, f"it cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise refusal(path, f"it is larger than {MAX_FILE_BYTES:,} bytes, which no file of rules needs to be")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise refusal(path, f"it is not UTF-8 at byte {error.start + 1}; save it as UTF-8") from None
    except RecursionError:
        raise refusal(path, "it is nested too deeply; a rule needs one table in another at most") from None
    except (
        ValueError
    ) as error:  # tomllib's own, which says the line; and Python's, of a number with too many digits
        raise refusal(path, f"it is not TOML: {error}") from None


def _name_of(number: int, name: object) -> str:
    return f"rule {number} ({name!r})" if isinstance(name, str) and len(name) <= 64 else f"rule {number}"


def _describe(error: ValidationError, table: Mapping[str, Any]) -> str:
    """The first fault in a sentence, and how many more there are."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    # An unknown key first: it is what the others may come from.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = [str(part) for part in fault["loc"]]
    match fault["type"]:
        case "extra_forbidden":
            known = [name for name in RuleEntry.model_fields if name not in table]
            sentence = f"unknown key {place[0]!r}{_near(place[0], known)}"
        case "missing":
            sentence = f"it has no {place[0]}; each rule needs one"
        case "string_pattern_mismatch" if place[0] in _SENTENCES:
            sentence = f"{place[0]}: {_SENTENCES[place[0]]}"
        case _:
            message = fault["msg"].removeprefix("Value error, ")
            # A fault in a name of the metadata is told of by the name itself, and `[key]`.
            sentence = ": ".join(filter(None, [".".join(part for part in place if part != "[key]"), message]))
    return sentence + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
