"""Do the generated images help, or would anything have? The verdict, and the rivals it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric, starts_untrained
from figment.types import Training

if TYPE_CHECKING:
    from figment.evaluate.content import Content
    from figment.evaluate.kind import Difference
    from figment.evaluate.levers import Measured
    from figment.evaluate.looks import Look
    from figment.evaluate.predictions import Judged
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

SPENT = (
    "The verdict was planned for {planned:,} test images and has been given: what may err was spent on them, so nothing new can be said"
    " of {n:,}. Plan another study, on images that nobody has looked at."
)
CALIBRATED_ON = 20_000  # generated images, at most, that a bias is fitted on
#: Placebos, and sets drawn again: where a training is seconds on features, where it is longer, and where it is a network's.
CHEAP, LARGE, COSTLY = (6, 20), (6, 0), (2, 0)
LARGE_FROM = 100_000_000  # images x classes x epochs of one training: some seconds of a CPU


def numbers(recipe: Recipe, images: int) -> tuple[int, int]:
    """How many placebos are trained on so many images, and how many sets are drawn again, unless the recipe says so."""
    own, train = recipe.evaluate, recipe.train
    size = images * len(recipe.task.class_names) * int(getattr(train, "epochs", 1))
    usual = COSTLY if not train.is_cheap else LARGE if size >= LARGE_FROM else CHEAP
    sets = own.resamples if own.shot_draws is None else own.shot_draws
    return usual[0] if own.placebos is None else own.placebos, usual[1] if sets is None else sets


def names(recipe: Recipe) -> list[str]:
    untrained, few = starts_untrained(recipe), recipe.few_shot is not None
    there = {
        "top1/bias_removed": untrained,
        "top1/placebo": True,
        "top1/real_repeated": few,
        "top1/images_only": True,
        "gain/mean_over_classes": untrained or few,
        "gain/over_bias_removed": untrained,
        "gain/over_placebo": True,
        "gain/over_real_repeated": few,
        "content": True,
        "worth": True,
    }
    return [name for name, is_there in there.items() if is_there]


def trainings(recipe: Recipe, images: int) -> int:
    """Placebos, sets drawn again with a placebo of each, and with few_shot the real images again and again; of other choices of
    these, the real images alone, once and again and again."""
    n_placebos, n_sets = numbers(recipe, images)
    other_shots = 2 * n_sets if recipe.evaluate.shot_draws else 0
    return n_placebos + 2 * n_sets + (recipe.train.seeds if recipe.few_shot else 0) + other_shots


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    """Other choices of the few real images can only be tried where the generated images do not depend on these."""
    if recipe.evaluate.shot_draws is None:
        return
    bound = [f"the filter {filter.kind!r}" for filter in recipe.filters if "train" in filter.needs]
    bound += [f"prompts.kind: {recipe.prompts.kind}"] * ("train" in recipe.prompts.needs)
    bound += ["generate.real_guidance"] * recipe.generate.guided + ["generate.finetune"] * recipe.generate.finetunes
    if bound:
        raise FigmentError(
            "evaluate.shot_draws tries other real images with the same generated ones, and these were made or chosen by the real"
            f" images: {', '.join(bound)}. Leave evaluate.shot_draws out: the verdict is then about these real images."
        )


def settings(metrics: set[str]) -> dict[str, Any]:
    return {"evaluate.evidence": bool(metrics & OWN_METRICS)}


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.kind import LEVEL
    from figment.evaluate.looks import look_at
    from figment.evaluate.predictions import judge
    from figment.evaluate.verdict import PLACEBO, REAL_REPEATED

    n = len(trial.real_test)
    n_placebos, n_sets = numbers(trial.recipe, len(trial.kept))
    look = look_at(n, trial.looked_at, trial.recipe.evaluate.planned_test)
    shots = _shots(trial, n_sets)
    found = trial.predictions("placebos, and sets drawn again", _trainings(trial, n_placebos, shots))
    placebos, again, placebos_again = np.split(found, [n_placebos, n_placebos + n_sets])
    assert trial.made is not None
    only = trial.predictions("images only", [Training(trial.made, None, 0)], trial.images_only)
    without_content = _without_content(trial, shots)
    rivals = {metric: of_rival for metric, (of_rival, _) in without_content.items()}
    of_sets = {metric: sets for metric, (_, sets) in without_content.items() if sets is not None}
    judged = judge(
        trial.real_test.labels,
        trial.of_models,
        rivals,
        placebos,
        only[0],
        resampled={"own": again, PLACEBO: placebos_again, **of_sets} if n_sets else None,
        groups=trial.groups,
        class_names=trial.class_names,
        seed=trial.recipe.seed,
        level=look.level or LEVEL,
    )
    rivals[PLACEBO] = placebos
    for metric, d in judged.differences.items():
        if metric in OWN_METRICS:  # other measures show the others
            seeds = trial.seeds if metric == REAL_REPEATED else ()
            yield trial.accuracy(metric, rivals[metric], seeds, placebos=n_placebos)
            yield _gain(metric.replace("top1/", "gain/over_"), d, n, trial.seeds)
    yield trial.accuracy("top1/images_only", only, seeds=())
    if judged.over_classes is not None:
        yield _gain("gain/mean_over_classes", judged.over_classes, n, trial.seeds)
    yield _content(judged.content, n)
    yield _worth(trial, judged, look)


def _shots(trial: Trial, n_sets: int) -> list[Images | None]:
    """What each set drawn again is learnt from together with: the recipe's few real images, or others, where the claim is about such."""
    others = trial.recipe.evaluate.shot_draws is not None
    return [trial.other_shots(j) if others else trial.shots for j in range(n_sets)]


def _without_content(trial: Trial, shots: Sequence[Images | None]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """What rivals that use none of the images' content take the test images for, int (S, n), the baseline first; and what they
    do where the set is drawn again, int (B, n), for those that this changes. Without any, the baseline is guessing."""
    from figment.evaluate.verdict import BIAS_REMOVED, REAL_ONLY, REAL_REPEATED, UNTUNED

    rivals: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    if trial.shots is not None:
        repeated = trial.predictions(
            "real images again and again", [_repeated(trial, trial.shots, seed) for seed in trial.seeds]
        )
        alone_again, repeated_again = _of_other_shots(trial, shots)
        rivals[REAL_ONLY] = trial.of_shots_alone, alone_again
        rivals[REAL_REPEATED] = repeated, repeated_again
    elif trial.of_untrained is not None:
        rivals[UNTUNED] = trial.of_untrained, None
    if trial.untrained is not None:
        unbiased = _unbiased(trial, shots)
        rivals[BIAS_REMOVED] = unbiased[:1], unbiased[1:]
    return rivals


def _of_other_shots(trial: Trial, shots: Sequence[Images | None]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """What other choices of the few real images teach, alone and again and again: int (B, n) each; None where there are none."""
    if trial.recipe.evaluate.shot_draws is None:
        return None, None
    seeded = [(images, trial.seeds[0] + j) for j, images in enumerate(shots) if images is not None]
    alone = [Training(real=images, seed=seed) for images, seed in seeded]
    repeated = [_repeated(trial, images, seed) for images, seed in seeded]
    found = trial.predictions("other real images, alone, and again and again", [*alone, *repeated])
    return found[: len(alone)], found[len(alone) :]


def _worth(trial: Trial, judged: Judged, look: Look) -> Result:
    """The verdict, with everything it rests on."""
    from figment.evaluate.levers import levers
    from figment.evaluate.verdict import CANNOT_SAY
    from figment.types import Result

    n, (n_placebos, n_sets) = len(trial.real_test), numbers(trial.recipe, len(trial.kept))
    counts = np.bincount(trial.real_test.labels, minlength=len(trial.class_names))
    spent = not look.level
    told = {
        "verdict": CANNOT_SAY if spent else judged.word,
        "sentence": SPENT.format(planned=look.planned, n=n) if spent else judged.sentence,
        "claim": _claim(trial, n_sets),
        "rival": judged.judgement.rival,
        "p": judged.judgement.p,
        "accuracies": dict(judged.accuracies),
        "differences": {m: d.told() for m, d in judged.differences.items()},
        "smallest_visible": max(d.smallest_visible(n) for d in judged.differences.values()),
        "mean_over_classes": None if judged.over_classes is None else judged.over_classes.told(),
        "worse_classes": [asdict(one) for one in judged.worse],
        "next": [] if spent else levers(_measured(trial, judged)),
        "untuned_guesses": judged.untuned_guesses,
        "chance": 1 / len(trial.class_names),
        "commonest_class": float(counts.max() / n),
        "test_images": dict(zip(trial.class_names, counts.tolist(), strict=True)),
        "placebos": n_placebos,
        "resamples": n_sets,
        **({"look": asdict(look)} if look.said else {}),
    }
    return Result("worth", judged.worth, n, judged.ci, seeds=tuple(trial.seeds), details=told)


def _claim(trial: Trial, n_sets: int) -> str:
    if not n_sets:
        return "this very set of images"
    return "other sets and other real images" if trial.recipe.evaluate.shot_draws else "other sets of this recipe"


def _measured(trial: Trial, judged: Judged) -> Measured:
    from figment.evaluate.levers import Measured
    from figment.evaluate.verdict import BIAS_REMOVED

    assert trial.made is not None
    recipe, n_classes = trial.recipe, len(trial.class_names)
    made, kept = (np.bincount(images.labels, minlength=n_classes) for images in (trial.made, trial.kept))
    unused = 0
    if trial.train is not None and recipe.few_shot is None:
        unused = int(np.bincount(trial.train.labels, minlength=n_classes).min())
    left = {name: float(k / m) for name, k, m in zip(trial.class_names, kept, made, strict=True) if m}
    return Measured(
        judged.judgement,
        judged.differences,
        judged.content,
        n=len(trial.real_test),
        n_classes=n_classes,
        own=judged.accuracies["own"],
        images_only=judged.accuracies["own"] - judged.over_images_only.value,
        over_images_only=judged.over_images_only,
        bias_removed=judged.accuracies.get(BIAS_REMOVED),
        untuned_guesses=judged.untuned_guesses,
        kept={} if recipe.train.images_per_class else left,  # which leaves some out that no filter rejected
        kind=recipe.train.kind,
        guidance=trial.guidance,
        real_images=unused,
    )


def _trainings(trial: Trial, n_placebos: int, shots: Sequence[Images | None]) -> list[Training]:
    """The placebos; the set drawn again and again, with these shots; and a placebo of each of those. Learner and steps are the
    recipe's."""
    from figment.evaluate.placebo import resample, spread_labels
    from figment.images_in.relabelled import Relabelled
    from figment.measures.trial import prompts_of

    def spread(images: Images, rng: np.random.Generator) -> Images:
        return Relabelled(images, spread_labels(images.labels, rng))

    kept, prompts, first = trial.kept, prompts_of(trial.kept), trial.seeds[0]
    placebos, again, placebos_again = [], [], []
    for k in range(n_placebos):
        rng = np.random.default_rng([trial.recipe.seed, 1, k])
        placebos.append(Training(spread(kept, rng), trial.shots, first + k))
    for j, own_shots in enumerate(shots):
        rng = np.random.default_rng([trial.recipe.seed, 2, j])
        drawn = kept.take(resample(kept.labels, rng, prompts))
        again.append(Training(drawn, own_shots, first + j))
        placebos_again.append(Training(spread(drawn, rng), own_shots, first + j))
    return [*placebos, *again, *placebos_again]


def _repeated(trial: Trial, shots: Images, seed: int) -> Training:
    """The shots in the place of the generated images as well, as often as it takes: as many steps, and nothing new in them."""
    return Training(shots.take(np.resize(np.arange(len(shots)), len(trial.kept))), shots, seed)


def _unbiased(trial: Trial, shots: Sequence[Images | None]) -> np.ndarray:
    """What the untrained classifier takes the test images for once its bias is removed, int (1 + B, n): the bias that the
    generated images show before any filter, which favour the classes that it favours, and that each set drawn again does; or the
    one that the shots show."""
    from figment.bias import bias_shown
    from figment.evaluate.placebo import resample
    from figment.measures.trial import prompts_of

    untrained = trial.untrained
    assert untrained is not None and trial.made is not None
    made, rng = trial.made, np.random.default_rng([trial.recipe.seed, 3])
    if len(made) > CALIBRATED_ON:
        made = made.take(np.sort(rng.choice(len(made), CALIBRATED_ON, replace=False)))
    seen, asked = untrained.logits(made), untrained.logits(trial.real_test)
    unlabelled = None if trial.unlabelled is None else untrained.logits(trial.unlabelled)

    def without_bias(rows: np.ndarray, few: Images | None) -> np.ndarray:
        of_shots = None if few is None else (untrained.logits(few), few.labels)
        return (asked + bias_shown((seen[rows], made.labels[rows]), of_shots, unlabelled)).argmax(1)

    prompts = prompts_of(made)
    of_sets = [without_bias(resample(made.labels, rng, prompts), few) for few in shots]
    return np.stack([without_bias(np.arange(len(made)), trial.shots), *of_sets]).astype(np.int32)


def _gain(metric: str, d: Difference, n: int, seeds: tuple[int, ...]) -> Result:
    from figment.types import Result

    parts = {"image_se": d.image_se, "set_se": d.set_se, "p": d.p, "discordance": d.discordance}
    return Result(metric, d.value, n, d.ci, seeds=tuple(seeds), details=parts)


def _content(content: Content, n: int) -> Result:
    from figment.evaluate.accuracy import wilson
    from figment.evaluate.sentences import FEW_CLASSES
    from figment.types import Result

    held = "they hold the classes" + ("" if content.by_permutation else f"; {FEW_CLASSES}")
    told: Mapping[str, Any] = {
        "passed": content.passed,
        "p": content.p,
        "test": "permutation" if content.by_permutation else "above 1/N",
        "said": held if content.passed else "chance explains it",
    }
    return Result("content", content.accuracy, n, wilson(content.accuracy, content.independent, 1.96), details=told)


MEASURE = Measure(
    name="evidence",
    explains="Whether the generated images help: the recipe's classifier against rivals that use none of their content. The untrained"
    " classifier with its bias removed (no labels, no training); placebos, the same images with labels spread over the classes;"
    " with few_shot, the real images alone in as many steps. And what a learner that never sees a class name gets from the images"
    " before any filter, which must hold the classes. Intervals are for other sets of the same recipe (the kept images drawn again"
    " within each class, `evaluate.resamples`). `worth` is the smallest of the differences; its details hold the verdict.",
    metrics=(
        Metric(
            "top1/bias_removed",
            "bias removed",
            what="the untrained classifier, its bias removed: no labels, no training",
            shown="arm",
        ),
        Metric("top1/placebo", "placebo", what="the same images with shuffled labels, mean of {placebos}", shown="arm"),
        Metric(
            "top1/real_repeated",
            "real images repeated",
            what="the few real images alone, in as many steps",
            shown="arm",
        ),
        Metric("top1/images_only", "images only", what="learnt from all generated images, without words", shown="arm"),
        Metric("gain/over_bias_removed", "gain over the bias-removed classifier", "points"),
        Metric("gain/over_placebo", "gain over the placebo", "points"),
        Metric("gain/over_real_repeated", "gain over the real images repeated", "points"),
        Metric("gain/mean_over_classes", "gain in the mean over classes", "points", what="each class counts the same"),
        Metric("content", "real classes known from the images alone", what="the mean over classes; {said}"),
        Metric("worth", "gain over the best rival", "points", shown="elsewhere"),
    ),
    take=take,
    needs=frozenset({"test", "classes"}),
    check=check,
    asked=lambda recipe: recipe.evaluate.evidence and recipe.train.has_placebo,
    settings=settings,
    names=names,
    trainings=trainings,
)

OWN_METRICS = {metric.name for metric in MEASURE.metrics}
