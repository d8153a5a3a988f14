"""A table of runs: the recipe with every row's and every column's changes, ours beside what a paper printed."""

from __future__ import annotations

from pydantic import Field, JsonValue, model_validator

from figment.task import Strict, Text

Changes = dict[str, JsonValue]


class Table(Strict):
    """Each cell is the recipe with the changes of its row and its column, run once a seed. ``metric`` may be among them."""

    title: Text
    source: Text = Field("", description="what the printed numbers are from, such as 'He et al. 2023, Table 7'")
    rows: dict[Text, Changes] = Field(min_length=1, description="name -> {field: value, metric: name}")
    columns: dict[Text, Changes] = Field(min_length=1, description="name -> {field: value, metric: name}")
    metric: Text = Field("top1/synthetic", description="what a cell shows, where its row and column do not say")
    seeds: int = Field(3, ge=1, description="runs of each cell: other images, other shots, another training")
    printed: dict[Text, dict[Text, float]] = Field(
        {}, description="row -> column -> the paper's number, accuracies in percent; rows may be ones that are not run"
    )
    lower_is_better: list[Text] = Field([], description="columns in which less is better")
    notes: list[Text] = Field([], description="what differs from the paper")
    chart: bool = Field(False, description="also draw it: lines over the numbers in the columns' names")

    @model_validator(mode="after")
    def _fits(self) -> Table:
        for row, values in self.printed.items():
            if unknown := [c for c in values if c not in self.columns]:
                raise ValueError(
                    f"printed has the column {unknown[0][:60]!r} in row {row[:60]!r}; the columns are: {', '.join(self.columns)[:300]}"
                )
        if unknown := [c for c in self.lower_is_better if c not in self.columns]:
            raise ValueError(
                f"lower_is_better has the column {unknown[0][:60]!r}; the columns are: {', '.join(self.columns)[:300]}"
            )
        return self
