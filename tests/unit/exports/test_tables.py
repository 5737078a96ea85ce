"""A report's rows: the right values under the right names, whatever the report lacks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.made_reports import made_side, make_report
from tests.unit.exports.conftest import call
from warmline.calls.report import STANDARD_LABELS, Report
from warmline.calls.stored_reports import StoredReport
from warmline.exports import tables
from warmline.exports.tables import REPORTS, TABLE_NAMES

KEYS = ("agent", "queue", "absent")


def rows_of(report: Report, name: str) -> list[dict[str, Any]]:
    stored = StoredReport(place="/reports/1.json", version="1", report=report)
    (table,) = tables.tables((name,), KEYS)
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert names[0] == "report_id"
    return [dict(zip(names, row, strict=True)) for row in tables.rows(stored, name, KEYS)]


def test_a_call_in_one_row() -> None:
    report = call(1, emotion="angry")
    (row,) = rows_of(report, "calls")

    assert row["report_uri"] == "/reports/1.json"
    assert row["source_key"] == "2026/05/02/call-0001.wav"
    assert row["duration_ms"] == 13_000
    assert (row["talk_ms"], row["overlap_ms"], row["silence_ms"], row["excluded_ms"]) == (12_000, 0, 1000, 0)
    assert (row["agent_dominant"], row["agent_confidence"], row["agent_talk_share"]) == ("neutral", 0.8, 0.5)
    assert (row["customer_dominant"], row["customer_confidence"]) == ("angry", 0.6)
    assert row["categories"] == ("upset", "long")
    assert row["categories_digest"] == "0123456789abcdef"
    assert (row["metadata_agent"], row["metadata_queue"], row["metadata_absent"]) == ("agent-1", "billing", None)
    assert row["metadata"] == '{"agent": "agent-1", "queue": "billing"}'
    assert row["analysed_at"] == report.provenance.analysed_at


def test_channels_windows_and_matches() -> None:
    report = call(1, emotion="angry")
    agent, customer = rows_of(report, "channels")
    assert (agent["position"], agent["role"], customer["position"], customer["role"]) == (
        0,
        "agent",
        1,
        "customer",
    )
    assert (customer["talk_ms"], customer["talk_share"], customer["windows"]) == (6000, 0.5, 3)
    assert customer["scored_ms"] == 6000
    assert (customer["dominant"], customer["dominant_share"]) == ("angry", 1.0)
    assert customer["score_angry"] == pytest.approx(0.6)
    assert customer["score_sad"] == pytest.approx(0.3)
    assert customer["change_angry"] == pytest.approx(0)
    assert customer["other_scores"] is None
    assert customer["speech_dbfs"] == -23.0

    windows = rows_of(report, "windows")
    assert [(row["position"], row["number"], row["start_ms"], row["end_ms"]) for row in windows] == [
        (0, 0, 0, 2000), (0, 1, 4000, 6000), (0, 2, 8000, 10_000),
        (1, 0, 2000, 4000), (1, 1, 6000, 8000), (1, 2, 10_000, 12_000),
    ]  # fmt: skip
    assert windows[3]["top"] == "angry"
    assert windows[3]["margin"] == pytest.approx(0.3)
    assert windows[3]["loudness_dbfs"] == -23.0
    assert sum(windows[3][f"score_{label}"] for label in STANDARD_LABELS) == pytest.approx(1)

    ranged, whole = rows_of(report, "matches")
    assert (ranged["category"], ranged["number"], ranged["role"]) == ("upset", 0, "customer")
    assert (ranged["position"], ranged["start_ms"], ranged["end_ms"]) == (1, 2000, 4000)
    assert (whole["category"], whole["number"], whole["start_ms"]) == ("long", None, None)


def test_a_model_with_other_labels_fills_no_standard_column() -> None:
    report = call(1)
    scores = {"calm": 0.75, "angry": 0.25}
    window = report.channels[0].windows[0].model_copy(update={"scores": scores, "top": "calm"})
    channel = report.channels[0].model_copy(
        update={
            "windows": (window,),
            "summary": report.channels[0].summary.model_copy(
                update={"scores": scores, "change": {}, "top": "calm"}
            ),
        }
    )
    report = report.model_copy(update={"channels": (channel,)})

    (row,) = rows_of(report, "windows")
    assert (row["top"], row["score_angry"], row["score_neutral"]) == ("calm", 0.25, None)
    assert row["other_scores"] == '{"calm": 0.75}'
    (row,) = rows_of(report, "channels")
    assert row["other_scores"] == '{"calm": 0.75}'
    assert (row["change_angry"], row["other_changes"]) == (None, None)


def test_what_a_report_lacks_is_null() -> None:
    # A whole channel at once, without speech, levels or rules.
    silent = make_report(made_side("mono", windows=[]), duration_ms=5000, conversation=None)
    channel = silent.channels[0].model_copy(update={"level": None, "talk_share": None})
    silent = silent.model_copy(update={"channels": (channel,)})

    (row,) = rows_of(silent, "calls")
    assert (row["speakers_confidence"], row["embeddings_uri"]) == (None, None)
    missing = (
        "talk_ms",
        "silence_ms",
        "longest_silence_ms",
        "interruptions",
        "agent_dominant",
        "categories_digest",
    )
    assert {row[name] for name in missing} == {None}
    assert row["categories"] == ()
    (row,) = rows_of(silent, "channels")
    assert {row[name] for name in ("dominant", "score_angry", "peak_dbfs", "volatility")} == {None}
    assert rows_of(silent, "windows") == rows_of(silent, "matches") == []


def test_no_table_lost_a_column_or_changed_its_type() -> None:
    # Readers rely on them. A new column goes to the end of its table, and of this list.
    kinds = {t.name: [(c.name, c.kind) for c in t.columns] for t in tables.tables((*TABLE_NAMES, REPORTS), ())}
    assert kinds["windows"][:10] == [
        ("report_id", "text"), ("position", "integer"), ("role", "text"), ("number", "integer"),
        ("start_ms", "integer"), ("end_ms", "integer"), ("top", "text"), ("margin", "number"),
        ("speech_share", "number"), ("loudness_dbfs", "number"),
    ]  # fmt: skip
    assert kinds["windows"][10:] == [
        *((f"score_{label}", "number") for label in STANDARD_LABELS), ("other_scores", "text"),
    ]  # fmt: skip
    assert [len(columns) for columns in kinds.values()] == [44, 37, 20, 8, 3]
