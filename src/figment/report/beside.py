"""What stands beside the verdict on the first screen: the ledger of accuracies, what to bear in mind, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from figment.evaluate.classes import disagreement
from figment.evaluate.content import FEW_CLASSES
from figment.evaluate.kind import Difference
from figment.evaluate.sentences import RIVALS
from figment.recipe.prices import Prices
from figment.report.text import percent, points, shorten, signed
from figment.types import Result

WEIGHT = "weight of a generated image"  # what the learners in closed form call it
MOST_WORSE = 5  # classes that are named
#: The ledger's rows after guessing and the commonest class: metric -> what it is called.
ROWS = {
    "top1/zero_shot": "zero-shot",
    "top1/bias_removed": "bias removed",
    "top1/placebo": "placebo",
    "top1/synthetic": "this recipe",
    "top1/images_only": "images alone",
    "top1/real_only": "real alone",
    "top1/real_repeated": "real repeated",
    "top1/real_all": "all real",
}
CLAIMS = {
    "other sets of this recipe": "Intervals are for other sets of images that this recipe would make.",
    "other sets and other real images": "Intervals are for other sets of images that this recipe would make, and for other choices of"
    " the few real images.",
    "this very set of images": "Intervals are about this very set of images: other sets were not drawn (evaluate.resamples).",
}


def ledger(results: Mapping[str, Result], n_classes: int) -> list[tuple[str, str]]:
    """What reaches which accuracy, as far as it was measured: (name, per cent). Guessing first, all real images last."""
    counts = test_images(results["top1/synthetic"])
    rows = {"chance": 1 / n_classes}
    if counts:
        rows["commonest class"] = max(counts.values()) / sum(counts.values())
    there = [(results[metric], name) for metric, name in ROWS.items() if metric in results]
    rows |= {result.details.get("called", name): result.value for result, name in there}
    return [(name, percent(value)) for name, value in rows.items()]


def test_images(result: Result) -> dict[str, int]:
    """How many there are of each class; empty where the result does not tell."""
    return {name: int(told["n"]) for name, told in result.details.get("classes", {}).items()}


def mean_over_classes(result: Result) -> float | None:
    """Each class counting the same; None where all have as many test images, and it is the accuracy itself."""
    sizes = {n for n in test_images(result).values() if n}
    return float(np.mean(list(result.per_class.values()))) if len(sizes) > 1 else None


def notes(told: Mapping[str, Any], n_classes: int) -> Iterator[str]:
    """What to bear in mind with a verdict: ``told`` are the details of ``worth``."""
    if told.get("untuned_guesses"):
        yield "The untuned classifier is no better than guessing, even with its bias removed: it does not know these classes."
    yield from _disagreement(told)
    yield from _worse(told)
    if n_classes <= FEW_CLASSES:
        yield f"With {n_classes} classes a chance likeness of generated images and real classes cannot be excluded."
    yield CLAIMS[told["claim"]]


def weighed(told: Mapping[str, Any]) -> str:
    """What a generated image weighs beside a photograph, where they were learnt from together and somebody asked; else "". ``told`` are the
    details of a recipe's own accuracy, which have the facts of its model."""
    weight = told.get(WEIGHT)
    if weight is None:
        return ""
    if not weight:
        return "generated images weigh nothing"
    return f"a generated image weighs {'as much as' if weight == 1 else f'{weight:g} of'} a photograph"


def _disagreement(told: Mapping[str, Any]) -> Iterator[str]:
    over = told.get("mean_over_classes")
    if over is None:
        return
    baseline, first = next(iter(told["differences"].items()))
    of_classes = Difference.of(over)
    said = disagreement(Difference.of(first), of_classes)
    if said:
        low, high = of_classes.ci
        yield (
            f"The mean over classes {said}: {points(of_classes.value)} against {RIVALS[baseline]} ({signed(low)} to {signed(high)}),"
            f" where the accuracy on all images is {points(first['value'])}. Classes count as many times as they have test images, and"
            f" the commonest has {percent(told['commonest_class'])} of them. The verdict goes by all images."
        )


def _worse(told: Mapping[str, Any]) -> Iterator[str]:
    """The classes that got worse, the worst first."""
    worse = told.get("worse_classes", [])
    if not worse:
        return
    baseline, n_classes = next(iter(told["differences"])), len(told["test_images"])
    named = [
        f"{shorten(one['name'], 28)} {signed(one['value'])} ({signed(one['ci'][0])} to {signed(one['ci'][1])}, {one['n']:,} test image"
        f"{'s' * (one['n'] != 1)})"
        for one in worse[:MOST_WORSE]
    ]
    more = f"; and {len(worse) - MOST_WORSE:,} more" if len(worse) > MOST_WORSE else ""
    yield (
        f"{'Class' if len(worse) == 1 else 'Classes'} surely worse than with {RIVALS[baseline]}, in points: {'; '.join(named)}{more}."
        f" Intervals have Bonferroni's correction over {n_classes:,} classes."
    )


def cost(results: Mapping[str, Result], prices: Prices, seconds: float, n_classes: int) -> str:
    """What generating took, beside the photographs that would have to be labelled for as much."""
    worth = worth_in_photographs(results, prices, n_classes)
    return f"{worth}{'; t' if worth else 'T'}he images took {prices.generating(seconds)}."


def worth_in_photographs(results: Mapping[str, Result], prices: Prices, n_classes: int) -> str:
    """What the exchange rate is in photographs and their price; nothing where it was not measured."""
    rate = results.get("exchange_rate")
    if rate is None or rate.details.get("learner") is None:
        return ""
    shots = [point["shots"] for point in rate.details["curve"]]
    about, a_class = ("about ", rate.value)
    if not 0 < rate.value < math.inf:
        about, a_class = ("less than ", shots[0]) if rate.value == 0 else ("more than ", shots[-1])
    photographs = round(a_class) if a_class >= 1 else a_class
    return f"Worth {about}{photographs:,} photograph{'s' * (photographs != 1)} a class: {prices.labelling(photographs * n_classes)}"
