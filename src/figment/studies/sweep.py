"""A sweep over the generator's settings: which are tried in which phase, and which to use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from figment.errors import FigmentError
from figment.evaluate.accuracy import paired_difference
from figment.recipe import Recipe
from figment.recipe.sweep import DISTANCES, FAST, FID, SCORE, Setting, Sweep
from figment.report.charts import Dot
from figment.report.table import Answer, Cell
from figment.report.text import number, percent, plain, points_interval
from figment.studies.correlation import correlations
from figment.studies.measured import Measured, Place

LEAD = (
    "Each dot is a setting, further left the nearer to the real images and further up the better to learn from; bars are 95 % intervals."
    " Blue: the one to use. Red: what the distance would have chosen."
)
CHOSEN = (
    "It was chosen on these test images, so its score is a little too good: measure it on others before you quote it."
)


def name_of(setting: Setting) -> str:
    """``guidance_scale 2, num_inference_steps 15``."""
    short = [field.rpartition(".")[2] for field in setting]
    names = short if len(set(short)) == len(short) else list(setting)
    return ", ".join(f"{name} {_value(value)}" for name, value in zip(names, setting.values(), strict=True))


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_of(recipe: Recipe) -> Setting:
    """What the recipe itself has for the fields of its sweep. Raises FigmentError for a field that there is not."""
    return {field: _field(recipe, field) for field in _sweep_of(recipe).fields}


def first_phase(recipe: Recipe) -> list[Setting]:
    """The settings to try by what is cheap, the recipe's own first."""
    sweep, own = _sweep_of(recipe), settings_of(recipe)
    if sweep.design == "grid":
        return [dict(zip(sweep.fields, values, strict=True)) for values in product(*sweep.fields.values())]
    return _distinct([own, *({**own, field: value} for field, values in sweep.fields.items() for value in values)])


def second_phase(recipe: Recipe, judged: Mapping[str, float] | None = None) -> list[Setting]:
    """The settings to train on: every value of ``then``, and for the other fields what was best in the first phase.

    ``judged``: name of a setting -> what it was judged by there; None before there is any, when the recipe's own stand for them.
    """
    sweep, own = _sweep_of(recipe), settings_of(recipe)
    best = dict(own)
    if judged is not None:
        tried = first_phase(recipe)
        for field in sweep.fields:
            among = tried if sweep.design == "grid" else [s for s in tried if s == {**own, field: s[field]}]
            sign = -1 if sweep.chooses == FAST else 1
            best[field] = min(among, key=lambda s: sign * judged[name_of(s)])[field]
    return _distinct([{**best, sweep.then: value} for value in sweep.fields[sweep.then]])


def plan(recipe: Recipe) -> str:
    """What is going to be tried, before anything is spent."""
    sweep, classes = _sweep_of(recipe), len(recipe.task.class_names)
    few = sweep.images_per_class or recipe.generate.images_per_class
    return (
        f"Sweep: {len(first_phase(recipe))} settings with {few * classes:,} images each, judged by {sweep.chooses}; then"
        f" {len(second_phase(recipe))} values of {sweep.then} at the best of the others, with"
        f" {recipe.generate.images_per_class * classes:,} images and a training of {recipe.train.kind} each."
    )


def best_of(rows: Iterable[str], cells: Mapping[Place, Measured]) -> str:
    """The row with the highest score, of equals the first."""
    return max((row for row in rows if (row, SCORE) in cells), key=lambda row: cells[row, SCORE].value)


def answer(rows: Iterable[str], cells: Mapping[Place, Measured], shown: Mapping[Place, Cell]) -> Answer:
    """What to use, what it costs, and what the distance would have chosen."""
    scored = [row for row in rows if (row, SCORE) in cells]
    best = best_of(scored, cells)
    distance = next(column for _, column in cells if column in DISTANCES)
    prettiest = min(scored, key=lambda row: cells[row, distance].value)
    chooser = "FID" if distance == FID else "The Fréchet distance"
    score = shown[best, SCORE]
    assert score.ci is not None  # an accuracy has one
    said = [f"CAS {percent(score.value)} ({number(score.ci[0])} to {number(score.ci[1])}){_cost(cells[best, SCORE])}."]
    if prettiest == best:
        said += [f"{chooser} would have chosen the same."]
    else:
        said += [
            f"{chooser} would have chosen {prettiest}: {_against(cells, prettiest, best)}"
            f"{_cost(cells[prettiest, SCORE])}."
        ]
    said += [_cheapest(cells, scored, best), correlations(cells, scored, SCORE, (FAST, distance)), CHOSEN]
    dots = tuple(_dot(row, shown, distance, best, prettiest) for row in scored)
    question = "Which settings make the best training images?"
    return Answer(question, f"Use {best}", tuple(s for s in said if s), "helps", dots, (distance, SCORE), LEAD)


def _against(cells: Mapping[Place, Measured], row: str, best: str) -> str:
    """``72.1 %, −2.0 points (−3.0 to −1.0)``."""
    a, b = cells[best, SCORE], cells[row, SCORE]
    assert a.right is not None and b.right is not None
    return f"{percent(b.value)}, {points_interval(paired_difference(a.right, b.right, groups=a.groups))}"


def _cost(cell: Measured) -> str:
    return "" if cell.seconds is None else f", {plain(cell.seconds)} s an image on this machine"


def _cheapest(cells: Mapping[Place, Measured], scored: Sequence[str], best: str) -> str:
    """The setting that takes least, of those that are not surely worse."""
    a = cells[best, SCORE]
    seconds = {row: cells[row, SCORE].seconds for row in scored}
    equals = {}
    for row, took in seconds.items():
        b = cells[row, SCORE]
        assert a.right is not None and b.right is not None
        if took is not None and paired_difference(a.right, b.right, groups=a.groups).ci[1] >= 0:
            equals[row] = took
    if not equals or (cheapest := min(equals, key=lambda row: equals[row])) == best:
        return ""
    return f"The fastest that is not surely worse: {cheapest}, {_against(cells, cheapest, best)}{_cost(cells[cheapest, SCORE])}."


def _dot(row: str, shown: Mapping[Place, Cell], distance: str, best: str, prettiest: str) -> Dot:
    x, y = shown[row, distance], shown[row, SCORE]
    kind = "best" if row == best else "rival" if row == prettiest else ""
    return Dot(row, x.value, y.value, x.ci, y.ci, kind)  # type: ignore[arg-type]


def _distinct(settings: Iterable[Setting]) -> list[Setting]:
    found: list[Setting] = []
    for setting in settings:
        if setting not in found:
            found.append(setting)
    return found


def _sweep_of(recipe: Recipe) -> Sweep:
    assert recipe.table is not None and recipe.table.sweep is not None
    return recipe.table.sweep


def _field(recipe: Recipe, field: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for name in field.split("."):
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):  # a cascade's stage
            value = value[int(name)]
            continue
        if not isinstance(value, dict) or name not in value:
            raise FigmentError(
                f"table.sweep.fields has {field[:60]!r}, and the recipe has no such field. Those of its generator:"
                f" {', '.join(f'generate.{own}' for own in recipe.generate.model_dump())[:600]}."
            )
        value = value[name]
    return value
