"""What `warmline triggers` shows: the rules, and what becomes of an upload. Nothing is entered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from config.settings import Settings
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import JobNotFound, ObjectNotFound, WarmlineError
from warmline.jobs.records import Options, Source
from warmline.jobs.upload_ledger import UploadLedger
from warmline.objects.events import Decoded, Upload
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Match, Rule, Rules
from warmline.triggers.rules_file import RECORDING_SUFFIXES

PATIENCE_SECONDS = 3.0  # for a store or a Redis that may not be there: the rules are answer enough


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An upload as the store and Redis know it."""

    object: str
    job: str = ""
    metadata: Mapping[str, str] | None = None  # None: nothing is known of them


class Desk:
    """Says what becomes of uploads, and enters nothing."""

    def __init__(
        self, rules: Rules, intake: Intake, ledger: UploadLedger, store: ObjectStore, *, look: bool
    ) -> None:
        self._rules = rules
        self._intake = intake
        self._ledger = ledger
        self._store = store
        self._look = look
        self._out = consoles.results()

    def show_key(self, source: Source) -> bool:
        """Shows which rule takes a key, and its job. Whether there is one."""
        self._out.print(visible(source.uri), style="bold", **PLAIN)
        self._out.print(self._verdicts(source))
        match = self._rules.match(source)
        why_none = self._why_none(source)
        if match is None or why_none:
            self._out.print(f"No job: {why_none}.", **PLAIN)
            return False
        rule = match.rule
        self._out.print(f"A job, by the rule {rule.name!r}:", **PLAIN)
        self._fact("lane", f"{rule.lane}, {_pace(rule)}")
        self._fact("options", "; ".join(_options_in_words(rule.options)))
        seen = self._seen(Upload(source=source, dialect="", name=""), match)
        known = match.metadata({}, {}) if seen.metadata is None else seen.metadata
        why = "known when it is uploaded" if seen.metadata is None else "not there"
        for name, text in rule.metadata.items():
            self._fact("metadata", f"{name} = {known[name]}" if name in known else f"{name}: {text}, {why}")
        self._fact("object", seen.object)
        if rule.rerun:
            self._fact("job", "each upload gets its own, even of what was there before")
        elif seen.job:
            self._fact("job", seen.job)
        return True

    def show_event(self, decoded: Decoded) -> bool:
        """Shows each upload of an event, and its job. Whether any has one."""
        found = False
        table = _table("object", "event", "rule", "job")
        for upload in decoded.uploads:
            match = self._rules.match(upload.source)
            why_none = self._why_none(upload.source)
            if match is None or why_none:
                rule, job = "", f"none: {why_none}"
            else:
                seen = self._seen(upload, match)
                found, rule, job = True, match.rule.name, seen.job or f"the object is {seen.object}"
            table.add_row(*_cells(upload.source.uri, f"{upload.dialect} {upload.name}", rule, job))
        self._out.print(table if decoded.uploads else "It announces no upload.")
        for why, count in decoded.skipped.items():
            self._out.print(f"{count} left out: {why.replace('_', ' ')}", **PLAIN)
        for sentence in decoded.malformed:
            self._out.print(f"malformed: {visible(sentence)}", **PLAIN)
        return found

    def _verdicts(self, source: Source) -> Table:
        table = _table("rule", "applies?")
        decided = self._rules.why_unseen(source) is not None
        for rule in self._rules.rules:
            examined = rule.examine(source)
            if decided:
                verdict = Text("not asked", style="dim")
            elif isinstance(examined, str):
                verdict = Text(visible(f"no, it is {examined}"))
            else:
                decided = True
                verdict = Text("yes, and makes no job", "yellow") if rule.skip else Text("yes", "green")
            table.add_row(Text(rule.name), verdict)
        return table

    def _why_none(self, source: Source) -> str:
        """Why there is no job; empty where there is one."""
        try:
            self._store.check_allowed(source.bucket)
        except WarmlineError as error:
            return error.message.rstrip(".")
        unseen = self._rules.why_unseen(source)
        if unseen is not None:
            return unseen
        taker = next((rule for rule in self._rules.rules if isinstance(rule.examine(source), Match)), None)
        if taker is None:
            return "no rule applies"
        return f"the rule {taker.name!r} skips it" if taker.skip else ""

    def _seen(self, upload: Upload, match: Match) -> _Seen:
        if not self._look:
            return _Seen(object="not asked for")
        try:
            asked = self._intake.job_for(upload, match)
        except ObjectNotFound:
            return _Seen(object="not there now")
        except WarmlineError as error:
            return _Seen(object=f"not known: {error.message}")
        job_id = asked.job.id
        try:
            job = f"{job_id}, {self._ledger.get(job_id).status.value}"
        except JobNotFound:
            job = f"{job_id}, to be entered"
        except WarmlineError as error:
            job = f"{job_id}; whether it is entered is not known: {error.message}"
        return _Seen(object="there", job=job, metadata=asked.job.metadata)

    def _fact(self, name: str, value: str) -> None:
        self._out.print(Text(f"  {name:10}", style="dim"), Text(visible(value)), soft_wrap=True)


@contextmanager
def open_desk(settings: Settings, rules: Rules, *, look: bool) -> Iterator[Desk]:
    """A desk at the store and the Redis of the settings; without `look` it asks neither."""
    patience = {"timeout_seconds": min(PATIENCE_SECONDS, settings.s3.timeout_seconds)}
    store = ObjectStore(settings.s3.model_copy(update=patience), attempts=1)
    patience = {"timeout_seconds": min(PATIENCE_SECONDS, settings.redis.timeout_seconds)}
    ledger = UploadLedger.connect(settings.redis.model_copy(update=patience), settings.jobs)
    with closing(Intake(settings, rules, ledger, store)) as intake:
        yield Desk(rules, intake, ledger, store, look=look)


def rules_table(rules: Rules) -> Table:
    """A line for each rule."""
    table = _table("rule", "bucket", "prefix", "suffixes", "pattern", "then")
    for rule in rules.rules:
        suffixes = "recordings" if rule.suffixes == RECORDING_SUFFIXES else " ".join(rule.suffixes) or "any"
        table.add_row(*_cells(rule.name, rule.bucket, rule.prefix, suffixes, rule.pattern, _consequence(rule)))
    return table


def visible(text: str) -> str:
    """A stranger's text with nothing in it that a terminal would act on."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _consequence(rule: Rule) -> str:
    if rule.skip:
        return "no job"
    granularity, *others = _options_in_words(rule.options, between=" ")
    metadata = f", metadata {' '.join(rule.metadata)}" if rule.metadata else ""
    again = ", each upload" if rule.rerun else ""
    options = ", ".join([granularity.removeprefix("granularity "), *others])
    return f"{rule.lane}, {_pace(rule)}, {options}{metadata}{again}"


def _options_in_words(options: Options, between: str = ", ") -> Iterator[str]:
    """What its jobs are asked to do: the granularity, and what else is not as it is without being asked for."""
    hop = f", hop {options.hop_seconds:g} s" if options.granularity == "frame" else ""
    yield f"granularity {options.granularity}{hop}"
    if options.roles:
        yield f"roles {between.join(options.roles)}"
    if options.exclude:
        ranges = (f"{each.start_seconds:g}-{each.end_seconds:g} s" for each in options.exclude)
        yield f"excluded {between.join(ranges)}"
    if options.embedding != "none":
        yield f"embeddings {options.embedding}"
    if options.split_speakers:
        yield "two speakers"


def _pace(rule: Rule) -> str:
    return f"{rule.jobs_per_minute:,} a minute" if rule.jobs_per_minute else "at once"


def _cells(*texts: str) -> Iterator[Text]:
    return (Text(visible(text)) for text in texts)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
