"""The report's promises to those who read it."""

from __future__ import annotations

from warmline.calls import report
from warmline.emotion import labels


def test_the_reports_labels_are_those_of_the_released_models() -> None:
    # The API knows the report and must not load what the model needs, so the list stands in both places.
    assert report.STANDARD_LABELS == labels.STANDARD_LABELS
