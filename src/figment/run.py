"""Walks the stages of a recipe, in order; what is already done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import files, machine, measures, store
from figment.encoders import Features, Towers, open_encoder
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.accuracy import verdict
from figment.filters.selection import Selection, select
from figment.generate.card import dataset_card
from figment.generate.finetune import Finetuning
from figment.generate.plan import Plan, ids_by_class
from figment.generate.stage import NO_PIXELS, fill, images_stage, shots_fingerprint
from figment.images_in import ShardImages, open_images, open_shards
from figment.images_in.unreadable import check_enough_is_left, named
from figment.learners.clip_head.coop import check_coop
from figment.learners.clip_head.head import HEAD_FILES
from figment.learners.clip_head.learner import ClipHeadLearner
from figment.learners.clip_head.tune import FEW_SHOT_STEPS
from figment.learners.clip_head.unfrozen import check_unfrozen
from figment.make import make_filters, make_finetuning, make_generator, make_writer, reads_train
from figment.measures.trial import Trial
from figment.progress import console
from figment.prompts.check import check_prompts
from figment.recipe import Recipe
from figment.recipe.generate import DiffusersSettings
from figment.recipe.prompts import CaptionsSettings
from figment.report.csv import write_results
from figment.report.folder import report_of
from figment.report.page import write as write_report
from figment.report.results import latest_results, read_results
from figment.shots import draw_shots, read_split, write_split
from figment.task import real_folder
from figment.types import Encoder, Filter, Generator, Images, Prompt, Result, Training, Writer
from figment.words import printable

# Settings of prompts that change no word of them: how fast, and where the same model is found.
NO_WORDS = {"batch_size", "allow_pickle", "base_url", "api_key_env", "parallel", "timeout", "retries"}


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its folder, its measured numbers by name, and the answer in one word.

    ``results`` holds ``top1/zero_shot``, ``top1/synthetic``, ``gain/synthetic`` and, where there are real training images,
    ``top1/real_all``, ``gain/real_all``, ``top1/real_1`` ... and ``exchange_rate``. With ``few_shot`` the classifier called
    synthetic has learnt from the shots too; ``top1/real_only`` is the shots alone, ``gain/over_real_only`` what the
    generated images add to them, ``top1/<baseline>`` the others. Without real test images it is empty.
    """

    folder: Path
    results: dict[str, Result]

    @property
    def verdict(self) -> str:
        """ "helps", "hurts", "no evidence"; "not measured" without real test images; "not compared" where there is nothing to
        compare the classifier with: no untrained one, and no few_shot."""
        gain = self.results.get("gain/over_real_only", self.results.get("gain/synthetic"))
        if gain is not None:
            return verdict(gain)
        return "not compared" if "top1/synthetic" in self.results else "not measured"


def run_recipe(
    recipe: Recipe,
    out: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    features_folder: Path | None = None,
    made: Path | None = None,
) -> Outcome:
    """Do what is missing of a recipe in the folder ``out`` and write its report.

    Call it again after an interruption and it goes on. ``out`` may be remote (``s3://...``). ``generator`` replaces the
    recipe's own; ``engine`` says where images are made. ``made`` is a folder for the prompts and images, where runs that
    differ in what comes after share them; such a run gets no report of its own. Raises FigmentError, before anything is
    spent where possible.
    """
    out = files.as_path(out)
    with files.lock(out):
        _check_is_for_a_run(recipe, out)
        walk = Walk(recipe, out, generator, features_folder or out / "features", made)
        walk.check()
        prompts = walk.prompts()
        walk.make_images(prompts, engine)
        images = walk.images()
        selection = walk.select(images)
        results = walk.finished(selection)
        if results is None:
            results = walk.train_and_evaluate(selection)
        if made is None:
            write_report(report_of(out), out / "report.html")
            write_results(latest_results(out), out / "results.csv")
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
        _check_is_for_a_run(recipe, out)
        walk = Walk(recipe, out, generator, out / "features")
        walk.make_images(walk.prompts(), engine, part)
    return out / "images"


class Walk:
    """The stages of one run, with what they share: models that are loaded at most once, and only if a stage needs them."""

    def __init__(
        self, recipe: Recipe, out: Path, generator: Generator | None, features_folder: Path, made: Path | None = None
    ):
        self.recipe, self.task, self.out, self.made = recipe, recipe.task, out, made or out
        self._generator, self.features_folder = generator, features_folder
        self._readable: dict[str, Images] = {}  # split -> its images without those that cannot be read
        self.unreadable: dict[str, dict[str, str]] = {}  # split -> id of a real image -> why it was left out

    # ---- models ------------------------------------------------------------------------------------------------------

    @cached_property
    def untuned(self) -> Generator:
        """The generator as it comes."""
        if self._generator is not None:
            return self._generator
        few = self.recipe.few_shot
        from_split = self.starts if few is not None and few.split else None
        return make_generator(self.recipe, None if from_split is None else int(np.bincount(from_split.labels).max()))

    @property
    def guided(self) -> bool:
        """Whether images start from real images."""
        return isinstance(self.recipe.generate, DiffusersSettings) and self.recipe.generate.real_guidance is not None

    @cached_property
    def finetuning(self) -> Finetuning | None:
        """How the generator is tuned on real images, where the recipe says so. All arms of a study find it in one place."""
        if getattr(self.recipe.generate, "finetune", None) is None:
            return None  # then no real image is needed to make images
        return make_finetuning(self.recipe, self.untuned, self.at_hand, self.features_folder.parent / "finetune")

    @cached_property
    def generator(self) -> Generator:
        """The generator of the images. What it is tuned with may still have to be trained."""
        return self.untuned if self.finetuning is None else self.finetuning.tuned

    @cached_property
    def writer(self) -> tuple[Writer, int]:
        """The writer of prompts, and how many it is asked for. Bought answers are kept where all arms of a study find them."""
        captioned = self.at_hand if isinstance(self.recipe.prompts, CaptionsSettings) else None
        return make_writer(self.recipe, captioned, self.features_folder / "chat")

    @cached_property
    def features(self) -> Features:
        train = self.recipe.train
        return Features(open_encoder(train.encoder, allow_pickle=train.allow_pickle), self.features_folder)

    @cached_property
    def filters(self) -> list[Filter]:
        compared = {
            "train": self.at_hand if any(reads_train(f) for f in self.recipe.filters) else None,
            "test": self.real("test"),
        }
        real = {split: images for split, images in compared.items() if images is not None}
        return make_filters(self.recipe, self.features, self.features_folder, real)

    # ---- real images -----------------------------------------------------------------------------------------------

    @cached_property
    def given(self) -> dict[str, Images]:
        """Split -> its real images as they were given, for the splits the task has."""
        places = self.task.real.model_dump()
        return {
            split: open_images(real_folder(where), self.task.class_names, self.task.own_names)
            for split, where in places.items()
            if where
        }

    def real(self, split: str) -> Images | None:
        """The real images of a split that can be read, which are encoded then; None where the task has none."""
        if split in self.given and split not in self._readable:
            self._readable[split] = self._without_unreadable(split)
        return self._readable.get(split)

    def _without_unreadable(self, split: str) -> Images:
        """What cannot be read is said and recorded."""
        given = self.given[split]
        images, unreadable = self.features.readable(given, f"encode real {split}")
        if unreadable:
            where = f"task.real.{split}"
            check_enough_is_left(unreadable, given.labels, images.labels, self.task.class_names, where)
            self.unreadable[split] = {printable(name): reason for name, reason in unreadable.items()}
            console.print(
                f"  {len(unreadable):,} of the {len(given):,} images in {where} cannot be read and are left out:"
                f" {named(unreadable)}",
                style="yellow",
                soft_wrap=True,
            )
        return images

    @cached_property
    def shots(self) -> Images | None:
        """The few real images of ``few_shot``; None without it. Raises FigmentError where a class has too few."""
        few = self.recipe.few_shot
        if few is None:
            return None
        return self.draw(self.real("train"))

    def draw(self, pool: Images | None) -> Images:
        """The images of ``few_shot`` among these. Raises FigmentError where there are none or too few."""
        few, names = self.recipe.few_shot, self.task.class_names
        assert few is not None
        if pool is None:
            raise FigmentError(
                "few_shot draws from real training images, and there are none. Set task.real.train to a folder of"
                " yours, or leave few_shot out."
            )
        sizes = np.bincount(pool.labels, minlength=len(names))
        if few.split is None and sizes.min() < few.shots:
            raise FigmentError(
                f"few_shot wants {few.shots} real images of each class, and {names[sizes.argmin()][:60]!r} has"
                f" {sizes.min()}. Set few_shot.shots to {sizes.min()} or less, or give more images in task.real.train."
            )
        chosen = read_split(few.split, pool) if few.split else draw_shots(pool.labels, few.shots, self.recipe.seed)
        shots = pool.take(chosen)
        lacking = [name[:40] for label, name in enumerate(names) if not (shots.labels == label).any()]
        if lacking:
            raise FigmentError(f"The split {few.split} has no image of: {', '.join(lacking[:10])}.")
        return shots

    @property
    def at_hand(self) -> Images | None:
        """The real images that prompts, generator and filters may look at: of ``few_shot``, where there is one, those alone."""
        return self.real("train") if self.shots is None else self.shots

    def check(self) -> None:
        """Find out now what would otherwise fail after hours: real folders, models, settings that contradict one another."""
        _ = self.given
        select = self.recipe.train.select
        if select == "validation" and "val" not in self.given:
            raise FigmentError(
                "train.select is 'validation', and there are no validation images. Set task.real.val, or train.select: last."
            )
        if select == "test_best" and "test" not in self.given:
            raise FigmentError("train.select is 'test_best', and there are no test images. Set task.real.test.")
        few = self.recipe.few_shot
        if few is not None:
            self.draw(self.given.get("train"))  # as they are: too few, or another split, before all are encoded
        if few is None or not few.split or not self.guided:
            _ = self.untuned  # a generator that cannot be had is found out before images are encoded
        self._check_learning()
        texts = [template.replace("{}", name) for name in self.task.class_names for template in self.task.templates]
        say_what_is_cut(self.features.encoder, texts, "class names (in their templates)", "the classifier")
        for split in self._splits_needed():  # the features are kept
            self.real(split)
        _ = self.shots, self.writer, self.filters, self.untuned
        if self.finetuning is not None and not self.finetuning.is_complete():
            self.finetuning.check()

    def _check_learning(self) -> None:
        """What the end of the run would refuse: the encoder against what is done with it, and numbers of images and steps."""
        train, evaluate = self.recipe.train, self.recipe.evaluate
        encoder = cast(Towers, self.features.encoder)
        if train.unfrozen is not None:
            check_unfrozen(encoder, train.unfrozen)
        if "coop" in evaluate.baselines:
            check_coop(encoder, self.task.class_names)
        most = min(self.recipe.generate.images_per_class, train.images_per_class or np.inf) * len(self.task.class_names)
        an_epoch = int(np.ceil(most / train.batch_size))
        steps = train.epochs * an_epoch
        if self.recipe.few_shot is not None and train.order == "mix":
            steps = max(train.epochs, int(np.ceil(FEW_SHOT_STEPS / an_epoch))) * an_epoch
        elif self.recipe.few_shot is not None:  # the shots have a training of their own
            shots = len(self.draw(self.given.get("train")))
            steps = min(steps, train.epochs * int(np.ceil(shots / train.real_batch_size)))
        if train.warmup_steps >= steps:
            raise FigmentError(
                f"train.warmup_steps is {train.warmup_steps:,}, and there are {steps:,} training steps at most: the learning rate"
                f" would never come down. Set train.warmup_steps below {steps:,}; 0 is usual."
            )
        measures.check(self.recipe, self.given)

    def _splits_needed(self) -> list[str]:
        """The splits that the run will read, of those there are."""
        return [split for split in self.given if split in measures.splits_needed(self.recipe)]

    # ---- words to images ---------------------------------------------------------------------------------------------

    def prompts_stage(self) -> store.Stage:
        settings = {
            "task": self.task.model_dump(exclude={"real", "name", "own_names", "ensemble"}),
            "prompts": self.recipe.prompts.model_dump(exclude=NO_WORDS),
            "seed": self.recipe.seed,
        }
        own = getattr(self.writer[0], "fingerprint", None)  # of a model, and of images, where it uses some
        return store.Stage(self.made / "prompts", 1, settings, {"writer": own} if own else {})

    def prompts(self) -> list[Prompt]:
        stage = self.prompts_stage()
        stage.check_not_stale()
        if not stage.is_complete():
            with files.lock(stage.folder, wait=True):  # parts of a job array start together; one of them writes
                if not stage.is_complete():
                    self.write_prompts(stage)
        return store.read_prompts(stage.read())

    def write_prompts(self, stage: store.Stage) -> None:
        started = machine.Meter()
        writer, n = self.writer
        prompts = writer(self.task, n, np.random.default_rng([self.recipe.seed, 1]))
        check_prompts(prompts, self.task.class_names)
        stage.write(0, store.prompt_table(prompts, self.task.class_names))
        stage.finish(counts={"prompts": len(prompts)}, **started.record())

    def images_stage(self, prompts: list[Prompt]) -> tuple[store.Stage, Plan]:
        """The stage of the images and what ought to be in it."""
        r = self.recipe
        settings = {"generate": r.generate.model_dump(exclude=NO_PIXELS), "seed": r.seed}
        inputs = {
            "prompts": files.read_json(self.made / "prompts" / "stage.json")["fingerprint"],
            "generator": self.generator.fingerprint,
        }
        if self.starts is not None:
            inputs["shots"] = shots_fingerprint(self.starts)
        plan = self.plan(prompts)
        return images_stage(self.made / "images", plan, settings, inputs), plan

    def plan(self, prompts: list[Prompt]) -> Plan:
        """Which images the recipe makes of these prompts."""
        r = self.recipe
        starts = None if self.starts is None else ids_by_class(self.starts)
        return Plan(prompts, r.generate.images_per_class, r.seed, r.generate.shard_size, starts)

    @property
    def starts(self) -> Images | None:
        """The real images that images start from, with real guidance."""
        return self.shots if self.guided else None

    def make_images(
        self, prompts: list[Prompt], engine: Engine | None = None, part: tuple[int, int] | None = None
    ) -> None:
        r = self.recipe
        stage, plan = self.images_stage(prompts)
        # A recipe that is refused must not take the place of the one that made the images.
        stage.check_not_stale()
        for folder in {self.made, self.out}:
            files.write_atomic(folder / "recipe.yaml", r.to_yaml().encode())
        self._publish_shots()
        if stage.missing():
            say_what_is_cut(self.generator, [p.text for p in prompts], "prompts", "the generator")
            if self.finetuning is not None:
                self.finetuning.train()
        fill(stage, plan, self.generator, self.task.class_names, engine=engine, part=part, shots=self.starts)
        if stage.is_complete():
            files.write_atomic(stage.folder / "README.md", dataset_card(r, stage.folder).encode())

    def images(self) -> ShardImages:
        images = open_shards(self.made / "images")[0]
        if not len(images):
            raise FigmentError(f"No image was made; {self.made / 'images'} holds the reasons in its error column.")
        return images

    def _publish_shots(self) -> None:
        """Which images were learnt from, as a split file that others may use."""
        few = self.recipe.few_shot
        if few is not None and self.shots is not None:
            facts = {**few.model_dump(), "seed": self.recipe.seed}
            for folder in {self.made, self.out}:
                write_split(folder / "shots.json", self.shots, range(len(self.shots)), **facts)

    def select(self, images: ShardImages) -> Selection:
        """Run the filters and keep what they said, one folder of verdicts each."""
        selection = select(images, self.filters)
        inputs = {"images": files.read_json(self.made / "images" / "stage.json")["fingerprint"]}
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
                f"The filters rejected every image: {selection.counts()}. Look at {self.made / 'images'}, or loosen the filters."
            )
        if empty:
            console.print(f"  no image was kept of: {', '.join(n[:40] for n in empty)}", style="yellow")
        return selection

    # ---- images to numbers -------------------------------------------------------------------------------------------

    def fingerprint(self, selection: Selection) -> str:
        """Of everything the results depend on."""
        kept = list(selection.kept.digests)
        r = self.recipe
        images = {split: self.real(split) for split in self._splits_needed()}
        real: dict[str, Any] = {
            split: store.fingerprint([list(p.digests), p.labels.tolist()])
            for split, p in images.items()
            if p is not None
        }
        if self.shots is not None:
            real["shots"] = shots_fingerprint(self.shots)
        if self.unreadable:  # what was left out is told with the results
            real["unreadable"] = self.unreadable
        parts = {"filters", "few_shot", "train", "evaluate", "seed"}
        settings = [r.model_dump(include=parts), r.task.model_dump(exclude={"real"})]
        return store.fingerprint([store.FORMAT_VERSION, kept, self.features.encoder.fingerprint, real, settings])

    def finished(self, selection: Selection) -> list[Result] | None:
        """The results of this very run, if it got to its end before."""
        marker = self.out / "model" / "stage.json"
        own = self.fingerprint(selection)
        if marker.is_file() and files.read_json(marker).get("fingerprint") == own:
            results = [r for r in read_results(self.out) if r.fingerprint == own]
            return results if results or "test" not in self.given else None
        return None

    def train_and_evaluate(self, selection: Selection) -> list[Result]:
        started = machine.Meter()
        own = self.fingerprint(selection)
        # What is written below belongs together; without the marker an interrupted run is made again.
        (self.out / "model" / "stage.json").unlink(missing_ok=True)
        train = self.recipe.train
        templates = self.task.ensemble if train.ensemble else self.task.templates
        learner = ClipHeadLearner(self.features, self.task.class_names, templates, train, self._chooses_epoch())
        kept = _first_of_each_class(selection.kept, train.images_per_class)
        with_shots = "" if self.shots is None else f" and {len(self.shots):,} real ones"
        console.print(f"  tune on synthetic: {len(kept):,} images{with_shots}, {train.seeds} seeds")
        trainings = [Training(kept, self.shots, seed) for seed in self.recipe.training_seeds]
        models = list(learner.learn_many(trainings))
        models[0].save(self.out / "model")
        pool = self.real("train") if "train" in self._splits_needed() else None
        test = self.real("test")
        trial = Trial(self.recipe, learner, models, kept, test, pool, self.shots, self._features_of)
        measured = measures.take(trial)
        if test is not None:
            _write_predictions(self.out / "model" / "predictions.parquet", test, measured.predictions)
        results = [replace(r, fingerprint=own) for r in measured.results]
        _append_results(self.out, results)
        history = {key: [h[key] for h in models[0].history] for key in ("loss", "val_accuracy")}
        files.write_json(
            self.out / "model" / "stage.json",
            {
                "fingerprint": own,
                "kept": len(kept),
                "scores": _score_folders(selection),
                "history": history,
                "learner": learner.name,
                "files": {name: store.digest((self.out / "model" / name).read_bytes()) for name in HEAD_FILES},
                "unreadable": self.unreadable,
                **started.record(),
            },
        )
        return results

    def _chooses_epoch(self) -> Images | None:
        """The images that choose the epoch to keep, if any do."""
        if self.recipe.train.select == "test_best":
            console.print(
                "  train.select: test_best - the epoch is chosen on the TEST images, as some published numbers were. The"
                " accuracy of the synthetic set is too good by that.",
                style="yellow",
                soft_wrap=True,
            )
            return self.real("test")
        return self.real("val")

    def _features_of(self, encoder: str | None) -> Features:
        """Of the encoder of that name, or (None) of the recipe's own."""
        return self.features if encoder is None else Features(open_encoder(encoder), self.features_folder)


def _check_is_for_a_run(recipe: Recipe, out: Path) -> None:
    """Raise FigmentError for a recipe that is many runs, and for a folder that holds many."""
    if recipe.table is not None:
        raise FigmentError(
            "The recipe has a table, which is many runs: figment run, or figment.run_table, makes all of it. For one run of it"
            " take the table out: --set table=null."
        )
    if (out / "cells").is_dir():
        raise FigmentError(
            f"{out} holds a table of runs, and this recipe is one run. Choose another folder with --out."
        )


def _first_of_each_class(images: Images, n: int | None) -> Images:
    """The first ``n`` images of each class, in their order; None = all."""
    if n is None:
        return images
    chosen = [np.flatnonzero(images.labels == label)[:n] for label in np.unique(images.labels)]
    return images.take(np.sort(np.concatenate(chosen)))


def _write_predictions(path: Path, test: Images, predictions: dict[str, np.ndarray]) -> None:
    """A row for each test image: its id, its label, and what each classifier takes it for, a column a seed."""
    columns = {f"{metric}/{s}": one for metric, own in predictions.items() for s, one in enumerate(own)}
    ids = {"id": pa.array(test.ids, pa.string())}
    labels = {name: pa.array(one, pa.int32()) for name, one in {"label": test.labels, **columns}.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({**ids, **labels}), sink, compression="zstd", write_page_checksum=True)
    files.write_atomic(path, sink.getvalue().to_pybytes())


def say_what_is_cut(model: Generator | Encoder, texts: list[str], what: str, who: str) -> None:
    """Text encoders read so many tokens and no further, without a word."""
    count: Callable[[list[str]], int] = getattr(model, "count_cut", lambda texts: 0)
    cut = count(texts)
    if cut:
        console.print(
            f"  {cut:,} of {len(texts):,} {what} are longer than {who} reads: their ends change nothing",
            style="yellow",
            soft_wrap=True,
        )


def _score_folders(selection: Selection) -> list[str]:
    """Where each filter's verdicts lie, below ``scores``."""
    return [f"{i}-{step.filter}" for i, step in enumerate(selection.steps)]


def _append_results(out: Path, results: list[Result]) -> None:
    """Add to results.jsonl, in place of earlier lines of the same run."""
    own = {r.fingerprint for r in results}
    lines = [r for r in read_results(out) if r.fingerprint not in own] + results
    files.write_atomic(
        out / "results.jsonl", "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in lines).encode()
    )
