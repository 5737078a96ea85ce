"""Which uploads become jobs, and what jobs: the rules of WARMLINE_TRIGGERS_FILE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from config.settings import Settings
from warmline.jobs.records import Lane, Metadata, Options, Source


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: what it applies to, and what job it makes."""

    name: str
    bucket: str
    prefix: str = ""
    suffixes: tuple[str, ...] = ()  # of which the key has one, whatever its case; none: any key
    pattern: str = ""  # e.g. calls/{date}/{agent}_{queue}_{id}.wav; empty: any key
    lane: Lane = "bulk"
    options: Options = field(default_factory=Options)
    metadata: Mapping[str, str] = field(default_factory=dict)  # name -> text with {fields}
    rerun: bool = False  # an upload of what was there before (a copy onto itself) makes a job, too
    jobs_per_minute: int = 0  # pace at which its jobs get into their lane; 0: at once

    @property
    def needs_metadata(self) -> bool:
        """Whether the job's metadata come from the object's."""
        return False

    @property
    def needs_tags(self) -> bool:
        """Whether the job's metadata come from the object's tags."""
        return False


@dataclass(frozen=True, kw_only=True)
class Match:
    """A rule that applies to a key, and what its pattern found there."""

    rule: Rule
    fields: Mapping[str, str] = field(default_factory=dict)

    def metadata(self, object_metadata: Mapping[str, str], tags: Mapping[str, str]) -> Metadata:
        """The job's metadata. A field that the object does not have leaves its line out."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rules, in their order: the first that applies decides."""

    rules: tuple[Rule, ...]
    ignore_prefixes: tuple[str, ...] = ()

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """From the file in the settings, or the rule that stands for no file.

        Raises SettingsError, which names the file and what is wrong: also for a bucket that jobs may not read, and
        where reports would land under a rule's prefix and so trigger themselves.
        """
        return cls(
            rules=tuple(Rule(name=bucket, bucket=bucket) for bucket in settings.s3.source_buckets),
            ignore_prefixes=settings.triggers.ignore_prefixes,
        )

    def match(self, source: Source) -> Match | None:
        """The rule for an object; None where there is none."""
        return next((Match(rule=rule) for rule in self.rules if rule.bucket == source.bucket), None)
