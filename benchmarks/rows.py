"""The rows of the benchmark: what is measured, beside which peer, and what would be good enough."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reached", "missed", "not measured"]

FUNASR = "FunASR AutoModel, ncpu = cores"
COLD_START = "FunASR: import, AutoModel, first inference"
BARE = "OpenVINO bf16, bare, all cores"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Its goal is for the ratio ours / peer, or for our figure where there is no ratio."""

    key: str  # "1" to "10.large.bf16.torch"
    what: str
    peer: str
    unit: str  # of both figures
    goal: float
    better: Literal["higher", "lower"]
    goal_is_for: Literal["ratio", "ours"] = "ratio"

    @property
    def goal_text(self) -> str:
        """The goal as people write it."""
        sign = ">=" if self.better == "higher" else "<="
        return f"{sign} {self.goal:g}{'x' if self.goal_is_for == 'ratio' else ' ' + self.unit}".rstrip()

    def reached_by(self, figure: float) -> bool:
        """Whether the figure is as good as the goal. NaN is not."""
        return figure >= self.goal if self.better == "higher" else figure <= self.goal


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of a row: (peer, ours) of each round, or the reason why there is nothing."""

    key: str
    rounds: tuple[tuple[float, float], ...] = ()
    ours_alone: float | None = None  # where there is no peer's figure to divide by
    subject: str = ""  # what "ours" was, e.g. "torch fp32, 2 x 1 thread"
    peer: str = ""  # what the peer really was, where the row cannot know
    note: str = ""
    reason: str = ""  # why it was not measured, or why the goal was missed

    @property
    def measured(self) -> bool:
        """False where there is only a reason."""
        return bool(self.rounds) or self.ours_alone is not None

    @property
    def peer_figure(self) -> float | None:
        """The median over the rounds."""
        return statistics.median(peer for peer, _ in self.rounds) if self.rounds else None

    @property
    def ours(self) -> float | None:
        """The median over the rounds."""
        return statistics.median(ours for _, ours in self.rounds) if self.rounds else self.ours_alone

    @property
    def ratios(self) -> tuple[float, ...]:
        """ours / peer, round by round: what both lost to a busy machine in a round cancels out."""
        return tuple(ours / peer for peer, ours in self.rounds)

    @property
    def ratio(self) -> float | None:
        """The median over the rounds."""
        return statistics.median(self.ratios) if self.rounds else None

    def verdict(self, row: Row) -> Verdict:
        """Whether the row's goal was reached."""
        figure = self.ratio if row.goal_is_for == "ratio" else self.ours
        if figure is None:
            return "not measured"
        return "reached" if row.reached_by(figure) else "missed"


def _fidelity_rows() -> tuple[Row, ...]:
    rows = []
    for model in ("mini", "large"):
        for precision, engine in (
            ("fp32", "torch"), ("fp32", "openvino"), ("bf16", "torch"), ("bf16", "openvino"), ("int8", "openvino"),
        ):  # fmt: skip
            exact = precision == "fp32"
            rows.append(
                Row(
                    key=f"10.{model}.{precision}.{engine}",
                    what="fidelity: "
                    + ("largest difference of a probability" if exact else "windows with the same top label"),
                    peer="FunASR" if exact else "torch fp32",
                    unit="" if exact else "%",
                    goal={"fp32": 1e-4, "bf16": 99.5, "int8": 99.0}[precision],
                    better="lower" if exact else "higher",
                    goal_is_for="ours",
                )
            )
    return tuple(rows)


RTFX = "x real time"
ROWS: tuple[Row, ...] = (
    Row(key="1", what="throughput, 5 s clips", peer=FUNASR, unit=RTFX, goal=6, better="higher"),
    Row(key="2", what="throughput, 60 s mono calls, speech throughout; ours decodes and finds speech too",
        peer=FUNASR, unit=RTFX, goal=20, better="higher"),
    Row(key="3", what="throughput of our best engine, 5 s windows", peer=BARE, unit=RTFX, goal=1.0,
        better="higher"),
    Row(key="4", what="throughput of the stack: fetch, decode, speech, score, store", peer=BARE, unit=RTFX,
        goal=0.95, better="higher"),
    Row(key="5", what="process start to warm", peer=COLD_START, unit="s", goal=0.2, better="lower"),
    Row(key="6", what="a replacement child, fork to warm", peer=COLD_START, unit="s", goal=0.08, better="lower"),
    Row(key="7", what="memory of 4 warm children (PSS)", peer="4 x one child alone", unit="MB", goal=0.45,
        better="lower"),
    Row(key="8", what="peak memory, 3-hour stereo call", peer="1-minute call", unit="MB", goal=1.15,
        better="lower"),
    Row(key="9", what="throughput, 3-hour stereo call", peer="1-minute call", unit=RTFX, goal=0.95,
        better="higher"),
    *_fidelity_rows(),
)  # fmt: skip


def choose_rows(wanted: str) -> tuple[Row, ...]:
    """The rows of "1,5" or "10.mini"; all for an empty text. Raises ValueError for what is none."""
    if not wanted:
        return ROWS
    chosen: set[str] = set()
    for part in (part.strip() for part in wanted.split(",")):
        keys = {row.key for row in ROWS if row.key == part or row.key.startswith(f"{part}.")}
        if not keys:
            raise ValueError(f"there is no row {part}; rows are 1 to 10, and parts of 10 such as 10.mini.bf16")
        chosen |= keys
    return tuple(row for row in ROWS if row.key in chosen)
