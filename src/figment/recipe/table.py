"""A table of runs: the recipe with every row's and every column's changes, ours beside what a paper printed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from figment import limits
from figment.recipe.reference import Reference
from figment.recipe.scaling import Scaling
from figment.recipe.sweep import Sweep
from figment.task import Strict, Text

OF_THE_WHOLE = ("name", "seed", "arms", "table")  # fields of a recipe that no cell can change
#: Metric of a rival -> how its row is called, after that of the cells it is a rival of.
RIVALS = {"top1/bias_removed": "{}: bias removed", "top1/placebo": "{}: placebo"}
#: What a study can be about. A scaling study goes from real images alone, of which only top-1 is measured.
SCORES = {"scaling": ("top1/synthetic",), "sweep": ("top1/synthetic", "top5/synthetic")}
Changes = dict[str, JsonValue]
Printed = Annotated[float, Field(ge=-1e9, le=1e9)]


class Table(Strict):
    """Each cell is the recipe with the changes of its row and its column, run once a seed. ``metric`` may be among them."""

    title: Text
    source: Text = Field("", description="what the printed numbers are from, such as 'He et al. 2023, Table 7'")
    rows: dict[Text, Changes] = Field({}, description="name -> {field: value, metric: name}")
    columns: dict[Text, Changes] = Field({}, description="name -> {field: value, metric: name}")
    scaling: Scaling | None = Field(
        None,
        description="in place of rows and columns: numbers of real images, and multiples of them that are generated",
    )
    sweep: Sweep | None = Field(
        None, description="in place of rows and columns: the generator's settings, in two phases"
    )
    reference: Reference | None = Field(
        None, description="a row that the others are compared with: which take less time to make, and are as good"
    )
    metric: Text = Field("top1/synthetic", description="what a cell shows, where its row and column do not say")
    seeds: int = Field(
        3, ge=1, le=limits.TRAININGS, description="runs of each cell: other images, other shots, another training"
    )
    printed: dict[Text, dict[Text, Printed]] = Field(
        {}, description="row -> column -> the paper's number, accuracies in percent; rows may be ones that are not run"
    )
    rivals: bool = Field(
        False,
        description="below each row, also what needs none of the images' content: the untuned classifier with its bias removed, and"
        " a placebo, the same images with shuffled labels",
    )
    lower_is_better: list[Text] = Field([], description="columns in which less is better")
    notes: list[Text] = Field([], description="what differs from the paper")
    chart: bool = Field(False, description="also draw it: lines over the numbers in the columns' names")

    def laid_out(self) -> Table:
        """The same with the rows and columns that ``scaling`` stands for, and the columns that ``sweep`` does; the rows of a sweep
        depend on the recipe."""
        if self.scaling is not None:
            return self.model_copy(update={"rows": self.scaling.rows, "columns": self.scaling.columns})
        return self if self.sweep is None else self.model_copy(update={"columns": self.sweep.columns})

    def changes(self, row: str, column: str) -> Changes:
        """What a cell changes of the recipe, its metric among it."""
        own = {} if self.scaling is None else self.scaling.cell(row, column)
        return {**self.rows[row], **self.columns[column], **own}

    @model_validator(mode="after")
    def _is_one_kind(self) -> Table:
        given = [name for name in ("rows", "columns", "scaling", "sweep") if getattr(self, name)]
        if given not in (["rows", "columns"], ["scaling"], ["sweep"]):
            raise ValueError(
                "give table.rows and table.columns, or table.scaling alone, or table.sweep alone; this table has"
                f" {', '.join(given) or 'none of them'}"
            )
        if (allowed := SCORES.get(given[0], ())) and self.metric not in allowed:
            raise ValueError(
                f"table.{given[0]} compares what the recipe's classifier gets right, so table.metric is {' or '.join(allowed)}, and not"
                f" {self.metric[:60]!r}"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Table:
        laid_out = self.laid_out()
        rows, columns = laid_out.rows, laid_out.columns
        if (n := len(rows) * len(columns) * self.seeds) > limits.RUNS:
            raise ValueError(
                f"{len(rows):,} rows x {len(columns):,} columns x {self.seeds:,} seeds are {n:,} runs, and {limits.RUNS:,} are the"
                " most. Make several tables of it"
            )
        for name, changes in [*self.rows.items(), *self.columns.items()]:
            if own := [field for field in changes if field.partition(".")[0] in OF_THE_WHOLE]:
                raise ValueError(
                    f"{name[:60]!r} changes {own[0][:60]!r}, which is the whole table's: each cell is the recipe without its table,"
                    " with a name and seeds that the table gives it. Change other fields, or write another recipe"
                )
            if not isinstance(changes.get("metric", ""), str):
                raise ValueError(f"the metric of {name[:60]!r} must be a name, such as top1/synthetic")
        taken = [name.format(row) for row in self.rows for name in RIVALS.values() if name.format(row) in self.rows]
        if self.rivals and taken:
            raise ValueError(
                f"the row {taken[0][:60]!r} has the name of a row that table.rivals adds: call it otherwise"
            )
        for row, values in self.printed.items():
            if unknown := [c for c in values if c not in columns]:
                raise ValueError(
                    f"printed has the column {unknown[0][:60]!r} in row {row[:60]!r}; the columns are: {', '.join(columns)[:300]}"
                )
        if self.reference is not None and (len(self.rows) < 2 or self.reference.row not in self.rows):
            raise ValueError(
                f"reference.row is {self.reference.row[:60]!r}; it must be one of several rows, and these are there:"
                f" {', '.join(self.rows)[:300] or 'none'}"
            )
        if self.reference is not None:
            first = next(iter(self.columns.values()))
            metrics = {str({**changes, **first}.get("metric", self.metric)) for changes in self.rows.values()}
            if len(metrics) > 1 or not min(metrics).startswith(("top1/", "top5/")):
                raise ValueError(
                    f"rows are compared with reference.row in the first column, which shows {', '.join(sorted(metrics))[:200]}: make it one"
                    " score for all rows that says which test images were right, such as top1/synthetic"
                )
            if others := [
                row for row, changes in self.rows.items() if any(f.partition(".")[0] == "task" for f in changes)
            ]:
                raise ValueError(
                    f"{others[0][:60]!r} changes the task, and rows are compared with reference.row on the same test images"
                )
        if unknown := [c for c in self.lower_is_better if c not in columns]:
            raise ValueError(
                f"lower_is_better has the column {unknown[0][:60]!r}; the columns are: {', '.join(columns)[:300]}"
            )
        return self
