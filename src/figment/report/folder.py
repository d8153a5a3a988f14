"""A run folder to its report: everything the page shows is read from disk, so it can be made again at any time."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from figment import measures, records
from figment.errors import FigmentError
from figment.images_in import ShardImages
from figment.images_in.shards import open_run_images
from figment.images_in.unreadable import named
from figment.images_in.verdicts import read_verdicts
from figment.layout import Run, Study
from figment.recipe.old_names import renewed
from figment.report.page import (
    NOT_MEASURED,
    Arm,
    Comparison,
    Conclusion,
    Counts,
    Curve,
    Model,
    Number,
    Report,
    Tile,
    thumbnail,
)
from figment.report.results import latest_results
from figment.report.text import measured, percent
from figment.types import Result

KEPT_TILES, REJECTED_TILES = 80, 40

SENTENCES = {
    "helps": "Tuning on the generated images makes the classifier better on real images than it is from words alone.",
    "hurts": "Tuning on the generated images makes the classifier worse on real images than it is from words alone.",
    "no evidence": "The test images do not show whether the generated images help or hurt: the interval includes zero.",
}
FEW_SHOT_SENTENCES = {
    "helps": "With the generated images the classifier is better on real images than it is from the few real ones alone.",
    "hurts": "With the generated images the classifier is worse on real images than it is from the few real ones alone.",
    "no evidence": "The test images do not show whether the generated images add to the few real ones: the interval includes zero.",
}
NOTHING_TO_COMPARE = (
    "Trained on the generated images alone, the network is right on {share} of the real test images; guessing would be"
    " {chance}. It knows nothing before it is trained and there are no few real images, so there is nothing to compare it with."
)
UNTRAINED, OWN, REAL_ONLY, REAL_ALL = "top1/zero_shot", "top1/synthetic", "top1/real_only", "top1/real_all"
REAL_ALONE = "real images alone"


def arm_folders(folder: Path) -> list[Path]:
    """The folders of the arms that were run beside this run, in their order."""
    study = Study(folder)
    order = study.order_of_arms
    return [study.arms / name for name in json.loads(order.read_text())] if order.is_file() else []


def report_of(folder: Path) -> Report:
    """Read a run folder. Raises FigmentError where it holds no finished run."""
    run = Run(folder)
    if records.read(run.model).state not in ("finished", "old") or not run.recipe.is_file():
        raise FigmentError(
            f"{folder} holds no finished run. See how far it is with: figment status {folder}. Run its recipe again to finish it."
        )
    recipe = renewed(yaml.safe_load(run.recipe.read_text(encoding="utf-8")))
    images = open_run_images(run)
    class_names = images.shards.class_names
    generator = records.finished(run.images).get("generator", {})
    reasons = read_reasons(folder, images)
    results = {name: _with_class_intervals(r) for name, r in latest_results(folder).items()}
    arms = _arms(folder, recipe, results)
    own = next((a for a in arms if a.result is results.get(OWN)), None)
    baseline = _baseline(results)
    return Report(
        title=f"{folder.resolve().name}: can generated images stand in?",
        question=_question(folder, recipe, generator, images, class_names),
        verdict=_conclusion(results, len(class_names)),
        arms=arms,
        baseline=baseline,
        curve=_curve(results),
        also=list(_also(results)),
        caveats=[*_caveats(recipe, results), *_left_out(folder), *_kept_all_the_same(reasons)],
        comparison=Comparison(next((a for a in arms if a.name == baseline), None), own, class_names) if own else None,
        kept=_tiles(images, reasons, class_names, recipe, folder, kept=True),
        rejected=_tiles(images, reasons, class_names, recipe, folder, kept=False),
        counts=_counts(folder, images, reasons, class_names),
        history=_history(folder),
        command=f"figment run {shlex.quote(str(run.recipe))} --out {shlex.quote(f'{folder}-again')}",
        python=f"import figment\n\nfigment.run_recipe(figment.load_recipe({str(run.recipe)!r}), out={str(folder) + '-again'!r})",
        settings=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120),
        provenance=_provenance(folder),
        models=_models(folder, recipe),
        missing=_missing(recipe, results),
    )


def read_reasons(folder: Path, images: ShardImages) -> list[tuple[str, str, dict[str, float]]]:
    """For each image, in order: the filter that rejected it and its reason (both empty when kept), and all its scores."""
    verdicts = read_verdicts(folder, images)
    names = [*verdicts.filters, ""]  # -1: kept
    scores: list[dict[str, float]] = [{} for _ in range(len(images))]
    for name, column in verdicts.scores.items():
        for i in np.flatnonzero(~np.isnan(column)):
            scores[i][name] = float(column[i])
    return [
        (names[f], reason, own) for f, reason, own in zip(verdicts.rejected_by, verdicts.reasons, scores, strict=True)
    ]


def _with_class_intervals(result: Result) -> Result:
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
    parts = [f"{recipe['generate']['images_per_class']:,} images a class", f"{prompts['kind']} prompts"]
    parts.append(f"{' + '.join(filters)} filter" if filters else "no filter")
    soft = train.get("soft_weight", 0)
    parts.append("cross-entropy" if soft == 0 else f"soft targets (weight {soft:g}, T {train['temperature']:g})")
    if recipe["few_shot"]:
        few = recipe["few_shot"]
        parts.insert(0, "the split's real images" if few["split"] else f"{few['shots']} real images a class")
        if recipe["generate"].get("real_guidance"):
            parts.append("real guidance")
    if recipe["generate"].get("finetune"):
        parts.append("generator tuned on them")
    return ", ".join(parts)


def _arms(folder: Path, recipe: dict[str, Any], results: dict[str, Result]) -> list[Arm]:
    """The untrained classifier, the other runs of the study, what others do with the real images, the recipe's own, the ceiling."""
    if OWN not in results:
        return []
    shown = {m: measures.known(m) for m in results}
    between = [m for m, s in shown.items() if s.shown == "arm" and m not in (UNTRAINED, OWN, REAL_ALL)]
    return [
        *_described_arms(results, [UNTRAINED]),
        *_study_arms(folder),
        *_described_arms(results, between),
        Arm(recipe["name"], _what(recipe), results[OWN], _difference(results, OWN)),
        *_described_arms(results, [REAL_ALL]),
    ]


def _described_arms(results: dict[str, Result], metrics: list[str]) -> list[Arm]:
    """Those of these arms that were measured, as their measures describe them."""
    there = [(results[m], measures.known(m)) for m in metrics if m in results]
    names = {UNTRAINED: "zero-shot", REAL_ONLY: REAL_ALONE}
    return [Arm(names.get(r.metric, m.title), _filled(m.what, r), r, _difference(results, r.metric)) for r, m in there]


def _study_arms(folder: Path) -> list[Arm]:
    """The other runs of one study, each its own recipe's classifier."""
    arms = []
    for other in arm_folders(folder):
        theirs = {k: _with_class_intervals(r) for k, r in latest_results(other).items()}
        if OWN in theirs:
            settings = renewed(yaml.safe_load(Run(other).recipe.read_text(encoding="utf-8")))
            arms.append(Arm(settings["name"], _what(settings), theirs[OWN], _difference(theirs, OWN)))
    return arms


def _baseline(results: dict[str, Result]) -> str:
    """The arm that the others are compared with: none where no classifier knows the classes untrained, nor learnt from few real images."""
    return "zero-shot" if UNTRAINED in results else REAL_ALONE if "gain/over_real_only" in results else ""


def _difference(results: dict[str, Result], metric: str) -> Result | None:
    """The paired difference of an arm to the baseline, where it was measured."""
    if UNTRAINED not in results:
        return results.get("gain/over_real_only") if metric == OWN else None
    return results.get(metric.replace("top1/", "gain/", 1)) if metric != UNTRAINED else None


def _filled(what: str, result: Result) -> str:
    """The description of a number with what is told in its details; a result without them has no description."""
    try:
        return what.format_map(result.details)
    except (KeyError, ValueError, TypeError):
        return ""


def _also(results: dict[str, Result]) -> Iterator[Number]:
    """The measured numbers that no other part of the page shows."""
    explained = {m.name: measure.explains for measure in measures.found().values() for m in measure.metrics}
    for metric, result in results.items():
        shown = measures.known(metric)
        if shown.shown == "row":
            value, what = measured(result, shown.unit), _filled(shown.what, result)
            yield Number(shown.title, value, result.n, what, explained.get(metric, ""))


def _conclusion(results: dict[str, Result], n_classes: int) -> Conclusion:
    few = "gain/over_real_only" in results
    gain = results.get("gain/over_real_only" if few else "gain/synthetic")
    rate = results.get("exchange_rate")
    what = "The few real images and the synthetic set together are" if few else "The synthetic set is"
    exchange = f"{what} worth {rate.details['text']} real photographs a class." if rate else ""
    if gain is not None:
        word = "helps" if gain.ci[0] > 0 else "hurts" if gain.ci[1] < 0 else "no evidence"
        sentence, against = (FEW_SHOT_SENTENCES[word], REAL_ALONE) if few else (SENTENCES[word], "zero-shot")
        return Conclusion(word, sentence, gain, exchange, against)  # type: ignore[arg-type]
    if OWN not in results:
        return NOT_MEASURED
    share = percent(results[OWN].value)
    sentence = NOTHING_TO_COMPARE.format(share=share, chance=percent(1 / n_classes).replace(".0 %", " %"))
    return Conclusion("not compared", sentence, None, exchange)


def _curve(results: dict[str, Result]) -> Curve | None:
    shots = {
        int(k.removeprefix("top1/real_")): r
        for k, r in results.items()
        if k.startswith("top1/real_") and k.removeprefix("top1/real_").isdigit()
    }
    rate = results.get("exchange_rate")
    if not shots or rate is None:
        return None
    inside = min(shots) <= rate.value <= max(shots)
    return Curve(
        dict(sorted(shots.items())),
        results[OWN],
        rate.value if inside else None,
        rate.ci if inside else None,
    )


def _question(
    folder: Path, recipe: dict[str, Any], generator: dict[str, Any], images: ShardImages, class_names: list[str]
) -> list[tuple[str, str]]:
    g, task, few = recipe["generate"], recipe["task"], recipe["few_shot"]
    real = task["real"]
    drawn = few and f"{few['shots']} real images a class, drawn with seed {recipe['seed']}"
    few_shot = few and (f"the split {few['split']}" if few["split"] else drawn)
    return [
        ("Classes", f"{len(class_names)}: {', '.join(class_names)}"),
        (
            "Prompts",
            f"{recipe['prompts']['kind']}, {len(set(images.prompts)):,} different ones, such as “{images.prompts[len(images) // 2]}”",
        ),
        ("Generator", f"{generator.get('model', g['kind'])}, {generator.get('sampler', 'its own settings')}"),
        ("Images", f"{len(images):,} ({g['images_per_class']:,} a class)"),
        ("Filters", ", ".join(f["kind"] for f in recipe["filters"]) or "none"),
        *([("Few-shot", few_shot)] if few_shot else []),
        ("Classifier", f"{_classifier(folder, recipe)}, {recipe['train']['seeds']} seeds"),
        ("Real images", "; ".join(f"{split}: {where}" for split, where in real.items() if where) or "none"),
    ]


def _caveats(recipe: dict[str, Any], results: dict[str, Result]) -> list[str]:
    caveats = []
    models = (recipe["generate"].get("model"), recipe["train"].get("encoder"))
    if any((model or "").split("/")[0] == "starter" for model in models):
        caveats.append(
            "The starter is a scale model: it shows that the method and the machinery work, not what large models reach."
        )
    if results:
        caveats.append(
            "The intervals cover the choice of test images and the training seeds; the synthetic set itself is one draw of the generator."
        )
    few = recipe["few_shot"]
    if few and results:
        which = f"the split {few['split']}" if few["split"] else f"one draw of {few['shots']} a class"
        caveats.append(f"The real images that were learnt from are {which}: others would give other numbers.")
    if recipe["train"].get("select") == "test_best":
        caveats.append("The epoch was chosen on the test images: the numbers are too good.")
    if "exchange_rate" in results:
        caveats.append(
            "The exchange rate holds for this way of training and photographs like those of the training folder."
        )
    return caveats


def _left_out(folder: Path) -> list[str]:
    """A sentence for each split of real images that some could not be read of."""
    run = Run(folder)
    told = records.read(folder).data if records.read(run.model).state != "old" else records.finished(run.model)
    unreadable = told.get("unreadable", {})
    return [
        f"{len(images):,} real {split} images could not be read and were left out: {named(images)}."
        for split, images in unreadable.items()
    ]


def _kept_all_the_same(reasons: list[tuple[str, str, dict[str, float]]]) -> list[str]:
    """What filters have against images that they let through, as the recipe told them to."""
    kept = [scores for filter, _, scores in reasons if not filter]
    filled, copies = (sum(name in scores for scores in kept) for name in ("clip_filled", "test_copy"))
    caveats = []
    if filled:
        caveats.append(
            f"Of the {len(kept):,} kept images the clip filter's rule took {filled:,} below its threshold, to fill up classes in which too few passed."
        )
    if copies:
        caveats.append(
            f"Copies of test images among the {len(kept):,} kept images: {copies:,}. The numbers may be too good."
        )
    return caveats


def _missing(recipe: dict[str, Any], results: dict[str, Result]) -> dict[str, str]:
    missing = {}
    real = recipe["task"]["real"]
    if OWN not in results:
        missing["arms"] = "No real test images were given (task.real.test), so nothing was measured."
    elif "exchange_rate" not in results:
        why = (
            "it was switched off (evaluate.exchange_rate)"
            if real["train"]
            else "no real training images were given (task.real.train)"
        )
        missing["exchange"] = f"The exchange rate was not measured: {why}."
    if not recipe["filters"]:
        missing["rejected"] = "There were no filters."
    return missing


def _tiles(
    images: ShardImages, reasons: list, class_names: list[str], recipe: dict[str, Any], folder: Path, kept: bool
) -> list[Tile]:
    """A few images a class, spread over the data set."""
    chosen: list[int] = []
    rows = np.array([i for i, (filter, _, _) in enumerate(reasons) if (not filter) == kept], np.int64)
    a_class = max(1, (KEPT_TILES if kept else REJECTED_TILES) // max(1, min(len(class_names), 20)))
    for label in range(min(len(class_names), 20)):
        own = rows[images.labels[rows] == label]
        chosen += own[np.linspace(0, len(own) - 1, min(a_class, len(own))).astype(int)].tolist()
    return [
        Tile(thumbnail(image), class_names[images.labels[i]], images.prompts[i], reasons[i][1], reasons[i][2])
        for i, image in zip(chosen, images.load(chosen), strict=True)
    ]


def _counts(folder: Path, images: ShardImages, reasons: list, class_names: list[str]) -> Counts:
    stage = records.finished(Run(folder).images)["counts"]
    rejected = Counter((filter, reason) for filter, reason, _ in reasons if filter)
    kept = [i for i, (filter, _, _) in enumerate(reasons) if not filter]
    by_class = Counter(class_names[images.labels[i]] for i in kept)
    rows = [(filter, reason, n) for (filter, reason), n in rejected.most_common()]
    return Counts(
        stage["attempted"], sum(stage["failed"].values()), rows, len(kept), {n: by_class[n] for n in class_names}
    )


def _history(folder: Path) -> dict[str, list[float]]:
    losses = records.finished(Run(folder).model).get("history", {}).get("loss", [])
    finite = [x for x in losses if math.isfinite(x)]
    return {"loss": finite} if finite else {}


def _provenance(folder: Path) -> list[tuple[str, str]]:
    run = Run(folder)
    images, model = records.finished(run.images), records.finished(run.model)
    rows = [
        ("Made on", images["device"]),
        ("Generation", f"{images['seconds']:,.0f} s, {images['peak_memory_mb']:,} MB at most"),
    ]
    rows.append(("Training and evaluation", f"{model['seconds']:,.0f} s, {model['peak_memory_mb']:,} MB at most"))
    rows += [
        (f"Fingerprint of {stage}", records.finished(where)["fingerprint"])
        for stage, where in (("prompts", run.prompts), ("images", run.images), ("model", run.model))
    ]
    return [*rows, ("Versions", ", ".join(f"{k} {v}" for k, v in model["versions"].items()))]


def _classifier(folder: Path, recipe: dict[str, Any]) -> str:
    """What learnt, and on top of what: ``CLIP head on starter/clip``."""
    learner = records.finished(Run(folder).model).get("learner", "CLIP head")
    train = recipe["train"]
    of = train.get("encoder") or train.get("architecture")
    return f"{learner} on {of}" if train.get("encoder") else f"{learner} {of}" if of else learner


def _models(folder: Path, recipe: dict[str, Any]) -> list[Model]:
    run = Run(folder)
    images, model = records.finished(run.images), records.finished(run.model)
    generator = images.get("generator", {})
    licence, unknown = generator.get("licence"), "see the model's card"
    name = generator.get("model", recipe["generate"]["kind"])
    return [
        Model("generator", name, licence or unknown, images["inputs"].get("generator", "")),
        Model("classifier", _classifier(folder, recipe), unknown, model["fingerprint"]),
    ]
