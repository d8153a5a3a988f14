"""How closely what is cheap to measure follows CAS, over the rows of a table: may the cheap number stand for the dear one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from figment import measures
from figment.recipe.table import Table
from figment.studies.measured import Measured, Place

FEWEST = 4  # rows: of fewer, a correlation says nothing
CAS, FAST = "top1/synthetic", "top1/frozen"


def correlations(cells: Mapping[Place, Measured], rows: Sequence[str], score: str, others: Sequence[str]) -> str:
    """``fast CAS r = 0.98, of ranks 1.00; ...`` of each column of ``others`` with ``score``, whose cells all rows have; a distance's
    sign is turned. Empty where there are fewer than four rows, or nothing differs."""
    from scipy.stats import pearsonr, spearmanr

    said = []
    of_score = [cells[row, score].value for row in rows]
    for column in others:
        lower = measures.known(cells[rows[0], column].results[0].metric).lower_is_better
        own = [(-1 if lower else 1) * cells[row, column].value for row in rows]
        if len(rows) >= FEWEST and len(set(of_score)) > 1 and len(set(own)) > 1:
            r, rank = float(pearsonr(of_score, own)[0]), float(spearmanr(of_score, own)[0])
            of = f"{column} (its negative)" if lower else column
            said.append(f"{of} r = {r:.2f}, of ranks {rank:.2f}".replace("-", "−"))
    return f"Correlation with {score} over {len(rows)} settings: {'; '.join(said)}." if said else ""


def of_table(table: Table, cells: Mapping[Place, Measured]) -> str:
    """Of a table with a column of networks' CAS and one of the fast CAS or of a distance; empty where it has not both."""
    metric = {
        column: cells[row, column].results[0]
        for row in table.rows
        for column in table.columns
        if (row, column) in cells
    }
    scores = [name for name, r in metric.items() if r.metric == CAS and "architecture" in r.details]
    others = [n for n, r in metric.items() if r.metric == FAST or measures.known(r.metric).lower_is_better]
    if len(scores) != 1 or not others:
        return ""
    rows = [row for row in table.rows if all((row, column) in cells for column in (*scores, *others))]
    return correlations(cells, rows, scores[0], others) if rows else ""
