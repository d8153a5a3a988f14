"""Which tables say how closely cheap numbers follow CAS, and that it is the library's number."""

from __future__ import annotations

import pytest
from scipy.stats import pearsonr, spearmanr

from figment.recipe.table import Table
from figment.studies.correlation import of_table
from figment.studies.measured import Measured
from figment.types import Result

CAS, FAST, DISTANCE = (0.5, 0.8, 0.7, 0.6), (0.3, 0.6, 0.5, 0.45), (4.0, 1.0, 2.5, 2.0)


def table_of(n: int = 4, network: bool = True, **columns: tuple[str, tuple[float, ...]]) -> tuple[Table, dict]:
    """Rows a, b, c ... and columns of a metric and its values."""
    rows = {chr(97 + k): {"generate.guidance_scale": 1.0 + k} for k in range(n)}
    table = Table.model_validate(
        {"title": "x", "rows": rows, "columns": {name: {"metric": own[0]} for name, own in columns.items()}}
    )
    details = {"architecture": "resnet18"} if network else {}
    cells = {
        (row, name): Measured([Result(metric, value, 100, (0, 1), details=details if name == "CAS" else {})], None)
        for name, (metric, values) in columns.items()
        for row, value in zip(rows, values, strict=False)
    }
    return table, cells


def test_fast_cas_and_a_distance_beside_the_score():
    said = of_table(*table_of(CAS=("top1/synthetic", CAS), fast=("top1/frozen", FAST), distance=("frechet", DISTANCE)))
    assert said.startswith("Correlation with CAS over 4 settings: fast r = ")
    near = [-d for d in DISTANCE]
    for name, other in (("fast", FAST), ("distance (its negative)", near)):
        assert f"{name} r = {pearsonr(CAS, other)[0]:.2f}, of ranks {spearmanr(CAS, other)[0]:.2f}" in said


@pytest.mark.parametrize(
    "table",
    [
        table_of(3, CAS=("top1/synthetic", CAS), fast=("top1/frozen", FAST)),  # of three anything correlates
        table_of(network=False, CAS=("top1/synthetic", CAS), fast=("top1/frozen", FAST)),  # a head is no CAS
        table_of(CAS=("top1/synthetic", CAS), real=("top1/real_all", FAST)),
        table_of(CAS=("top1/synthetic", (0.5,) * 4), fast=("top1/frozen", FAST)),
    ],
)
def test_where_there_is_nothing_to_say(table):
    assert of_table(*table) == ""
