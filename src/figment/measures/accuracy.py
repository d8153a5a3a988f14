"""How often the recipe's classifier is right on real test images, and whether that is better than without generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.measure import Measure, Metric, starts_untrained

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Result


def names(recipe: Recipe) -> list[str]:
    untrained, few = starts_untrained(recipe), recipe.few_shot is not None
    found = {
        "top1/zero_shot": untrained,
        "top1/synthetic": True,
        "gain/synthetic": untrained,
        "top1/real_only": few,
        "gain/real_only": few and untrained,
        "gain/over_real_only": few,
    }
    return [name for name, there in found.items() if there]


def take(trial: Trial) -> Iterator[Result]:
    if trial.of_untrained is not None:
        yield trial.accuracy("top1/zero_shot", trial.of_untrained, seeds=(), **trial.recipe.train.untrained)
    # Two generators compare where a learner of the same fingerprint learnt from as many images of theirs.
    told = {"images": len(trial.kept), "learner": trial.learner.fingerprint}
    if not trial.recipe.train.has_placebo:
        told["has_placebo"] = False
    if not trial.recipe.prompts.has_classes:
        told["has_classes"] = False
    yield trial.accuracy("top1/synthetic", trial.of_models, **{**trial.facts, **told})
    yield from trial.over_untrained("gain/synthetic", trial.of_models)
    if trial.shots is not None:
        yield trial.accuracy("top1/real_only", trial.of_shots_alone, images=len(trial.shots))
        yield from trial.over_untrained("gain/real_only", trial.of_shots_alone)
        yield trial.gain("gain/over_real_only", trial.of_shots_alone, trial.of_models)


MEASURE = Measure(
    name="accuracy",
    explains="How often the classifier is right on the real test images, beside the untrained one and, with few_shot, beside one"
    " that learnt from the few real images alone. A gain is a paired difference: the same test images, seed by seed.",
    metrics=(
        Metric("top1/zero_shot", "top-1, untrained", what="the class names' text features, no images", shown="arm"),
        Metric("top1/synthetic", "top-1", shown="arm"),
        Metric("gain/synthetic", "gain over the untrained classifier", "points", shown="elsewhere"),
        Metric(
            "top1/real_only",
            "real images alone",
            what="trained on the {images:,} real images of few_shot",
            shown="arm",
        ),
        Metric("gain/real_only", "gain of real images alone", "points", shown="elsewhere"),
        Metric("gain/over_real_only", "gain over real images alone", "points", shown="elsewhere"),
    ),
    take=take,
    needs=frozenset({"test"}),
    asked=lambda recipe: True,
    settings=lambda metrics: {},
    names=names,
    trainings=lambda recipe, images: recipe.train.seeds if recipe.few_shot else 0,
)
