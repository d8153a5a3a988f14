"""The measures there are, found by their files, and what a recipe asks of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from figment.errors import FigmentError, nearest
from figment.measures.measure import NEEDS, Measure, Metric, lacking

if TYPE_CHECKING:
    import numpy as np

    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result


@dataclass(frozen=True)
class Measured:
    """Results, and for each of their classifiers what it takes every test image for: int (S, n), by metric."""

    results: list[Result]
    predictions: dict[str, np.ndarray]


def found() -> dict[str, Measure]:
    """Name -> measure, of every file in this folder that defines ``MEASURE``."""
    return _found(tuple(import_module("figment.measures").__path__))


@cache  # a table asks for each of its cells
def _found(places: tuple[str, ...]) -> dict[str, Measure]:
    modules = (import_module(f"figment.measures.{file.name}") for file in pkgutil.iter_modules(places))
    own = [module.MEASURE for module in modules if hasattr(module, "MEASURE")]
    return {measure.name: measure for measure in own}


def asked(recipe: Recipe) -> list[Measure]:
    """What a run of the recipe measures. Raises FigmentError for a name in ``evaluate.measures`` that is none."""
    return [measure for measure in _wanted(recipe) if not lacking(measure, recipe)]


def metrics(recipe: Recipe) -> list[str]:
    """The metrics of a run's results, as far as the recipe tells: of the curve of real images, points may fall away."""
    return [name for measure in asked(recipe) for name in _names(measure, recipe)]


def possible(recipe: Recipe) -> list[str]:
    """The metrics that a run of the recipe could measure with other settings of ``evaluate``."""
    return [name for measure in found().values() if not lacking(measure, recipe) for name in _names(measure, recipe)]


def splits_needed(recipe: Recipe) -> set[str]:
    """The splits of real images that the end of a run reads, of those there are. ``few_shot`` and filters ask for their own."""
    trains = any("train" in measure.needs for measure in asked(recipe)) or recipe.evaluate.shot_draws is not None
    return {split for split in recipe.task.real.places if split != "train" or trains}


def settings_for(wanted: set[str]) -> dict[str, Any]:
    """The changes of a recipe under which a run measures these metrics, and what costs extra only for them."""
    own = found().values()
    by_name = [m.name for m in own if m.asked is None and any(_described(m, metric) for metric in wanted)]
    changes: dict[str, Any] = {"evaluate.measures": by_name}
    for measure in own:
        changes |= {} if measure.settings is None else measure.settings(wanted)
    return changes


def known(metric: str) -> Metric:
    """How a metric is shown. One that no measure claims any more is shown by its name, as what the name looks like."""
    for measure in found().values():
        if described := _described(measure, metric):
            return described
    unit = "share" if metric.startswith("top1/") else "points" if metric.startswith("gain/") else "plain"
    return Metric(metric, metric, unit)  # type: ignore[arg-type]


def take(trial: Trial) -> Measured:
    """Measure what the recipe asks for. Raises FigmentError for a measure that gives what it does not describe."""
    results: list[Result] = []
    for measure in asked(trial.recipe):
        for result in measure.take(trial):
            if _described(measure, result.metric) is None:
                raise FigmentError(
                    f"The measure {measure.name!r} gave {result.metric!r}, which is not among its metrics:"
                    f" {', '.join(m.name for m in measure.metrics)}. Describe it there."
                )
            results.append(result)
    return Measured(results, trial.recorded)


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    """Find out before anything is spent what would fail at the end. ``given``: split -> real images. Raises FigmentError."""
    for measure in _wanted(recipe):
        for need in lacking(measure, recipe):
            if need == "untrained" or measure.name in recipe.evaluate.measures:
                raise FigmentError(f"The measure {measure.name} needs {NEEDS[need]}; or leave {measure.name} out.")
    for measure in asked(recipe):
        measure.check(recipe, given)


def extra() -> list[str]:
    """The names that ``evaluate.measures`` may hold."""
    return [measure.name for measure in found().values() if measure.asked is None]


def documentation() -> str:
    """``docs/measures.md``: every measure, its metrics, what it needs, and how a recipe asks for it."""
    parts = ["# Measures", OVERVIEW]
    for measure in found().values():
        needs = ", ".join(NEEDS[need].partition(":")[0] for need in NEEDS if need in measure.needs) or "nothing else"
        how = f" In a recipe: `evaluate: {{measures: [{measure.name}]}}`." if measure.asked is None else ""
        rows = [
            f"| `{m.name}` | {m.title.replace('<', '&lt;')} | {m.unit} | {'lower' if m.lower_is_better else 'higher'} |"
            for m in measure.metrics
        ]
        table = "\n".join(["| metric | shown as | unit | better |", "|---|---|---|---|", *rows])
        parts += [f"## {measure.name}", f"{measure.explains}\n\nNeeds {needs}.{how}", table]
    rows = [
        f"| {m.name} | {', '.join(f'`{x.name}`' for x in m.metrics)} | {m.oracle} |"
        for m in found().values()
        if m.oracle
    ]
    parts += ["## Oracles", ORACLES, "\n".join(["| measure | metrics | equal to |", "|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


OVERVIEW = """What a run can find out about its images and its classifier. This page is made of the files in `src/figment/measures/`, one a measure:
`python -m figment.measures > docs/measures.md`. Every number comes with its 95 % interval and its n, in `results.jsonl`, in `results.csv` and on
the page; any metric can be a cell of a table. Shares lie in [0, 1] on disk and are shown in per cent.

What compares kept images with real ones in an encoder's features says besides what it would be of no difference at all: between two halves of the
real images (`floor_real`) and two of the generated (`floor_generated`), with the number itself at that size (`at_floor_n`); a distance that is
not above its floors has shown nothing. Its details name what it depends on: implementation, encoder, hash of the weights, resize,
precision, counts. Numbers that differ in one of these do not compare.

The encoder is the recipe's: `encoder:` names a CLIP, or `{timm: tf_efficientnet_lite0, weights: file.pth}`, any network of timm with weights from a
file. `evaluate: {encoder: ...}` takes another for what compares sets, and leaves filters and learners theirs: the distance of DINOv2 (at timm's size of it) is
`evaluate: {measures: [frechet_raw], encoder: {timm: vit_large_patch14_dinov2, weights: FILE}}`. Features are made to unit length, but for `frechet_raw`, FID, KID and the Inception
score: **what is measured on unit features does not compare with published distances**, whose features are raw. The details say which (`features`), and features of either kind
are kept apart. FID, KID and the Inception score
have a network of their own (`pip install 'figment-vision[fid]'`), whose weights are looked for where torch-fidelity keeps them; where they are not, the
message says how to get them. Every image is encoded once by each encoder, and features are kept."""

ORACLES = """Whose numbers each measure gives on the same features; the tests hold them together to 1e-4 of the value, or nearer. Conventions differ between
libraries, and are named where they do: which set comes first, k, and whether a tie counts."""


def _wanted(recipe: Recipe) -> list[Measure]:
    """What the recipe asks for, whether it can be had or not."""
    names, allowed = recipe.evaluate.measures, extra()
    if unknown := [name for name in names if name not in allowed]:
        raise FigmentError(
            f"evaluate.measures: there is no measure {unknown[0][:60]!r}.{nearest(unknown[0], allowed)} Allowed: {', '.join(allowed)}."
        )
    return [m for m in found().values() if (m.name in names if m.asked is None else m.asked(recipe))]


def _names(measure: Measure, recipe: Recipe) -> list[str]:
    return [m.name for m in measure.metrics] if measure.names is None else measure.names(recipe)


def _described(measure: Measure, metric: str) -> Metric | None:
    """The measure's description of a metric, with the number that its name holds; None where it is not the measure's."""
    for m in measure.metrics:
        start, number, _ = m.name.partition("<k>")
        k = metric.removeprefix(start)
        if metric == m.name or (number and metric.startswith(start) and k.isdecimal()):
            return replace(m, name=metric, title=m.title.replace("<k>", k))
    return None
