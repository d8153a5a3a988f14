"""Walks the stages of a recipe, in order; what is already done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from figment import files, machine, store
from figment.classify.head import HEAD_FILES, Head, HeadCard, zero_shot_head
from figment.classify.tune import Tuned, tune, tune_few_shot
from figment.encoders import ClipEncoder, Features
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy, correctness, paired_difference, verdict
from figment.evaluate.exchange_rate import exchange_rate, real_curve
from figment.filters.argmax import Argmax
from figment.filters.blank import Blank
from figment.filters.centroid import Centroid
from figment.filters.clip import Clip
from figment.filters.duplicate import Duplicate
from figment.filters.memorised import Memorised
from figment.filters.real import Real
from figment.filters.selection import Selection, select
from figment.generate.adapt import Adaptation
from figment.generate.card import dataset_card
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.plan import Plan
from figment.generate.procedural import ProceduralGenerator
from figment.generate.stage import NO_PIXELS, fill, images_stage
from figment.pictures import ShardPictures, open_pictures, open_shards
from figment.pictures.unreadable import check_enough_is_left, named
from figment.progress import console
from figment.prompts.attributes import Attributes
from figment.prompts.captions import Captions
from figment.prompts.chat import Chat
from figment.prompts.check import check_prompts
from figment.prompts.seq2seq import Seq2Seq
from figment.prompts.templates import Templates
from figment.recipe import (
    ArgmaxFilter,
    BlankFilter,
    CentroidFilter,
    ClipFilter,
    Diffusers,
    DuplicateFilter,
    MemorisedFilter,
    Plugin,
    Procedural,
    RealFilter,
    Recipe,
)
from figment.recipe import Captions as CaptionsSettings
from figment.recipe import Filter as FilterSettings
from figment.report.folder import read_results, report_of
from figment.report.page import write as write_report
from figment.task import real_folder
from figment.types import Encoder, Filter, Generator, Pictures, Prompt, Result, Writer
from figment.words import printable

# Settings of prompts that change no word of them: how fast, and where the same model is found.
NO_WORDS = {"batch_size", "allow_pickle", "base_url", "api_key_env", "parallel", "timeout", "retries"}

MANY_PROMPTS = 50  # a class, where a recipe names no number


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
        walk = Walk(recipe, out, generator, features_folder or out / "features")
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
        walk = Walk(recipe, out, generator, out / "features")
        walk.make_images(walk.prompts(), engine, part)
    return out / "images"


class Walk:
    """The stages of one run, with what they share: models that are loaded at most once, and only if a stage needs them."""

    def __init__(self, recipe: Recipe, out: Path, generator: Generator | None, features_folder: Path):
        self.recipe, self.task, self.out = recipe, recipe.task, out
        self._generator, self.features_folder = generator, features_folder
        self.unreadable: dict[str, dict[str, str]] = {}  # split -> id of a real picture -> why it was left out

    @cached_property
    def untuned(self) -> Generator:
        """The generator as it comes."""
        return self._generator or make_generator(self.recipe)

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """How the generator is tuned on real pictures, where the recipe says so. All arms of a study find it in one place."""
        if getattr(self.recipe.generate, "adapt", None) is None:
            return None  # then no real picture is needed to make images
        if "train" in self.real:
            self.real["train"] = self._readable("train")
        return make_adaptation(self.recipe, self.untuned, self.real.get("train"), self.features_folder.parent / "adapt")

    @cached_property
    def generator(self) -> Generator:
        """The generator of the images. What it is tuned with may still have to be trained."""
        return self.untuned if self.adaptation is None else self.adaptation.tuned

    @cached_property
    def writer(self) -> tuple[Writer, int]:
        """The writer of prompts, and how many it is asked for. Bought answers are kept where all arms of a study find them."""
        train = self.real.get("train") if isinstance(self.recipe.prompts, CaptionsSettings) else None
        return make_writer(self.recipe, train, self.features_folder / "chat")

    @cached_property
    def features(self) -> Features:
        train = self.recipe.train
        return Features(ClipEncoder(train.encoder, allow_pickle=train.allow_pickle), self.features_folder)

    @cached_property
    def filters(self) -> list[Filter]:
        return make_filters(self.recipe, self.features, self.features_folder, self.real)

    @cached_property
    def real(self) -> dict[str, Pictures]:
        """Split -> its pictures, for the splits the task has."""
        given = self.task.real.model_dump()
        return {
            split: open_pictures(real_folder(where), self.task.class_names, self.task.own_names)
            for split, where in given.items()
            if where
        }

    def check(self) -> None:
        """Find out now what would otherwise fail after hours: real folders, models, settings that contradict one another."""
        _ = self.real
        if self.recipe.train.select == "validation" and "val" not in self.real:
            raise FigmentError(
                "train.select is 'validation', and there are no validation pictures. Set task.real.val, or train.select: last."
            )
        _ = self.writer, self.filters, self.untuned
        texts = [template.replace("{}", name) for name in self.task.class_names for template in self.task.templates]
        say_what_is_cut(self.features.encoder, texts, "class names (in their templates)", "the classifier")
        for split in self._splits_needed():  # the features are kept
            self.real[split] = self._readable(split)
        if self.unreadable:
            del self.filters, self.writer  # they hold the real pictures as they were given
        if self.adaptation is not None and not self.adaptation.is_complete():
            self.adaptation.check()

    def _readable(self, split: str) -> Pictures:
        """The real pictures of a split without those that cannot be read, which are said and recorded."""
        given = self.real[split]
        pictures, unreadable = self.features.readable(given, f"encode real {split}")
        if unreadable:
            where = f"task.real.{split}"
            check_enough_is_left(unreadable, given.labels, pictures.labels, self.task.class_names, where)
            self.unreadable[split] = {printable(name): reason for name, reason in unreadable.items()}
            console.print(
                f"  {len(unreadable):,} of the {len(given):,} pictures in {where} cannot be read and are left out:"
                f" {named(unreadable)}",
                style="yellow",
                soft_wrap=True,
            )
        return pictures

    def _splits_needed(self) -> list[str]:
        """The splits that the run will read, of those there are."""
        evaluate = self.recipe.evaluate
        train = "test" in self.real and (evaluate.real_all or evaluate.exchange_rate)
        train |= any(_reads_train(f) for f in self.recipe.filters) or isinstance(self.recipe.prompts, CaptionsSettings)
        train |= getattr(self.recipe.generate, "adapt", None) is not None
        wanted = {"test": True, "train": train, "val": True}
        return [split for split in self.real if wanted[split]]

    # ---- words to images ---------------------------------------------------------------------------------------------

    def prompts_stage(self) -> store.Stage:
        settings = {
            "task": self.task.model_dump(exclude={"real", "name", "own_names", "ensemble"}),
            "prompts": self.recipe.prompts.model_dump(exclude=NO_WORDS),
            "seed": self.recipe.seed,
        }
        own = getattr(self.writer[0], "fingerprint", None)  # of a model, and of pictures, where it uses some
        return store.Stage(self.out / "prompts", 1, settings, {"writer": own} if own else {})

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
            "prompts": files.read_json(self.out / "prompts" / "stage.json")["fingerprint"],
            "generator": self.generator.fingerprint,
        }
        plan = Plan(prompts, r.generate.images_per_class, r.seed, r.generate.shard_size)
        return images_stage(self.out / "images", plan, settings, inputs), plan

    def make_images(
        self, prompts: list[Prompt], engine: Engine | None = None, part: tuple[int, int] | None = None
    ) -> None:
        r = self.recipe
        stage, plan = self.images_stage(prompts)
        # A recipe that is refused must not take the place of the one that made the images.
        stage.check_not_stale()
        files.write_atomic(self.out / "recipe.yaml", r.to_yaml().encode())
        if stage.missing():
            say_what_is_cut(self.generator, [p.text for p in prompts], "prompts", "the generator")
            if self.adaptation is not None:
                self.adaptation.train()
        fill(stage, plan, self.generator, self.task.class_names, engine=engine, part=part)
        if stage.is_complete():
            files.write_atomic(stage.folder / "README.md", dataset_card(r, stage.folder).encode())

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
        real: dict[str, Any] = {split: store.fingerprint(list(p.digests)) for split, p in self.real.items()}
        if self.unreadable:  # what was left out is told with the results
            real["unreadable"] = self.unreadable
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
        templates = self.task.ensemble if train.ensemble else self.task.templates
        head = zero_shot_head(self.features.encoder, self.task.class_names, templates)
        kept = selection.kept
        tuned = self._tune(head, self.features(kept), kept.labels)
        card = HeadCard(
            tuple(self.task.class_names), tuple(templates), train.encoder, self.features.encoder.fingerprint
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
                "files": {name: store.digest((self.out / "model" / name).read_bytes()) for name in HEAD_FILES},
                "unreadable": self.unreadable,
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
        return DiffusersGenerator(**settings.model_dump(exclude={"kind", "images_per_class", "shard_size", "adapt"}))
    if isinstance(settings, Procedural):
        return ProceduralGenerator(height=settings.height, width=settings.width, noise=settings.noise)
    return load_plugin(settings)


def make_adaptation(recipe: Recipe, generator: Generator, train: Pictures | None, root: Path) -> Adaptation | None:
    """How the recipe tunes its generator on the real pictures ``train``, if it does. Raises FigmentError without any."""
    settings = recipe.generate.adapt if isinstance(recipe.generate, Diffusers) else None
    if settings is None or not isinstance(generator, DiffusersGenerator):
        return None
    if train is None:
        raise FigmentError(
            "generate.adapt tunes the generator on real training pictures, and there are none. Set task.real.train to a"
            " folder of yours, or leave generate.adapt out."
        )
    settings = settings.model_copy(update={"template": settings.template or recipe.task.templates[0]})
    return Adaptation(generator, train, tuple(recipe.task.class_names), settings, root, recipe.seed)


def make_writer(recipe: Recipe, train: Pictures | None = None, cache: Path | None = None) -> tuple[Writer, int]:
    """The recipe's writer of prompts and how many it is asked for, for each class.

    ``train`` are the real pictures that may be captioned, ``cache`` is a folder for the answers of a chat server.
    """
    settings = recipe.prompts
    if isinstance(settings, Plugin):
        return load_plugin(settings), recipe.generate.images_per_class
    if settings.kind == "templates":
        return Templates(settings.templates), recipe.generate.images_per_class
    # More prompts than images would be prompts nobody draws.
    n = min(settings.per_class or MANY_PROMPTS, recipe.generate.images_per_class)
    options = settings.model_dump(exclude={"kind", "per_class"})
    if settings.kind == "seq2seq":
        return Seq2Seq(**options), n
    if settings.kind == "chat":
        return Chat(**options, cache=cache), n
    if settings.kind == "captions":
        if train is None:
            raise FigmentError(
                "prompts.kind is 'captions', and there are no pictures to caption. Set task.real.train to a folder of"
                " yours, or choose prompts.kind: attributes, which needs none."
            )
        return Captions(train, **options), n
    return Attributes(settings.templates, settings.synonyms, exactly=settings.per_class is not None), n


def make_filters(
    recipe: Recipe, features: Features, features_folder: Path, real: Mapping[str, Pictures]
) -> list[Filter]:
    """The recipe's filters. ``real`` holds the real pictures of each split there is. Raises FigmentError where a filter needs others."""
    known: dict[str | None, Features] = {None: features, recipe.train.encoder: features}

    def encoded(model: str | None) -> Features:
        if model is not None and model not in known:
            known[model] = Features(ClipEncoder(model, allow_pickle=recipe.train.allow_pickle), features_folder)
        return known[model]

    def train(kind: str) -> Pictures:
        if "train" not in real:
            raise FigmentError(
                f"The filter {kind!r} compares with real training pictures, and there are none. "
                "Set task.real.train, or take the filter out."
            )
        return real["train"]

    def make(f: FilterSettings) -> Filter:
        if isinstance(f, Plugin):
            return load_plugin(f)
        if isinstance(f, BlankFilter):
            return Blank(f.minimum_std)
        own, names = encoded(f.model), recipe.task.class_names
        if isinstance(f, ClipFilter):
            return Clip(own, names, f.templates or recipe.task.templates, f.rule, f.threshold, f.k, recipe.seed)
        if isinstance(f, ArgmaxFilter):
            return Argmax(own, names, f.templates or recipe.task.templates)
        if isinstance(f, RealFilter):
            return Real(own, train("real"), f.quantile, f.threshold)
        if isinstance(f, CentroidFilter):
            return Centroid(own, f.drop_farthest, f.drop_nearest, train("centroid") if f.of == "real" else None)
        if isinstance(f, DuplicateFilter):
            return Duplicate(own, f.threshold)
        return Memorised(own, real.get("train"), real.get("test"), f.quantile, f.threshold, f.test)

    return [make(f) for f in recipe.filters]


def _reads_train(f: FilterSettings) -> bool:
    """Whether a filter compares with the real training pictures."""
    return isinstance(f, RealFilter | MemorisedFilter) or (isinstance(f, CentroidFilter) and f.of == "real")


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
