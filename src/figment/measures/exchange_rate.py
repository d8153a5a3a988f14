"""How many real images a class the generated ones are worth: with their labels, or, to a backbone, as pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric
from figment.types import Result, Training

if TYPE_CHECKING:
    from figment.evaluate.exchange_rate import Curve
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images

OF_CURVE = "top1/real_"
OF_PLACEBO = "exchange_rate/placebo"
PLACEBO = "top1/placebo"  # of the measure evidence, which is taken first
SETS = 20  # drawn again, for the interval


def names(recipe: Recipe) -> list[str]:
    """As far as the recipe tells: points above the size of the smallest class fall away."""
    spread = recipe.train.teaches_features and recipe.train.has_placebo and recipe.evaluate.evidence
    return ["exchange_rate", *[OF_PLACEBO] * spread, *(f"{OF_CURVE}{k}" for k in sorted(set(recipe.evaluate.shots)))]


def settings(metrics: set[str]) -> dict[str, Any]:
    of_curve = any(m in ("exchange_rate", OF_PLACEBO) or m.removeprefix(OF_CURVE).isdigit() for m in metrics)
    placebos = {"evaluate.evidence": True} if OF_PLACEBO in metrics else {}
    return {"evaluate.exchange_rate": of_curve, **placebos}


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    if "train" not in given:
        return
    smallest = int(np.bincount(given["train"].labels, minlength=len(recipe.task.class_names)).min())
    if smallest < min(recipe.evaluate.shots):
        raise FigmentError(
            f"evaluate.shots starts at {min(recipe.evaluate.shots)} real images of each class, and the smallest class in"
            f" task.real.train has {smallest}. Give more images, add a smaller number to evaluate.shots, or set"
            " evaluate.exchange_rate: false."
        )


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.accuracy import correctness
    from figment.evaluate.exchange_rate import Draw, exchange_rate, real_curve

    evaluate, train, labels = trial.recipe.evaluate, trial.train, trial.real_test.labels
    assert train is not None

    of_pixels = trial.recipe.train.teaches_features
    wordless = of_pixels or trial.untrained is None  # the recipe's own learner never sees a class name
    learner = trial.learner if wordless else trial.images_only

    def learn(draws: Sequence[Draw]) -> np.ndarray:
        trainings = [_training(trial, train.take(d.index), d.seed, of_pixels) for d in draws]
        return trial.predictions("real images alone, for the exchange rate", trainings, learner)

    shots, draws, seed = evaluate.shots, evaluate.draws, trial.recipe.seed
    curve = real_curve(train.labels, labels, learn, None, shots=shots, draws=draws, seed=seed)
    yield from (_point(curve.correct[:, i], k, trial) for i, k in enumerate(curve.shots))
    made, again = (trial.of_models, None) if wordless else _of_images_only(trial)
    resampled = None if again is None else again == labels
    rate = exchange_rate(curve, correctness(made, labels), seed=seed, resampled=resampled, groups=trial.groups)
    with_real = wordless and not of_pixels and trial.shots is not None  # the recipe's own models learnt from those too
    told = {
        "learner": learner.name,
        "with_real": with_real,
        "pixels": of_pixels,
        "synthetic_ci": list(trial.interval(made == labels)),
    }
    spread = None if not of_pixels else _of_placebo(trial, curve)
    if spread is not None:
        told["placebo"] = spread.details["text"]
        yield replace(spread, metric=OF_PLACEBO)
    yield replace(rate, metric="exchange_rate", details={**rate.details, **told})


def _training(trial: Trial, real: Images, seed: int, of_pixels: bool) -> Training:
    """Where only the pixels are asked about, these take the place of the generated images, and what features are judged by stays."""
    return Training(real, trial.shots, seed) if of_pixels else Training(real=real, seed=seed)


def _of_placebo(trial: Trial, curve: Curve) -> Result | None:
    """Of a backbone: what the verdict's placebo, the same pixels with captions and labels spread over them, is worth on the same curve,
    where it was trained. What the generated images are worth beyond it, their captions have taught."""
    from figment.evaluate.accuracy import correctness
    from figment.evaluate.exchange_rate import exchange_rate

    placebo = trial.recorded.get(PLACEBO)
    if placebo is None:
        return None
    right = correctness(placebo, trial.real_test.labels)
    return exchange_rate(curve, right, seed=trial.recipe.seed, groups=trial.groups)


def _of_images_only(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """What a learner without words takes the test images for after all generated images, before any filter, int (1, n), and
    after each of some sets drawn again from them, int (B, n)."""
    from figment.evaluate.placebo import resample
    from figment.measures.trial import prompts_of

    made = trial.made
    assert made is not None
    prompts, seed = prompts_of(made), trial.recipe.seed
    sets = [made.take(resample(made.labels, np.random.default_rng([seed, 4, j]), prompts)) for j in range(SETS)]
    of_made = trial.predictions("images only", [Training(made, None, 0)], trial.images_only)
    return of_made, trial.predictions(
        "images only, sets drawn again", [Training(drawn, None, 0) for drawn in sets], trial.images_only
    )


def _point(correct: np.ndarray, shots: int, trial: Trial) -> Result:
    """Accuracy after ``shots`` real images a class, mean over draws: ``correct`` bool (draws, n)."""
    shares, n = correct.mean(1), correct.shape[1]
    details = {"per_seed": shares.tolist()}
    return Result(f"{OF_CURVE}{shots}", float(shares.mean()), n, trial.interval(correct), details=details)


MEASURE = Measure(
    name="exchange_rate",
    explains="Real images alone are learnt from at growing numbers a class, several draws each; where the accuracy of the generated"
    " images meets that curve is what they are worth (`evaluate.exchange_rate`, `shots`, `draws`). Both sides are learnt by a"
    " learner that never sees the name of a class, from all generated images before any filter: on a scale that starts at the"
    " zero-shot classifier, shuffled labels are worth photographs too. 0 means less than the smallest number, infinity more than"
    " the largest. Of a backbone it is the pixels' worth: the same pre-training in as many steps on real images in the place of the"
    " generated ones, judged by the same labelled images; its details have the worth of the placebo, whose captions are spread.",
    metrics=(
        Metric("exchange_rate", "worth in real images a class", "images a class", shown="elsewhere"),
        Metric(OF_PLACEBO, "worth of the placebo in real images a class", "images a class", shown="elsewhere"),
        Metric(f"{OF_CURVE}<k>", "top-1, <k> real images a class", shown="elsewhere"),
    ),
    take=take,
    needs=frozenset({"test", "train", "classes"}),
    asked=lambda recipe: recipe.evaluate.exchange_rate,
    settings=settings,
    names=names,
    check=check,
    trainings=lambda recipe, images: (
        recipe.evaluate.draws * len(set(recipe.evaluate.shots)) + SETS * recipe.train.is_cheap
    ),
)
