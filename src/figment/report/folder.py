"""A run folder to its report: everything the page shows is read from disk, so it can be made again at any time."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from figment import records
from figment.errors import FigmentError
from figment.images_in import ShardImages, by_hand
from figment.images_in.shards import open_run_images, wanted_rows
from figment.images_in.unreadable import named
from figment.images_in.verdicts import read_verdicts
from figment.layout import Run
from figment.licences import licence_of
from figment.recipe.prices import Prices
from figment.report.answers import (
    OWN,
    also_measured,
    arms_of,
    baseline_of,
    conclusion_of,
    curve_of,
    few_images,
    images_of,
    judged_of,
    recipe_of,
    with_class_intervals,
)
from figment.report.attributes import asked_of
from figment.report.backbone_card import is_backbone
from figment.report.beside import cost
from figment.report.classes import confused_pairs
from figment.report.lesson import lesson_of
from figment.report.page import (
    Arm,
    Comparison,
    Counts,
    Model,
    Report,
    Tile,
    thumbnail,
)
from figment.report.results import latest_results
from figment.report.text import test_images
from figment.shots import ALL
from figment.task import RealImages
from figment.types import Result
from figment.words import printable

KEPT_TILES, REJECTED_TILES = 80, 40
SHELVES = 20  # classes of which images are shown


def report_of(folder: Path) -> Report:
    """Read a run folder. Raises FigmentError where it holds no finished run."""
    run = Run(folder)
    finished = records.read(folder).state == "finished" or records.read(run.model).state == "old"
    if not finished or not run.recipe.is_file():
        raise FigmentError(
            f"{folder} holds no finished run. See how far it is with: figment status {folder}. Run its recipe again to finish it."
        )
    recipe = recipe_of(folder)
    images = open_run_images(run)
    class_names = images.shards.class_names
    generator = records.finished(run.images).get("generator", {})
    reasons = read_reasons(folder, images)
    results = {name: with_class_intervals(r) for name, r in latest_results(folder).items()}
    arms, judged = arms_of(folder, recipe, results), judged_of(folder, recipe, results)
    own = next((a for a in arms if a.result is results.get(OWN)), None)
    baseline = baseline_of(results)
    return Report(
        title=f"{folder.resolve().name}: can generated images stand in?",
        question=_question(folder, recipe, generator, images, class_names, results),
        verdict=replace(
            conclusion_of(
                results,
                len(class_names),
                judged,
                _cost(run, recipe, results, len(class_names)),
                list(_unmeasured(run, recipe)),
            ),
            lesson=lesson_of(recipe, results, judged),
        ),
        arms=arms,
        baseline=baseline,
        curve=curve_of(results),
        also=list(also_measured(results)),
        caveats=[
            *_caveats(recipe, results),
            *_piloted(run, recipe),
            *_left_out(folder),
            *_kept_all_the_same(reasons),
            *_by_hand(reasons),
            *_said_since(run, reasons),
        ],
        comparison=Comparison(next((a for a in arms if a.name == baseline), None), own, class_names) if own else None,
        kept=_tiles(images, reasons, class_names, _most_confused_first(own, class_names), kept=True),
        rejected=_tiles(images, reasons, class_names, _most_confused_first(own, class_names), kept=False),
        attributes=asked_of(images, reasons),
        counts=_counts(folder, images, reasons, class_names),
        history=_history(folder),
        command=f"figment run {shlex.quote(str(run.recipe))} --out {shlex.quote(f'{folder}-again')}",
        python=f"import figment\n\nfigment.run_recipe(figment.load_recipe({str(run.recipe)!r}), out={str(folder) + '-again'!r})",
        settings=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120),
        provenance=_provenance(folder),
        models=_models(folder, recipe),
        missing=_missing(recipe, results, reasons),
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


def _question(
    folder: Path,
    recipe: dict[str, Any],
    generator: dict[str, Any],
    images: ShardImages,
    class_names: list[str],
    results: dict[str, Result],
) -> list[tuple[str, str]]:
    g, few = recipe["generate"], recipe["few_shot"]
    few_shot = few and (f"the split {few['split']}" if few["split"] else few_images(few))
    if few and not few["split"] and few["shots"] != ALL:
        few_shot += f", drawn with seed {recipe['seed']}"
    return [
        ("Classes", f"{len(class_names):,}: {', '.join(class_names)}"),
        (
            "Prompts",
            f"{recipe['prompts']['kind']}, {len(set(images.prompts)):,} different ones, such as “{images.prompts[len(images) // 2]}”",
        ),
        ("Generator", f"{generator.get('model', g['kind'])}, {generator.get('sampler', 'its own settings')}"),
        ("Images", f"{len(images):,} ({images_of(g)})"),
        ("Filters", ", ".join(f["kind"] for f in recipe["filters"]) or "none"),
        *([("Few-shot", few_shot)] if few_shot else []),
        ("Classifier", _classifier(folder, recipe) + _seeds(recipe["train"]["seeds"])),
        (
            "Real images",
            "; ".join(f"{split}: {where}" for split, where in _places(recipe).items()) or "none",
        ),
        *([("Tested on", test_images(results[OWN]))] if OWN in results else []),
    ]


def _unmeasured(run: Run, recipe: dict[str, Any]) -> Iterator[str]:
    """Of a backbone that nothing labelled was there for: what was not measured and how it can be, and what needs no label."""
    if not is_backbone(recipe):
        return
    missing = (
        "test images (task.real.test): the linear probe is trained, and was measured on nothing"
        if "train" in _places(recipe)
        else "labelled real images (task.real.train, task.real.test): there is no linear probe"
    )
    yield (
        f"There are no {missing}, so nothing says what the backbone is good for, nor what it gained over the backbone as it starts."
        f" figment judge {shlex.quote(str(run.folder))} --on linear,knn=PHOTOS measures it"
        " on any data set, and so do the other evaluations that it has."
    )
    health = (records.read(run.model).data.get("facts") or {}).get("health", {})
    if {"rankme", "alignment", "uniformity"} <= health.keys():
        yield (
            f"What needs no label: features of generated images use {health['rankme']:.1f} dimensions (RankMe), two views of one lie"
            f" {health['alignment']:.2f} apart (alignment, 0 to 4), and all of them spread with a uniformity of {health['uniformity']:.2f}"
            " (0 where all are one, lower is more even)."
        )


def _places(recipe: dict[str, Any]) -> dict[str, str]:
    """Split -> where its real images are, also of an older recipe, which is not looked through again."""
    return RealImages.model_construct(**recipe["task"]["real"]).places


def _piloted(run: Run, recipe: dict[str, Any]) -> list[str]:
    """What the first images said, where they were asked, with the encoder and the real images that the recipe still names."""
    told = records.read_answer(run.pilot) or {}
    n, said = told.get("images_per_class"), told.get("summary")
    encoder = recipe.get("encoder") or recipe["train"].get("encoder", "starter/clip")
    real = _places(recipe).get(str(told.get("split")), "")
    if (told.get("encoder"), told.get("real")) != (encoder, real):
        return []
    return [f"A pilot of {n} images a class said: {printable(str(said))}"] if said else []


def _caveats(recipe: dict[str, Any], results: dict[str, Result]) -> list[str]:
    caveats = []
    models = (recipe["generate"].get("model"), _encoder(recipe))
    if any((model or "").split("/")[0] == "starter" for model in models):
        caveats.append(
            "The starter is a scale model: it shows that the method and the machinery work, not what large models reach."
        )
    if results:
        caveats.append(
            "The intervals of accuracies, and of gains in the table, cover the choice of test images and the training seeds, not the draw"
            " of the synthetic set."
        )
    few = recipe["few_shot"]
    if few and results and (few["split"] or few["shots"] != ALL):
        which = f"the split {few['split']}" if few["split"] else f"one draw of {few['shots']} a class"
        caveats.append(f"The real images that were learnt from are {which}: others would give other numbers.")
    if recipe["train"].get("select") == "test_best":
        caveats.append("The epoch was chosen on the test images: the numbers are too good.")
    if "exchange_rate" in results:
        caveats.append(
            "The exchange rate holds for this way of training and photographs like those of the training folder."
        )
    return [*caveats, *(said for result in results.values() for said in result.details.get("caveats", ()))]


def _left_out(folder: Path) -> list[str]:
    """A sentence for each split of real images that some could not be read of."""
    run = Run(folder)
    told = records.read(folder).data if records.read(run.model).state != "old" else records.finished(run.model)
    unreadable = told.get("unreadable", {})
    return [
        f"{len(images):,} real {split} images could not be read and were left out: {named(images)}."
        for split, images in unreadable.items()
    ]


def _by_hand(reasons: list[tuple[str, str, dict[str, float]]]) -> list[str]:
    """A person's choice is no part of the recipe."""
    n = sum(filter == by_hand.FILTER for filter, _, _ in reasons)
    said = f"Images rejected by hand: {n:,}. Another set from the same recipe would have to be looked through too."
    return [said] if n else []


def _said_since(run: Run, reasons: list[tuple[str, str, dict[str, float]]]) -> list[str]:
    """What is kept by now is not always what was learnt from."""
    kept = sum(not filter for filter, _, _ in reasons)
    measured = records.read(run.scores).data.get("counts", {}).get("kept", kept)
    said = f"The numbers are of {measured:,} kept images; since then verdicts have changed, and {kept:,} are kept. figment run measures again."
    return [said] if measured != kept else []


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


def _missing(
    recipe: dict[str, Any], results: dict[str, Result], reasons: list[tuple[str, str, dict[str, float]]]
) -> dict[str, str]:
    missing = {}
    if OWN not in results:
        missing["arms"] = "No real test images were given (task.real.test), so nothing was measured."
    elif "exchange_rate" not in results:
        why = (
            "it was switched off (evaluate.exchange_rate)"
            if "train" in _places(recipe)
            else "no real training images were given (task.real.train)"
        )
        missing["exchange"] = f"The exchange rate was not measured: {why}."
    if not recipe["filters"] and not _by_hand(reasons):
        missing["rejected"] = "There were no filters."
    return missing


def _tiles(images: ShardImages, reasons: list, class_names: list[str], order: Sequence[int], kept: bool) -> list[Tile]:
    """A few images a class, spread over the data set; of many classes those that come first in ``order`` and have any."""
    chosen: list[int] = []
    rows = np.array([i for i, (filter, _, _) in enumerate(reasons) if (not filter) == kept], np.int64)
    there = set(images.labels[rows].tolist())
    shown = sorted([label for label in (*order, -1) if label in there][:SHELVES])
    a_class = max(1, (KEPT_TILES if kept else REJECTED_TILES) // max(1, min(len(class_names), SHELVES)))
    for label in shown:
        own = rows[images.labels[rows] == label]
        chosen += own[np.linspace(0, len(own) - 1, min(a_class, len(own))).astype(int)].tolist()
    named = [*class_names, "no class"]  # the label -1
    return [
        Tile(thumbnail(image), named[images.labels[i]], images.prompts[i], reasons[i][1], reasons[i][2])
        for i, image in zip(chosen, images.load(chosen), strict=True)
    ]


def _most_confused_first(own: Arm | None, class_names: list[str]) -> list[int]:
    """All labels, those that are taken for one another before the others: their images are the ones to look at."""
    confusion = [] if own is None else own.result.details.get("confusion", [])
    pairs = confused_pairs(np.asarray(confusion, np.float64)) if len(confusion) else []
    return list(dict.fromkeys([*(label for pair in pairs for label in pair[:2]), *range(len(class_names))]))


def _cost(run: Run, recipe: dict[str, Any], results: dict[str, Result], n_classes: int) -> str:
    if not recipe.get("prices"):
        return ""
    seconds = float(records.finished(run.images)["seconds"])
    return cost(results, Prices.model_validate(recipe["prices"]), seconds, n_classes)


def _counts(folder: Path, images: ShardImages, reasons: list, class_names: list[str]) -> Counts:
    stage = records.finished(Run(folder).images)["counts"]
    rejected = Counter((filter, reason) for filter, reason, _ in reasons if filter)
    kept = [i for i, (filter, _, _) in enumerate(reasons) if not filter]
    by_class = Counter(class_names[images.labels[i]] for i in kept if images.labels[i] >= 0)
    rows = [(filter, reason, n) for (filter, reason), n in rejected.most_common()]
    wanted = wanted_rows(Run(folder))  # fewer than there are, where the set has grown for another recipe
    attempted = stage["attempted"] if wanted is None else min(wanted, stage["attempted"])
    return Counts(
        attempted, attempted - len(images), rows, len(kept), {n: by_class[n] for n in class_names if by_class}
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
    measured = records.read(folder)  # version 0.1 trained and measured in one stage
    both = [model, measured.data] if measured.state == "finished" else [model]
    seconds, peak = sum(one["seconds"] for one in both), max(one["peak_memory_mb"] for one in both)
    rows.append(("Training and evaluation", f"{seconds:,.0f} s, {peak:,} MB at most"))
    rows += [
        (f"Fingerprint of {stage}", records.finished(where)["fingerprint"])
        for stage, where in (("prompts", run.prompts), ("images", run.images), ("model", run.model))
    ]
    return [*rows, ("Versions", ", ".join(f"{k} {v}" for k, v in model["versions"].items()))]


def _seeds(n: int) -> str:
    return f", {n} seeds" if n > 1 else ""


def _classifier(folder: Path, recipe: dict[str, Any]) -> str:
    """What learnt, and on top of what: ``CLIP head on starter/clip``, ``resnet18, from scratch``."""
    learner = records.finished(Run(folder).model).get("learner", "CLIP head")
    encoder = _encoder(recipe)
    return f"{learner} on {encoder}" if encoder else learner


def _encoder(recipe: dict[str, Any]) -> str:
    """The name of what the classifier looks with; nothing where it looks by itself."""
    own = recipe["train"].get("encoder")
    if isinstance(own, dict):
        return own["timm"] if own.get("weights") is None else f"timm/{own['timm']}"
    return own or ""


def _models(folder: Path, recipe: dict[str, Any]) -> list[Model]:
    run = Run(folder)
    images, model = records.finished(run.images), records.finished(run.model)
    generator = images.get("generator", {})
    name = generator.get("model", recipe["generate"]["kind"])
    return [
        Model("generator", name, licence_of(generator), images["inputs"].get("generator", "")),
        Model("classifier", _classifier(folder, recipe), "see the model's card", model["fingerprint"]),
    ]
