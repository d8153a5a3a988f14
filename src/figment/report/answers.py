"""The measured numbers of a run folder as the page shows them: arms, verdict, curve, and what else was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from figment import measures, plain_yaml, records
from figment.evaluate import holm
from figment.evaluate.verdict import ALONE, PLACEBO
from figment.files import legible
from figment.guard import parse_json
from figment.layout import Run, Study
from figment.recipe.old_names import renewed
from figment.report.beside import WEIGHT, ledger, mean_over_classes, notes, weighed
from figment.report.page import NOT_MEASURED, Arm, Conclusion, Curve, Number
from figment.report.results import latest_results
from figment.report.text import measured, percent, points_interval
from figment.shots import ALL
from figment.types import Result
from figment.words import printable

NOT_JUDGED = (
    "The model is right on {share} of the real test images; guessing would be {chance}. Whether that is more than the same images"
    " with shuffled labels would give was not looked at (evaluate.evidence)."
)
NO_PLACEBO = (
    "The model is right on {share} of the real test images; guessing would be {chance}. It reads neither labels nor captions of generated"
    " images, so those with shuffled ones would teach it the same and are no rival: compare it with real images, and a backbone with the"
    " untrained one."
)
NO_CLASSES = (
    "The model is right on {share} of the real test images; guessing would be {chance}. Its images are of no class, so there is no rival with"
    " shuffled ones: compare it with the untrained backbone and with real images."
)
AT_LEVEL = " this one is judged at a level of {level} on one side, and the verdict's intervals are as wide."
LOOK = "Look {number} at a growing test set, {sizes} images:" + AT_LEVEL
PLANNED = "Look {number} at {sizes} of {planned:,} planned test images (O'Brien-Fleming):" + AT_LEVEL
ALONE_SAID = "Alone this recipe would be said to help, but it is one of {n} arms, and among so many its p of {p} may be luck (Holm). {sentence}"
WEIGHED = "Where both are learnt from, {said}: so the photographs foretell one another best, by cross-validation."
BEST = "Best of {n} arms: {name}, {worth} over its best rival, an interval that allows for the choice."
UNTRAINED, OWN, REAL_ONLY, REAL_ALL = "top1/zero_shot", "top1/synthetic", "top1/real_only", "top1/real_all"
REAL_ALONE = "real images alone"


def arm_folders(folder: Path) -> list[Path]:
    """The folders of the arms that were run beside this run, in their order."""
    study = Study(folder)
    order = study.order_of_arms
    if not order.is_file():
        return []
    told = records.vouched(folder, order.relative_to(folder).as_posix())
    with legible(order):
        return [study.arms / name for name in parse_json(told, order, "record")]


def with_class_intervals(result: Result) -> Result:
    """The page wants the per-class intervals by name."""
    classes = result.details.get("classes")
    if not classes:
        return result
    return replace(
        result, details={**result.details, "per_class_ci": {n: c["ci"] for n, c in classes.items() if c["ci"]}}
    )


def _what(recipe: dict[str, Any]) -> str:
    prompts, train = recipe["prompts"], recipe["train"]
    filters = [f["kind"] for f in recipe["filters"] if f["kind"] != "blank"]
    parts = [images_of(recipe["generate"], "images "), f"{prompts['kind']} prompts"]
    parts.append(f"{' + '.join(filters)} filter" if filters else "no filter")
    soft = train.get("soft_weight", 0)
    closed = train.get("kind") in ("words_and_images", "images_only")
    parts.append(
        "closed form"
        if closed
        else f"{train['kind']}, linear probe"
        if "backbone" in train
        else "cross-entropy"
        if soft == 0
        else f"soft targets (weight {soft:g}, T {train['temperature']:g})"
    )
    if recipe["few_shot"]:
        parts.insert(0, few_images(recipe["few_shot"]))
        if recipe["generate"].get("real_guidance"):
            parts.append("real guidance")
    if recipe["generate"].get("finetune"):
        parts.append("generator tuned on them")
    return ", ".join(parts)


def images_of(generate: Mapping[str, Any], what: str = "") -> str:
    """How many images a recipe makes: of each class, or of each prompt."""
    of_each = generate.get("images_per_prompt")
    return f"{of_each:,} {what}a prompt" if of_each else f"{generate['images_per_class']:,} {what}a class"


def few_images(few: dict[str, Any]) -> str:
    """The real images of ``few_shot`` in words."""
    if few["split"]:
        return "the split's real images"
    return "all real images" if few["shots"] == ALL else f"{few['shots']} real images a class"


def arms_of(folder: Path, recipe: dict[str, Any], results: dict[str, Result]) -> list[Arm]:
    """The untrained classifier, the other runs of the study, what others do with the real images, the recipe's own, the ceiling."""
    if OWN not in results:
        return []
    shown = {m: measures.known(m) for m in results}
    between = [m for m, s in shown.items() if s.shown == "arm" and m not in (UNTRAINED, OWN, REAL_ALL)]
    arms = judged_of(folder, recipe, results)
    words = dict(zip([arm.folder for arm in arms], holm.among([arm.worth for arm in arms]), strict=True))
    return [
        *_described_arms(results, [UNTRAINED]),
        *_arms_of_study(folder, words),
        *_described_arms(results, between),
        _own_arm(recipe, results, words.get(folder, "")),
        *_described_arms(results, [REAL_ALL]),
    ]


@dataclass(frozen=True)
class Judged:
    """A run of a study that has a verdict."""

    folder: Path
    name: str
    worth: Result


def judged_of(folder: Path, recipe: dict[str, Any], results: dict[str, Result]) -> list[Judged]:
    """Every run of the study that has a verdict, the recipe's own last: all their verdicts are given at once."""
    judged = []
    for other in arm_folders(folder):
        worth = latest_results(other).get("worth")
        if worth is not None:
            judged.append(Judged(other, recipe_of(other)["name"], worth))
    return [*judged, *([Judged(folder, recipe["name"], results["worth"])] if "worth" in results else [])]


def recipe_of(folder: Path) -> dict[str, Any]:
    """A run's resolved recipe as plain data. Raises FigmentError where it is not as it was written."""
    path = Run(folder).recipe
    return renewed(plain_yaml.parse(records.vouched(folder, path.name).decode(), f"The recipe {path}"))


def _described_arms(results: dict[str, Result], metrics: list[str]) -> list[Arm]:
    """Those of these arms that were measured, as their measures describe them."""
    there = [(results[m], measures.known(m)) for m in metrics if m in results]
    names = {UNTRAINED: baseline_of(results), REAL_ONLY: REAL_ALONE}
    return [
        Arm(
            names.get(r.metric, m.title),
            r.details.get("what") or _filled(m.what, r),
            r,
            difference(results, r.metric),
            mean_over_classes(r),
        )
        for r, m in there
    ]


def _arms_of_study(folder: Path, words: Mapping[Path, str]) -> list[Arm]:
    """The other runs of one study, each its own recipe's classifier."""
    arms = []
    for other in arm_folders(folder):
        theirs = {k: with_class_intervals(r) for k, r in latest_results(other).items()}
        if OWN in theirs:
            settings = recipe_of(other)
            arms.append(_own_arm(settings, theirs, words.get(other, "")))
    return arms


def _own_arm(recipe: dict[str, Any], results: dict[str, Result], word: str) -> Arm:
    """A recipe's own classifier."""
    own = results[OWN]
    placebo = results.get(PLACEBO)
    return Arm(
        recipe["name"],
        ", ".join(filter(None, [_what(recipe), weighed(own.details)])),
        own,
        difference(results, OWN),
        mean_over_classes(own),
        word,
        None if placebo is None else placebo.value,
    )


def baseline_of(results: dict[str, Result]) -> str:
    """The arm that the others are compared with: none where no classifier knows the classes untrained, nor learnt from few real images."""
    if UNTRAINED in results:
        return results[UNTRAINED].details.get("called", "zero-shot")
    return REAL_ALONE if "gain/over_real_only" in results else ""


def difference(results: dict[str, Result], metric: str) -> Result | None:
    """The paired difference of an arm to the baseline, where it was measured."""
    if metric == UNTRAINED:
        return None
    if UNTRAINED in results:
        gain, baseline = results.get(metric.replace("top1/", "gain/", 1)), UNTRAINED
    else:
        gain, baseline = results.get("gain/over_real_only") if metric == OWN else None, REAL_ONLY
    if gain is None or metric != OWN or "worth" not in results:
        return gain
    judged = results["worth"].details["differences"].get(baseline)  # with the interval of the verdict's own claim
    return gain if judged is None else replace(gain, ci=tuple(judged["ci"]))


def _filled(what: str, result: Result) -> str:
    """The description of a number with what is told in its details; a result without them has no description."""
    try:
        return what.format_map(result.details)
    except (KeyError, ValueError, TypeError):
        return ""


def also_measured(results: dict[str, Result]) -> Iterator[Number]:
    """The measured numbers that no other part of the page shows."""
    explained = {m.name: measure.explains for measure in measures.found().values() for m in measure.metrics}
    for metric, result in results.items():
        shown = measures.known(metric)
        if shown.shown == "row":
            value, what = measured(result, shown.unit), _filled(shown.what, result)
            quiet = shown.quiet and not result.value
            yield Number(shown.title, value, result.n, what, explained.get(metric, ""), quiet)


def conclusion_of(
    results: dict[str, Result],
    n_classes: int,
    judged: Sequence[Judged] = (),
    cost: str = "",
    unmeasured: Sequence[str] = (),
) -> Conclusion:
    """The verdict on a recipe, which is one of several where its study has arms: ``judged`` are all of them, its own last.

    ``unmeasured``: what to know where there were no test images."""
    if OWN not in results:
        return replace(NOT_MEASURED, notes=unmeasured)
    rate, worth = results.get("exchange_rate"), results.get("worth")
    exchange = "" if rate is None else _exchange(rate)
    rows = ledger(results, n_classes)
    if worth is None:
        share, chance = percent(results[OWN].value), percent(1 / n_classes).replace(".0 %", " %")
        told = results[OWN].details
        why = NO_CLASSES if not told.get("has_classes", True) else NOT_JUDGED
        said = (why if told.get("has_placebo", True) else NO_PLACEBO).format(share=share, chance=chance)
        return Conclusion("not judged", said, None, exchange, ledger=rows, notes=[*_weighed(told)], cost=cost)
    told = worth.details
    word = holm.among([arm.worth for arm in judged])[-1] if judged else told["verdict"]
    said = told["sentence"]
    if word == ALONE:
        said = ALONE_SAID.format(n=len(judged), p=f"{told['p']:.2g}", sentence=said)
    beside = [*_weighed(results[OWN].details), *notes(told, n_classes), *_look(worth), *_best(judged)]
    return Conclusion(word, said, worth, exchange, "the best rival", rows, beside, told.get("next", ()), cost)


def _weighed(told: Mapping[str, Any]) -> Iterator[str]:
    if (said := weighed(told)) and told[WEIGHT] < 1:  # where there are too few to ask it is 1, and no news
        yield WEIGHED.format(said=said)


def _look(worth: Result) -> Iterator[str]:
    """Which look at the test set this is, where that is worth a word."""
    look = worth.details.get("look")
    if look is not None and look["level"]:  # of a plan that is spent the verdict's own sentence speaks
        sizes = ", ".join(f"{n:,}" for n in look["before"]) + (" and then " if look["before"] else "") + f"{worth.n:,}"
        text = LOOK if look["planned"] is None else PLANNED
        yield text.format(number=look["number"], sizes=sizes, planned=look["planned"], level=f"{look['level']:.2g}")


def _best(judged: Sequence[Judged]) -> Iterator[str]:
    """The arm that did best, with an interval that knows it was chosen."""
    best = holm.best_of([arm.worth for arm in judged])
    if best is not None:
        worth = points_interval(holm.as_best(judged[best].worth, len(judged)))
        yield BEST.format(n=len(judged), name=printable(judged[best].name), worth=worth)


def _exchange(rate: Result) -> str:
    if rate.details.get("learner") is None:  # of version 0.1, whose scale began at the zero-shot classifier
        return ""
    if rate.details.get("pixels"):
        placebo = rate.details.get("placebo")
        beside = f" With captions spread over them they are worth {placebo}." if placebo else ""
        return f"To pre-train on, in as many steps, the generated images are worth {rate.details['text']}.{beside}"
    what = "the few real images and the generated ones together" if rate.details.get("with_real") else "the images"
    return f"To a learner that has never seen the class names, {what} are worth {rate.details['text']}."


def curve_of(results: dict[str, Result]) -> Curve | None:
    shots = {
        int(k.removeprefix("top1/real_")): r
        for k, r in results.items()
        if k.startswith("top1/real_") and k.removeprefix("top1/real_").isdigit()
    }
    rate = results.get("exchange_rate")
    if not shots or rate is None:
        return None
    inside, told = min(shots) <= rate.value <= max(shots), rate.details
    ci = told.get("synthetic_ci")
    own = results[OWN] if ci is None else Result("top1/synthetic", told["synthetic"], rate.n, (ci[0], ci[1]))
    return Curve(
        dict(sorted(shots.items())),
        own,
        rate.value if inside else None,
        rate.ci if inside else None,
    )
