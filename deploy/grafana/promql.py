"""The questions' recurring forms, and what the dashboard's variables choose.

What every process of the API tells of the whole fleet is asked for with `fleet`, else two of them would count
everything twice; what workers tell of themselves is added up.
"""

from __future__ import annotations

N = 'namespace=~"$namespace"'  # in every selector: one Prometheus may watch several fleets
NL = f'{N}, lane=~"$lane"'
W = f'{N}, instance=~"$worker"'
WL = f'{W}, lane=~"$lane"'
STEP = "$__rate_interval"  # what is shown as one point, four scrapes at least


def fleet(metric: str, where: str = N, *by: str) -> str:
    """A figure of the whole fleet, by these labels."""
    told_once = f"max by ({', '.join(('namespace', *by))}) ({metric}{{{where}}})"
    return f"sum by ({', '.join(by)}) ({told_once})" if by else f"sum({told_once})"


def rate(metric: str, where: str, *by: str, over: str = STEP) -> str:
    """How much a counter grows in a second, all processes together."""
    grows = f"(rate({metric}{{{where}}}[{over}]))"
    return f"sum by ({', '.join(by)}) {grows}" if by else f"sum{grows}"


def fleet_rate(metric: str, by: str) -> str:
    """As `rate`, of what the ledger counts: every process of the API tells the same."""
    return f"sum by ({by}) (max by (namespace, {by}) (rate({metric}{{{N}}}[{STEP}])))"


def share(metric: str, part: str, whole: str, *by: str, over: str = "15m") -> str:
    """Which share of a counter's growth has these labels; nothing where it does not grow."""
    return f"{rate(metric, part, *by, over=over)} / ({rate(metric, whole, *by, over=over)} > 0)"


def mean(histogram: str, where: str, *by: str) -> str:
    """Of what was observed; nothing where nothing was."""
    return f"{rate(f'{histogram}_sum', where, *by)} / ({rate(f'{histogram}_count', where, *by)} > 0)"


def quantile(part: float, histogram: str, where: str, *by: str) -> str:
    """What this part of the observations stays below."""
    return f"histogram_quantile({part}, {rate(f'{histogram}_bucket', where, *by, 'le')})"
