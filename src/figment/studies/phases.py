"""The tables that a recipe's table is run as: itself, or one for each phase of a sweep."""

from __future__ import annotations

from collections.abc import Mapping

from figment.errors import FigmentError
from figment.recipe import Recipe
from figment.recipe.sweep import FAST, SCORE, Setting
from figment.recipe.table import Table
from figment.studies import sweep
from figment.studies.measured import Measured, Place


def first_phase(recipe: Recipe) -> Table:
    """What is run at first, its rows and columns written out: of a sweep all settings, without the score of a network."""
    if recipe.table is None:
        raise FigmentError("The recipe has no table. Give it rows and columns in table, or run it as it is.")
    if recipe.table.sweep is None:
        return recipe.table.laid_out()
    return _of_settings(recipe, sweep.first_phase(recipe), (recipe.table.sweep.distance, FAST))


def second_phase(recipe: Recipe, cells: Mapping[Place, Measured] | None = None) -> Table | None:
    """What is run then: of a sweep the settings that its first phase's ``cells`` lead to, or (None) the recipe's own; None of others."""
    if recipe.table is None or recipe.table.sweep is None:
        return None
    own = recipe.table.sweep
    judged = None if cells is None else {row: cell.value for (row, at), cell in cells.items() if at == own.chooses}
    return _of_settings(recipe, sweep.second_phase(recipe, judged), (own.distance, FAST, SCORE))


def together(first: Table, second: Table | None) -> Table:
    """Everything that was run, for the page."""
    return first if second is None else second.model_copy(update={"rows": {**second.rows, **first.rows}})


def _of_settings(recipe: Recipe, settings: list[Setting], columns: tuple[str, ...]) -> Table:
    assert recipe.table is not None
    there = recipe.table.laid_out().columns
    own = recipe.looks_with if isinstance(recipe.looks_with, str) else recipe.looks_with.model_dump()
    opened = {"encoder": own, "train.encoder": own}
    for column in columns[:2]:  # the learner of the first phase has the encoder that the recipe looks with
        there = {**there, column: {**there[column], **opened, "train.allow_pickle": recipe.encoder_pickles}}
    rows = {sweep.name_of(setting): setting for setting in settings}
    if len(rows) < len(settings):
        raise FigmentError(
            "table.sweep.fields has values that read the same, and a setting goes by its values:"
            f" {', '.join(map(sweep.name_of, settings))[:600]}. Take values that differ within six digits."
        )
    return recipe.table.model_copy(update={"rows": rows, "columns": {column: there[column] for column in columns}})
