"""Which uploads become jobs, and what jobs: the rules of WARMLINE_TRIGGERS_FILE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from config.rule_files import RuleFile
from config.settings import Settings, TriggersSettings
from warmline.jobs.records import Lane, Metadata, Options, Source
from warmline.triggers.patterns import Pattern, Template
from warmline.triggers.rules_file import RECORDING_SUFFIXES, RuleEntry, read_rules, rule_file

MAX_VALUE_CHARACTERS = 1024  # of a job's metadata

_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
)  # and halves of surrogate pairs, which JSON cannot say


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
    skip: bool = False  # what it applies to makes no job, and no later rule is asked
    jobs_per_minute: int = 0  # pace at which its jobs get into their lane; 0: at once

    @property
    def needs_metadata(self) -> bool:
        """Whether the job's metadata come from the object's."""
        return any(name.startswith("object.") for name in self.asked_for)

    @property
    def needs_tags(self) -> bool:
        """Whether the job's metadata come from the object's tags."""
        return any(name.startswith("tag.") for name in self.asked_for)

    def examine(self, source: Source) -> Match | str:
        """What the rule makes of an object; or in a few words why it does not apply."""
        if source.bucket != self.bucket:
            return f"for the bucket {self.bucket}"
        if not source.key.startswith(self.prefix):
            return f"for keys below {self.prefix}"
        if self.suffixes and not source.key.lower().endswith(self.suffixes):
            return "for other suffixes"
        if self._parsed is None:
            return Match(rule=self)
        fields = self._parsed.find(source.key)
        return Match(rule=self, fields=fields) if fields is not None else f"for keys like {self.pattern}"

    def takes_all_of(self, other: Rule) -> bool:
        """Whether this rule, asked first, leaves the other one nothing. False where that is not plain to see."""
        suffixes_fit = not self.suffixes or (
            bool(other.suffixes) and all(suffix.endswith(self.suffixes) for suffix in other.suffixes)
        )
        return (
            self.bucket == other.bucket
            and other.prefix.startswith(self.prefix)
            and self.pattern in {"", other.pattern}
            and suffixes_fit
        )

    @cached_property
    def templates(self) -> Mapping[str, Template]:
        """The metadata's texts."""
        return {name: Template.parse(text) for name, text in self.metadata.items()}

    @cached_property
    def asked_for(self) -> frozenset[str]:
        """The fields that the metadata's texts name."""
        return frozenset[str]().union(*(template.fields for template in self.templates.values()))

    @cached_property
    def _parsed(self) -> Pattern | None:
        return Pattern.parse(self.pattern) if self.pattern else None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A rule that applies to a key, and what its pattern found there."""

    rule: Rule
    fields: Mapping[str, str] = field(default_factory=dict)

    def metadata(self, object_metadata: Mapping[str, str], tags: Mapping[str, str]) -> Metadata:
        """The job's metadata. A field that the object does not have, or has empty, leaves its line out.

        Control characters are left out of the values, which end after MAX_VALUE_CHARACTERS.
        """
        values = dict(self.fields)
        values |= {f"tag.{name}": value for name, value in tags.items()}
        given = {name.lower(): value for name, value in object_metadata.items()}
        # The names of an object's metadata are HTTP headers: their case means nothing.
        values |= {
            name: given[name.removeprefix("object.").lower()]
            for name in self.rule.asked_for
            if name.startswith("object.") and name.removeprefix("object.").lower() in given
        }
        clean = {name: _CONTROLS.sub("", value) for name, value in values.items()}
        filled = ((name, template.fill(clean)) for name, template in self.rule.templates.items())
        return {name: text[:MAX_VALUE_CHARACTERS] for name, text in filled if text}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rules, in their order: the first that applies decides."""

    rules: tuple[Rule, ...]
    ignore_prefixes: tuple[str, ...] = ()
    reports: tuple[str, str] | None = None  # bucket and prefix of the reports, which are never taken for calls

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """From the file in the settings, or the rules that stand for no file.

        Raises SettingsError, which names the file and what is wrong: also for a bucket that jobs may not read, and
        where reports would land under a rule's prefix and so trigger themselves.
        """
        triggers, s3 = settings.triggers, settings.s3
        file = rule_file(Path(triggers.file).expanduser())
        if triggers.file:
            rules = tuple(rule for entry in read_rules(file) for rule in _rules_of(entry, settings, file))
        else:
            rules = _without_file(s3.source_buckets, triggers)
        made = cls(
            rules=rules,
            ignore_prefixes=triggers.ignore_prefixes,
            reports=(s3.results_bucket, s3.results_prefix),
        )
        if triggers.file:
            made._refuse_loops(file)
        return made

    def match(self, source: Source) -> Match | None:
        """The rule for an object; None where there is none, or one that skips it."""
        if self.why_unseen(source) is not None:
            return None
        for rule in self.rules:
            found = rule.examine(source)
            if isinstance(found, Match):
                return None if rule.skip else found
        return None

    def why_unseen(self, source: Source) -> str | None:
        """Why no rule is asked about an object; None where they are."""
        if source.key.endswith("/"):
            return "a folder is no recording"
        ignored = next((prefix for prefix in self.ignore_prefixes if source.key.startswith(prefix)), None)
        if ignored is not None:
            return f"WARMLINE_TRIGGERS_IGNORE_PREFIXES has {ignored}"
        if self.reports is not None:
            bucket, prefix = self.reports
            if source.bucket == bucket and source.key.startswith(prefix):
                return "this is where reports are written"
        return None

    def warnings(self) -> Sequence[str]:
        """A sentence for each rule that is never asked about anything, because others are before it."""
        found = []
        for number, rule in enumerate(self.rules):
            ignored = next((prefix for prefix in self.ignore_prefixes if rule.prefix.startswith(prefix)), None)
            taker = next((earlier for earlier in self.rules[:number] if earlier.takes_all_of(rule)), None)
            if ignored is not None:
                found.append(f"{rule.name!r} never applies: WARMLINE_TRIGGERS_IGNORE_PREFIXES has {ignored}")
            elif taker is not None:
                found.append(f"{rule.name!r} never applies: {taker.name!r} before it takes all its keys")
        return found

    def _refuse_loops(self, file: RuleFile) -> None:
        """Raises SettingsError where reports would land under a rule's prefix."""
        if self.reports is None:
            return
        bucket, reports = self.reports
        for number, rule in enumerate(self.rules):
            one_in_other = reports.startswith(rule.prefix) or rule.prefix.startswith(reports)
            if rule.skip or rule.bucket != bucket or not one_in_other:
                continue
            both = max(reports, rule.prefix, key=len)  # what lies below this is below either
            skipped = any(
                earlier.skip
                and earlier.bucket == bucket
                and both.startswith(earlier.prefix)
                and not earlier.suffixes
                and not earlier.pattern
                for earlier in self.rules[:number]
            )
            if not skipped and not any(both.startswith(prefix) for prefix in self.ignore_prefixes):
                raise file.refusal(
                    f"rule {rule.name!r}: reports, written to s3://{bucket}/{reports}, would land "
                    f"under its prefix {rule.prefix!r} and trigger themselves; set WARMLINE_S3_RESULTS_BUCKET or "
                    "WARMLINE_S3_RESULTS_PREFIX to another place, or skip that prefix in a rule before this one",
                )


def _without_file(buckets: Sequence[str], triggers: TriggersSettings) -> tuple[Rule, ...]:
    """Every recording in the source buckets, in the bulk lane."""
    return tuple(
        Rule(
            name="default" if len(buckets) == 1 else f"default {bucket}",
            bucket=bucket,
            suffixes=RECORDING_SUFFIXES,
            jobs_per_minute=triggers.jobs_per_minute,
        )
        for bucket in buckets
    )


def _rules_of(entry: RuleEntry, settings: Settings, file: RuleFile) -> Iterator[Rule]:
    """An entry's rule for each of its buckets. Raises SettingsError for one that jobs may not read."""
    allowed = settings.s3.source_buckets
    pace = settings.triggers.jobs_per_minute if entry.jobs_per_minute is None else entry.jobs_per_minute
    for bucket in entry.named_buckets or allowed[:1]:
        if bucket not in allowed:
            raise file.refusal(
                f"rule {entry.name!r}: the bucket {bucket!r} is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS; "
                "add it there",
            )
        yield Rule(
            name=entry.name,
            bucket=bucket,
            prefix=entry.prefix,
            suffixes=entry.effective_suffixes,
            pattern=entry.pattern,
            lane=entry.lane,
            options=entry.options,
            metadata=entry.metadata,
            rerun=entry.rerun,
            skip=entry.skip,
            jobs_per_minute=pace,
        )
