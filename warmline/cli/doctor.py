"""`warmline doctor`: says what is wrong with this machine or its settings, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from config.logging import configure_logging
from config.settings import LogSettings, Settings, load_settings
from warmline.cli import consoles
from warmline.cli.plan_view import show_plan

if TYPE_CHECKING:
    from warmline.local.checks.findings import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout: an array of findings, or the plan.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Only how a worker would use this machine, and how fast that is (5 s measured)."
        ),
    ] = False,
) -> None:
    """Looks at the machine, the software, the settings and the services; exit code 0 only when nothing fails."""
    settings = load_settings()  # a variable that is unknown or bad ends it here, with its name
    configure_logging(LogSettings(level="ERROR", format="console"), process="doctor")
    if plan:
        show_plan(settings, as_json=as_json)
        return
    if as_json:
        with consoles.stdout_for_results_only() as out:
            findings = list(_examine(settings))
            out.write(f"[{', '.join(finding.model_dump_json() for finding in findings)}]\n")
    else:
        findings = list(_shown(_examine(settings)))
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


def _examine(settings: Settings) -> Iterator[Finding]:
    from warmline.local.checks import machine, rules, services, software

    checks = (
        machine.python, machine.memory, machine.disk, machine.proxies, machine.device,
        software.packages, software.torchaudio, software.servers, software.model, rules.triggers, rules.categories,
        services.ports, services.redis, services.s3, services.api, services.worker,
        services.webhooks,
    )  # fmt: skip
    for check in checks:
        yield from check(settings)


def _shown(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Shows each finding when it is made: some checks take seconds."""
    out = consoles.results()
    for finding in findings:
        line = Text(f"{finding.verdict:<5}", style=_COLOURS[finding.verdict])
        line.append(f"{finding.check:<20} ", style="bold").append(finding.message, style="not bold")
        out.print(line, soft_wrap=True)
        if finding.mend:
            out.print(Text(f"     {'':<20} {finding.mend}", style="not bold"), soft_wrap=True)
        yield finding
