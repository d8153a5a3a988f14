"""Walks the stages of a recipe, in order; what is already done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from figment import files, machine, store
from figment.classify.head import Head, HeadCard, zero_shot_head
from figment.classify.tune import Tuned, tune, tune_few_shot
from figment.encoders import ClipEncoder, Features
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy, correctness, paired_difference, verdict
from figment.evaluate.exchange_rate import exchange_rate, real_curve
from figment.filters.blank import Blank
from figment.filters.clip import Clip
from figment.filters.selection import Selection, select
from figment.generate.card import dataset_card
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.plan import Plan
from figment.generate.procedural import ProceduralGenerator
from figment.generate.stage import fill, images_stage
from figment.pictures import ShardPictures, open_pictures, open_shards
from figment.progress import console
from figment.prompts.attributes import Attributes
from figment.prompts.templates import Templates
from figment.recipe import BlankFilter, ClipFilter, Diffusers, Plugin, Procedural, Recipe
from figment.report.folder import read_results, report_of
from figment.report.page import write as write_report
from figment.task import real_folder
from figment.types import Filter, Generator, Pictures, Prompt, Result, Writer


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its folder, its measured numbers by name, and the answer in one word.

    ``results`` holds ``top1/zero_shot``, ``top1/synthetic``, ``gain/synthetic`` and, where there are real training pictures,
    ``top1/real_all``, ``gain/real_all``, ``top1/real_1`` ... and ``exchange_rate``. Without real test pictures it is empty.
    """

    folder: Path
    results: dict[str, Result]

    @property
    def verdict(self) -> str:
        """ "helps", "hurts", "no evidence", or "not measured" without real test pictures."""
        return verdict(self.results["gain/synthetic"]) if "gain/synthetic" in self.results else "not measured"


def run_recipe(
    recipe: Recipe,
    out: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    features_folder: Path | None = None,
) -> Outcome:
    """Do what is missing of a recipe in the folder ``out`` and write its report.

    Call it again after an interruption and it goes on. ``out`` may be remote (``s3://...``). ``generator`` replaces the
    recipe's own; ``engine`` says where images are made. Raises FigmentError, before anything is spent where possible.
    """
    out = files.as_path(out)
    with files.lock(out):
        walk = _Walk(recipe, out, generator, features_folder or out / "features")
        walk.check()
        prompts = walk.prompts()
        walk.make_images(prompts, engine)
        images = walk.images()
        selection = walk.select(images)
        results = walk.finished(selection)
        if results is None:
            results = walk.train_and_evaluate(selection)
        write_report(report_of(out), out / "report.html")
    return Outcome(out, {r.metric: r for r in results})


def make_images(
    recipe: Recipe,
    out: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    part: tuple[int, int] | None = None,
) -> Path:
    """Only the prompts and images of a recipe, or the ``part`` ``(i, n)`` of the images, as a job array makes them.

    Parts may be made at the same time, on machines that share ``out``; :func:`run_recipe` then goes on from there. Returns
    the folder of the images.
    """
    out = files.as_path(out)
    with files.lock(out, "" if part is None else f"{part[0]}-of-{part[1]}"):
        walk = _Walk(recipe, out, generator, out / "features")
        walk.make_images(walk.prompts(), engine, part)
    return out / "images"


class _Walk:
    """The stages of one run, with what they share: models that are loaded at most once, and only if a stage needs them."""

    def __init__(self, recipe: Recipe, out: Path, generator: Generator | None, features_folder: Path):
        self.recipe, self.task, self.out = recipe, recipe.task, out
        self._generator, self.features_folder = generator, features_folder

    @cached_property
    def generator(self) -> Generator:
        return self._generator or make_generator(self.recipe)

    @cached_property
    def features(self) -> Features:
        train = self.recipe.train
        return Features(ClipEncoder(train.encoder, allow_pickle=train.allow_pickle), self.features_folder)

    @cached_property
    def filters(self) -> list[Filter]:
        return make_filters(self.recipe, self.features, self.features_folder)

    @cached_property
    def real(self) -> dict[str, Pictures]:
        """Split -> its pictures, for the splits the task has."""
        given = self.task.real.model_dump()
        return {
            split: open_pictures(real_folder(where), self.task.class_names) for split, where in given.items() if where
        }

    def check(self) -> None:
        """Find out now what would otherwise fail after hours: real folders, models, settings that contradict one another."""
        _ = self.real
        if self.recipe.train.select == "validation" and "val" not in self.real:
            raise FigmentError(
                "train.select is 'validation', and there are no validation pictures. Set task.real.val, or train.select: last."
            )
        make_writer(self.recipe)
        _ = self.filters, self.generator
        for split in self._splits_needed():  # a picture that cannot be read is found here; the features are kept
            self.features(self.real[split], f"encode real {split}")

    def _splits_needed(self) -> list[str]:
        """The splits that the run will read, of those there are."""
        evaluate = self.recipe.evaluate
        train = "test" in self.real and (evaluate.real_all or evaluate.exchange_rate)
        wanted = {"test": True, "train": train, "val": True}
        return [split for split in self.real if wanted[split]]

    # ---- words to images ---------------------------------------------------------------------------------------------

    def prompts(self) -> list[Prompt]:
        settings = {
            "task": self.task.model_dump(exclude={"real", "name"}),
            "prompts": self.recipe.prompts.model_dump(),
            "seed": self.recipe.seed,
        }
        stage = store.Stage(self.out / "prompts", 1, settings, {})
        stage.check_not_stale()
        if not stage.is_complete():
            with files.lock(stage.folder, wait=True):  # parts of a job array start together; one of them writes
                if not stage.is_complete():
                    self._write_prompts(stage)
        return store.read_prompts(stage.read())

    def _write_prompts(self, stage: store.Stage) -> None:
        started = machine.Meter()
        writer, n = make_writer(self.recipe)
        prompts = writer(self.task, n, np.random.default_rng([self.recipe.seed, 1]))
        stage.write(0, store.prompt_table(prompts, self.task.class_names))
        stage.finish(counts={"prompts": len(prompts)}, **started.record())

    def make_images(
        self, prompts: list[Prompt], engine: Engine | None = None, part: tuple[int, int] | None = None
    ) -> None:
        r = self.recipe
        folder = self.out / "images"
        settings = {"generate": r.generate.model_dump(exclude={"device", "batch_size", "allow_pickle"}), "seed": r.seed}
        inputs = {
            "prompts": files.read_json(self.out / "prompts" / "stage.json")["fingerprint"],
            "generator": self.generator.fingerprint,
        }
        plan = Plan(prompts, r.generate.images_per_class, r.seed, r.generate.shard_size)
        stage = images_stage(folder, plan, settings, inputs)
        # A recipe that is refused must not take the place of the one that made the images.
        stage.check_not_stale()
        files.write_atomic(self.out / "recipe.yaml", r.to_yaml().encode())
        fill(stage, plan, self.generator, self.task.class_names, engine=engine, part=part)
        if stage.is_complete():
            files.write_atomic(folder / "README.md", dataset_card(r, folder).encode())

    def images(self) -> ShardPictures:
        images = open_shards(self.out / "images")[0]
        if not len(images):
            raise FigmentError(f"No image was made; {self.out / 'images'} holds the reasons in its error column.")
        return images

    def select(self, images: ShardPictures) -> Selection:
        """Run the filters and keep what they said, one folder of verdicts each."""
        selection = select(images, self.filters)
        inputs = {"images": files.read_json(self.out / "images" / "stage.json")["fingerprint"]}
        for settings, step, name in zip(self.recipe.filters, selection.steps, _score_folders(selection), strict=True):
            stage = store.Stage(self.out / "scores" / name, 1, settings.model_dump(), inputs)
            ids = [images.ids[j] for j in step.index]
            table = store.score_table(ids, images.labels[step.index], step.verdicts, self.task.class_names)
            stage.write(0, table)
            stage.finish(counts={"seen": len(ids), "kept": sum(v.keep for v in step.verdicts)})
        kept = int(selection.keep.sum())
        console.print(
            f"  filter: {kept:,} of {len(images):,} kept"
            + "".join(f"; {n:,} {reason}" for reason, n in selection.counts().items())
        )
        empty = [name for i, name in enumerate(self.task.class_names) if not (images.labels[selection.keep] == i).any()]
        if not kept:
            raise FigmentError(
                f"The filters rejected every image: {selection.counts()}. Look at {self.out / 'images'}, or loosen the filters."
            )
        if empty:
            console.print(f"  no image was kept of: {', '.join(n[:40] for n in empty)}", style="yellow")
        return selection

    # ---- images to numbers -------------------------------------------------------------------------------------------

    def fingerprint(self, selection: Selection) -> str:
        """Of everything the results depend on."""
        kept = list(selection.kept.digests)
        r = self.recipe
        real = {split: store.fingerprint(list(p.digests)) for split, p in self.real.items()}
        settings = [r.model_dump(include={"filters", "train", "evaluate", "seed"}), r.task.model_dump(exclude={"real"})]
        return store.fingerprint([store.FORMAT_VERSION, kept, self.features.encoder.fingerprint, real, settings])

    def finished(self, selection: Selection) -> list[Result] | None:
        """The results of this very run, if it got to its end before."""
        marker = self.out / "model" / "stage.json"
        own = self.fingerprint(selection)
        if marker.is_file() and files.read_json(marker).get("fingerprint") == own:
            results = [r for r in read_results(self.out) if r.fingerprint == own]
            return results if results or "test" not in self.real else None
        return None

    def train_and_evaluate(self, selection: Selection) -> list[Result]:
        started = machine.Meter()
        own = self.fingerprint(selection)
        train = self.recipe.train
        head = zero_shot_head(self.features.encoder, self.task.class_names, self.task.templates)
        kept = selection.kept
        tuned = self._tune(head, self.features(kept), kept.labels)
        card = HeadCard(
            tuple(self.task.class_names), tuple(self.task.templates), train.encoder, self.features.encoder.fingerprint
        )
        tuned[0].head.save(self.out / "model", card)
        results = self._evaluate(head, [t.head for t in tuned]) if "test" in self.real else []
        results = [replace(r, fingerprint=own) for r in results]
        _append_results(self.out, results)
        history = {
            "loss": [h["loss"] for h in tuned[0].history],
            "val_accuracy": [h["val_accuracy"] for h in tuned[0].history],
        }
        files.write_json(
            self.out / "model" / "stage.json",
            {
                "fingerprint": own,
                "kept": len(kept),
                "scores": _score_folders(selection),
                "history": history,
                **started.record(),
            },
        )
        return results

    def _tune(self, head: Head, x: np.ndarray, y: np.ndarray) -> list[Tuned]:
        """The recipe's tuning on the kept images, once a seed."""
        val = self.real.get("val")
        seen = None if val is None else (self.features(val), val.labels)
        console.print(f"  tune on synthetic: {len(x):,} pictures, {len(self._seeds)} seeds")
        return [tune(head, x, y, self.recipe.train, seed, val=seen) for seed in self._seeds]

    @property
    def _seeds(self) -> tuple[int, ...]:
        return tuple(range(self.recipe.train.seeds))

    def _evaluate(self, zero_shot: Head, tuned: list[Head]) -> list[Result]:
        """Read the test pictures, once for each reported model."""
        names, seeds = self.task.class_names, self._seeds
        test = self.real["test"]
        x, y = self.features(test), test.labels
        before, after = zero_shot.predict(x), [head.predict(x) for head in tuned]
        right_before, right_after = correctness(before, y), correctness(after, y)  # bool (1, n), (S, n)
        results = [
            accuracy(before, y, names, "top1/zero_shot"),
            accuracy(after, y, names, "top1/synthetic", seeds),
            paired_difference(right_before, right_after, "gain/synthetic", seeds),
        ]
        settings = self.recipe.evaluate
        if "train" not in self.real or not (settings.real_all or settings.exchange_rate):
            return results
        real = self.real["train"]
        real_x = self.features(real)
        learn = partial(tune_few_shot, settings=self.recipe.train)  # the same learner at any number of real pictures
        if settings.real_all:
            console.print(f"  tune on real: {len(real):,} pictures, {len(seeds)} seeds")
            logits = [learn(zero_shot, real_x, real.labels, seed).predict(x) for seed in seeds]
            all_real = accuracy(logits, y, names, "top1/real_all", seeds)
            results.append(replace(all_real, details={**all_real.details, "pictures": len(real)}))
            results.append(paired_difference(right_before, correctness(logits, y), "gain/real_all", seeds))
        if settings.exchange_rate:
            console.print(
                f"  exchange rate: tune on {', '.join(map(str, settings.shots))} real pictures a class, {settings.draws} draws each"
            )
            curve = real_curve(
                zero_shot,
                real_x,
                real.labels,
                x,
                y,
                learn=learn,
                shots=settings.shots,
                draws=settings.draws,
                seed=self.recipe.seed,
            )
            results += [shot_accuracy(curve.correct[:, i], k) for i, k in enumerate(curve.shots)]
            results.append(replace(exchange_rate(curve, right_after, seed=self.recipe.seed), metric="exchange_rate"))
        return results


def shot_accuracy(correct: np.ndarray, shots: int) -> Result:
    """Accuracy after ``shots`` real pictures a class, mean over draws: ``correct`` bool (draws, n)."""
    from figment.evaluate.accuracy import interval

    per_draw = correct.mean(1)
    return Result(
        f"top1/real_{shots}",
        float(per_draw.mean()),
        correct.shape[1],
        interval(per_draw, correct.shape[1]),
        details={"per_seed": per_draw.tolist()},
    )


def _score_folders(selection: Selection) -> list[str]:
    """Where each filter's verdicts lie, below ``scores``."""
    return [f"{i}-{step.filter}" for i, step in enumerate(selection.steps)]


def make_generator(recipe: Recipe) -> Generator:
    settings = recipe.generate
    if isinstance(settings, Diffusers):
        return DiffusersGenerator(**settings.model_dump(exclude={"kind", "images_per_class", "shard_size"}))
    if isinstance(settings, Procedural):
        return ProceduralGenerator(height=settings.height, width=settings.width, noise=settings.noise)
    return load_plugin(settings)


def make_writer(recipe: Recipe) -> tuple[Writer, int]:
    """The recipe's writer of prompts and how many it is asked for, for each class."""
    settings = recipe.prompts
    if isinstance(settings, Plugin):
        return load_plugin(settings), recipe.generate.images_per_class
    if settings.kind == "templates":
        return Templates(settings.templates), recipe.generate.images_per_class
    # More prompts than images would be prompts nobody draws.
    return Attributes(settings.templates, settings.synonyms), min(settings.per_class, recipe.generate.images_per_class)


def make_filters(recipe: Recipe, features: Features, features_folder: Path) -> list[Filter]:
    made: list[Filter] = []
    for settings in recipe.filters:
        if isinstance(settings, Plugin):
            made.append(load_plugin(settings))
        elif isinstance(settings, BlankFilter):
            made.append(Blank(settings.minimum_std))
        elif isinstance(settings, ClipFilter):
            own = features
            if settings.model and settings.model != recipe.train.encoder:
                own = Features(ClipEncoder(settings.model, allow_pickle=recipe.train.allow_pickle), features_folder)
            templates = settings.templates or recipe.task.templates
            made.append(
                Clip(
                    own, recipe.task.class_names, templates, settings.rule, settings.threshold, settings.k, recipe.seed
                )
            )
    return made


def load_plugin(settings: Plugin) -> Any:
    """The object behind ``kind: package.module:Name``. Raises FigmentError where it cannot be imported or made."""
    module, _, name = settings.kind.partition(":")
    try:
        factory: Callable[..., Any] = getattr(import_module(module), name)
        return factory(**settings.options)
    except (ImportError, AttributeError, TypeError) as error:
        raise FigmentError(
            f"kind: {settings.kind} cannot be loaded ({error}). It must name something importable, called with options."
        ) from error


def _append_results(out: Path, results: list[Result]) -> None:
    """Add to results.jsonl, in place of earlier lines of the same run."""
    own = {r.fingerprint for r in results}
    lines = [r for r in read_results(out) if r.fingerprint not in own] + results
    files.write_atomic(
        out / "results.jsonl", "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in lines).encode()
    )
