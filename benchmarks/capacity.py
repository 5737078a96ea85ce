"""How many workers, how much Redis and what money a number of calls takes: arithmetic on measured figures.

    python -m benchmarks.capacity                               the table of docs/deploy.md
    python -m benchmarks.capacity --rtfx 24.9 --price 0.34      of yours; `warmline doctor --plan` has its RTFx
    python -m benchmarks.capacity --rtfx 24.9 --calls 200000 --call-seconds 240

Nothing is measured here. What is arithmetic on an assumption says so in the guide.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

DAY_SECONDS = 86_400
CALL_SECONDS = 300.0
BUSY = 0.7  # of a day that workers work: calls come by day, machines restart
CALLS_A_DAY = (1_000, 10_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of machine under one model."""

    name: str
    rtfx: float | None  # seconds of audio in a second, the whole road of a call; None: not measured
    price: float | None = None  # of an hour; None: nobody said


# docs/performance.md has where the figures come from: rows 4 and 8.
MEASURED = (
    Machine(name="2 cores with AVX2 (AMD EPYC), large in fp32", rtfx=2.97, price=0.0832),
    Machine(name="2 cores (Intel Xeon), mini", rtfx=78.0, price=0.0832),
)
GPU = Machine(name="a GPU, large in bf16", rtfx=None, price=1.006)

PUT_PRICE, GET_PRICE = 0.005, 0.0004  # of 1,000 requests: PUT, POST, LIST; GET, HEAD


def calls_a_day(rtfx: float, call_seconds: float = CALL_SECONDS, busy: float = BUSY) -> float:
    """Of one machine."""
    return DAY_SECONDS * busy * rtfx / call_seconds


def machines_for(calls: float, rtfx: float, call_seconds: float = CALL_SECONDS, busy: float = BUSY) -> int:
    """How many machines so many calls a day take."""
    return math.ceil(calls / calls_a_day(rtfx, call_seconds, busy))


def price_of_1000_hours(rtfx: float, price: float, busy: float = BUSY) -> float:
    """Of audio, on machines that are paid for while they are idle, too."""
    return 1_000 / rtfx / busy * price


def rtfx_that_pays(price: float, other: Machine) -> float:
    """What a machine of this price must reach to be as cheap as another one."""
    assert other.rtfx is not None
    assert other.price is not None
    return price / other.price * other.rtfx


def workers_table(machines: Sequence[Machine], call_seconds: float = CALL_SECONDS) -> str:
    """Calls a day of one machine, machines for so many calls a day, money for 1,000 hours."""
    lines = [
        "| machine | RTFx | calls a day of one | " + " | ".join(f"{calls:,} a day" for calls in CALLS_A_DAY)
        + " | 1,000 hours of audio |",
        "|---|---|---|" + "---|" * (len(CALLS_A_DAY) + 1),
    ]  # fmt: skip
    for machine in machines:
        if machine.rtfx is None:
            continue
        many = " | ".join(f"{machines_for(calls, machine.rtfx, call_seconds):,}" for calls in CALLS_A_DAY)
        money = "" if machine.price is None else f"${price_of_1000_hours(machine.rtfx, machine.price):,.2f}"
        one = f"{calls_a_day(machine.rtfx, call_seconds):,.0f}"
        lines.append(f"| {machine.name} | {machine.rtfx:g} | {one} | {many} | {money} |")
    return "\n".join(lines)


def redis_bytes(
    calls: float, *, waiting_days: float, kept_days: float, waiting_each: float, ended_each: float
) -> float:
    """What Redis keeps of so many calls a day."""
    return calls * (waiting_days * waiting_each + kept_days * ended_each)


def requests_price(jobs: float, *, heads: int, gets: int, puts: int) -> float:
    """Of S3's requests for so many jobs."""
    return jobs / 1_000 * ((heads + gets) * GET_PRICE + puts * PUT_PRICE)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rtfx", type=float, help="of your machine, as `warmline doctor --plan` or a night's work says"
    )
    parser.add_argument("--price", type=float, help="of an hour of it")
    parser.add_argument("--calls", type=float, help="a day")
    parser.add_argument("--call-seconds", type=float, default=CALL_SECONDS, help=f"mean; {CALL_SECONDS:g}")
    parser.add_argument("--busy", type=float, default=BUSY, help=f"share of the day that workers work; {BUSY:g}")
    options = parser.parse_args(arguments)
    if options.rtfx is None:
        print(workers_table(MEASURED, options.call_seconds))
        return 0
    one = calls_a_day(options.rtfx, options.call_seconds, options.busy)
    print(f"one machine: {one:,.0f} calls of {options.call_seconds:g} s a day")
    print(f"  = {DAY_SECONDS:,} s x {options.busy:g} x {options.rtfx:g} / {options.call_seconds:g} s")
    if options.calls:
        count = machines_for(options.calls, options.rtfx, options.call_seconds, options.busy)
        print(f"{options.calls:,.0f} calls a day: {count:,} machines")
    if options.price is not None:
        money = price_of_1000_hours(options.rtfx, options.price, options.busy)
        print(f"1,000 hours of audio: {money:,.2f}")
        print(f"  = 1,000 / {options.rtfx:g} / {options.busy:g} x {options.price:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
