"""What a run measures: one file a measure, found by its place in this folder.

A file defines ``MEASURE``, a `Measure`; recipes, tables, the report, the CSV and ``docs/measures.md`` take everything from it.
"""

from figment.measures.find import (
    Measured,
    asked,
    check,
    documentation,
    extra,
    found,
    known,
    metrics,
    possible,
    settings_for,
    splits_needed,
    take,
)
from figment.measures.measure import Measure, Metric, starts_untrained

__all__ = [
    "Measure",
    "Measured",
    "Metric",
    "asked",
    "check",
    "documentation",
    "extra",
    "found",
    "known",
    "metrics",
    "possible",
    "settings_for",
    "splits_needed",
    "starts_untrained",
    "take",
]
