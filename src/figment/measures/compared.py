"""What the measures have in common that compare kept images with task.real.train in an encoder's features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from figment import machine
from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric, Need

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

log = logging.getLogger(__name__)

#: What a metric's ``what`` may end with, where its details have floors.
FLOORS = "; {at_floor_n:.3g} at {floor_n:,} images, {floor_real:.3g} between halves of the real ones and {floor_generated:.3g} of the generated"
#: The same of a number of one set, which for real images is something too.
OF_REAL = "; {at_floor_n:.3g} at {floor_n:,} images, {of_real:.3g} of real ones; halves differ by {floor_generated:.2g} and {floor_real:.2g}"
NEEDS: frozenset[Need] = frozenset({"train", "classes"})
INCEPTION = "inception"  # `figment.encoders.INCEPTION`, which imports torch


@dataclass(frozen=True)
class Sets:
    """``real`` float32 (n, D) and ``generated`` (m, D), rows of one encoder, with ``labels`` int (n,) and (m,) in [0, N)."""

    real: np.ndarray
    generated: np.ndarray
    labels: tuple[np.ndarray, np.ndarray]
    class_names: list[str]
    extractor: str
    seed: int


def compared(
    name: str,
    explains: str,
    metrics: tuple[Metric, ...],
    compare: Callable[[Sets], Iterable[Result]],
    fewest: int,
    oracle: str,
    *,
    of_each_class: int = 0,
    encoder: str | None = None,
    raw: bool = False,
) -> Measure:
    """A measure of two sets of features.

    Before anything is spent it is refused where there are fewer than ``fewest`` real images, or than ``of_each_class`` of a
    class, or where the encoder cannot be had; with too few kept images in the end it is left out, and that is said. Each of its
    results tells what it depends on: implementation, encoder and its weights, resize, precision.

    Args:
        compare: gives the results; of their metrics' names only what comes before a "/" counts.
        encoder: its name; None = ``evaluate.encoder``, or else the recipe's own.
        raw: whether its features are compared as its network gives them, and not of unit length.
    """

    def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
        if encoder == INCEPTION:
            from figment.encoders.inception import weights_file

            weights_file()
        train = given.get("train")
        said = "" if train is None else _too_few(train, recipe.task.class_names, range(len(recipe.task.class_names)))
        if said:
            raise FigmentError(
                f"evaluate.measures: {name} needs {needed('real training')}, and task.real.train has {said}. Give more, or take {name} out"
                " of evaluate.measures."
            )

    def take(trial: Trial) -> Iterator[Result]:
        from figment.encoders import identity

        kept, train = trial.kept, trial.train
        assert train is not None
        made = np.unique(kept.labels)
        for what, images in (("kept", kept), ("real", train)):
            if said := _too_few(images, trial.class_names, made):
                log.warning("%s needs %s, and there are %s: it is left out", name, needed(what), said)
                return
        own = encoder or trial.recipe.evaluate.encoder
        features = trial.features(own, raw=True) if raw else trial.features(own)
        extractor = trial.encoder_name if own is None else own if isinstance(own, str) else own.name
        both, labels = (features(train), features(kept)), (train.labels, kept.labels)
        sets = Sets(*both, labels, trial.class_names, extractor, trial.recipe.seed)
        told = {"implementation": f"figment {machine.versions()['figment-vision']}", **identity(features.encoder)}
        for result in compare(sets):
            yield replace(result, metric=result.metric.partition("/")[0], details={**result.details, **told})

    def _too_few(images: Images, class_names: list[str], classes: Iterable[int]) -> str:
        if len(images) < fewest:
            return f"{len(images)}"
        counts = np.bincount(images.labels, minlength=len(class_names))
        few = [f"{counts[label]} of {class_names[label]!r}" for label in classes if counts[label] < of_each_class]
        return ", ".join(few[:3]) + (f" and too few of {len(few) - 3:,} other classes" if few[3:] else "")

    def needed(what: str) -> str:
        each = f"{of_each_class} {what} images or more of each class"
        return each if of_each_class else f"{fewest} {what} images or more"

    return Measure(name, explains, metrics, take, NEEDS, check=check, oracle=oracle, encoder=encoder)
