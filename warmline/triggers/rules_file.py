"""Reads WARMLINE_TRIGGERS_FILE: TOML with a table `[[rule]]` for each rule; a mistake becomes one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from config.rule_files import RuleFile, first_fault, near, plain_fault
from warmline.jobs.records import BucketName, Lane, Metadata, Options
from warmline.triggers.patterns import Pattern, Template

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
                    f"metadata.{line}: {{{field}}} is not in the pattern ({there}{near(field, known)}); "
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


def rule_file(path: Path) -> RuleFile:
    """The file, to be read."""
    return RuleFile(path=path, variable="WARMLINE_TRIGGERS_FILE", table="rule", plural="rules", most=MAX_RULES)


def read_rules(file: RuleFile) -> Sequence[RuleEntry]:
    """The file's rules, in their order. Raises SettingsError."""
    tables = file.tables(
        none="without a file every recording in the source buckets is scored", too_many="join some by a pattern"
    )
    entries: dict[str, RuleEntry] = {}
    for number, table in enumerate(tables, start=1):
        where = file.name_of(number, table.get("name"))
        try:
            entry = RuleEntry.model_validate(table, extra="forbid")  # at any depth: a misspelt key is one
        except ValidationError as error:
            left = [name for name in RuleEntry.model_fields if name not in table]
            sentence = first_fault(error, known=left, noun="rule", say=_describe)
            raise file.refusal(f"{where}: {sentence}") from None
        if entry.name in entries:
            raise file.refusal(f"{where}: an earlier rule has this name; give each its own")
        entries[entry.name] = entry
    return tuple(entries.values())


def _describe(fault: ErrorDetails, place: Sequence[str]) -> str:
    if fault["type"] == "string_pattern_mismatch" and place[0] in _SENTENCES:
        return f"{place[0]}: {_SENTENCES[place[0]]}"
    return plain_fault(fault, place)
