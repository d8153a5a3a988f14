"""A pilot: a few images of each class, and what they already say, before hours are spent on the rest.

Its images are the first rows of the run, in the run's own folder: ``figment run`` goes on from there.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figment import claims, files, measures, records
from figment.bias import bias_of, bias_shown, shares_of
from figment.context import Context
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.content import content_gate
from figment.evaluate.pilot import Answer, Question, know_classes, know_domain, room_left
from figment.images_in.shards import open_run_images
from figment.images_in.unreadable import check_enough_is_left, named
from figment.layout import Run
from figment.learners.clip_head.discriminant import discriminant
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.recipe import Recipe
from figment.report.planned import planned
from figment.run import check_is_for_a_run, make_images
from figment.stages.images.stage import ImagesStage, rows_there
from figment.stages.plans import plan
from figment.task import RealImages
from figment.types import Generator, Images

log = logging.getLogger(__name__)

A_CLASS, IN_ALL = 24, 480  # generated images: of each class, and of all where there are many classes
MOST_REAL = 2_000  # real images that are looked at
SPLITS = ("train", "unlabelled")  # the real images that are asked where nobody says which
FOLDS = 5  # of the real images, to learn from the others of
MOST_EXTRA = 0.02  # of a run's images: what a pilot may cost that nobody asked for
EFFECT = 0.02  # of accuracy: the gain that test images are counted for
ADVICE: Mapping[Question, str] = {
    "classes": "The generator does not know these classes, or the classifier that looked does not know their names. Other words for"
    " them (task.class_names, task.synonyms), another generator, or fine-tuning it on a few photographs (generate.finetune) may"
    " help, each in a folder of its own (--out); more images will not.",
    "domain": "The generator does not know this domain, or not by these names. Look at a few of its images, and at the labels of"
    " yours. Fine-tuning it on a few photographs (generate.finetune), real guidance (generate.real_guidance) or another generator"
    " may help, each in a folder of its own (--out); more images will not.",
    "room": "Words alone are at the ceiling: the untuned classifier with its bias removed is all that it takes, and nothing that is"
    " generated can gain much.",
}


@dataclass(frozen=True)
class Pilot:
    """What a pilot found. ``answers`` are those to ``classes``, ``domain``, ``room`` and ``test images``, in this order; ``split`` are the
    real images that were asked, which lie at ``real``, "" where there are none. It looked at ``images_per_class``
    images ``of`` those that the recipe asks for. It lies in the run's folder as ``pilot.json``."""

    folder: Path
    images_per_class: int
    of: int
    encoder: str
    split: str
    real: str
    answers: tuple[Answer, ...]

    def answer(self, question: Question) -> Answer:
        """The answer to one question."""
        return next(one for one in self.answers if one.question == question)

    @property
    def bad(self) -> list[Answer]:
        """The answers that speak against the run."""
        return [one for one in self.answers if one.word in ("unknown", "at the ceiling")]

    @property
    def summary(self) -> str:
        """One sentence or two on whether the run is worth its hours, and what may help where it is not."""
        if self.bad:
            return ADVICE[self.bad[0].question]
        of_generator = (self.answer("classes"), self.answer("domain"))
        partly, unsaid = (
            " and the ".join(one.question for one in of_generator if one.word == word)
            for word in ("partly known", "cannot say")
        )
        if partly:
            return f"The generator knows the {partly} only in part: a run may help some classes and not others."
        if unsaid:
            return f"Nothing speaks against a run, and nothing is known of the {unsaid}."
        return "The generator knows these classes and this domain: nothing speaks against a run."

    def told(self) -> dict[str, Any]:
        """JSON-able, as ``pilot.json`` has it."""
        own = {**asdict(self), "answers": [asdict(one) for one in self.answers], "summary": self.summary}
        return {name: value for name, value in own.items() if name != "folder"}


def run_pilot(
    recipe: Recipe,
    out: Path | str,
    *,
    images_per_class: int | None = None,
    split: str | None = None,
    generator: Generator | None = None,
    engine: Engine | None = None,
    allow_plugins: bool = False,
) -> Pilot:
    """Make the first images of a recipe in the folder ``out``, and ask them whether the rest is worth making.

    `figment.run_recipe` with the same folder goes on from these images. Nothing is trained but heads on features, in closed
    form, and the test images are counted and not looked at.

    Args:
        images_per_class: None = 24, or fewer where that would be more than 480 in all, but 2 at least.
        split: the real images that are asked: ``train``, ``val``, ``unlabelled``, or ``test``, which has then been looked at. None
            = ``train``, else ``unlabelled``. Without any, only the classes and the number of test images are told.
        generator, engine, allow_plugins: as in `figment.run_recipe`.

    Raises FigmentError, before anything is made, for a split that the task does not have, for a recipe that is many runs, and
    where no encoder is named to look with.
    """
    out = files.as_path(out)
    check_is_for_a_run(recipe, out)
    if not recipe.prompts.has_classes:
        raise FigmentError(
            f"prompts.kind: {recipe.prompts.kind} writes prompts of no class here, and a pilot asks whether images show their classes."
            " Look at the first ones instead: figment run with a small generate.images_per_class."
        )
    n, split = first_of(recipe, images_per_class), _split(recipe, split)
    _check_encoder(recipe)
    ctx = Context(recipe, Run(out), allow_plugins=allow_plugins)
    ctx.check_real()  # folders that cannot be read, and generated images among the real ones, are found out before images are made
    _ = ctx.given
    make_images(recipe, out, generator=generator, engine=engine, first=n, allow_plugins=allow_plugins)
    with claims.held(ctx.run.folder, root=ctx.run.root):
        return _ask(ctx, n, split)


def look_first(ctx: Context) -> None:
    """The pilot of a run that is about to make its images, where it costs next to nothing of it: says what there is to warn of, and
    never stops the run, whose first images these are."""
    recipe, n, split = ctx.recipe, first_of(ctx.recipe), _split(ctx.recipe, None)
    if recipe.generate.once:
        return  # these images cost nothing
    if not recipe.prompts.has_classes or _has_no_encoder(recipe) or records.read_answer(ctx.run.pilot) is not None:
        return
    images, there = plan(ctx, ctx.prompts), rows_there(ctx.run, recipe.generate.shard_size, sys.maxsize)
    first = plan(_beginning(ctx, n), ctx.prompts)
    if there > len(first) or _extra(ctx, len(first), split) > MOST_EXTRA * (len(images) - there):
        return
    _ = ctx.generator  # opened once, for both
    ImagesStage().run(_beginning(ctx, n))
    try:
        pilot = _ask(ctx, n, split)
    except FigmentError as error:  # such as real images that cannot be read, with which the run may still go on
        log.info(f"the first {n} images of each class tell nothing: {error}")
        return
    for one in pilot.bad:
        log.warning(f"after the first {n} images of each class: {one.sentence}")
    if pilot.bad:
        log.warning(f"{pilot.summary} The run goes on; stop it if that is not what you want.")


def _beginning(ctx: Context, n: int) -> Context:
    """The same run with only the first ``n`` images of each class. What is open already, such as the generator, is shared."""
    own = copy.copy(ctx)
    own.first = n
    return own


def _extra(ctx: Context, first: int, split: str) -> int:
    """How many images a pilot of ``first`` images makes or encodes that the run would not. Encoding one costs less than making one."""
    again = first % ctx.recipe.generate.shard_size  # of a shard that is left half full
    encoded = split in measures.splits_needed(ctx.recipe) or (split == "train" and ctx.recipe.few_shot is not None)
    return again + (0 if encoded or not split else min(MOST_REAL, len(ctx.given[split])))


def _ask(ctx: Context, n: int, split: str) -> Pilot:
    """What the first ``n`` images of each class, which are there, say; written down."""
    real = ctx.task.real.places.get(split, "")
    answers = _Questions(ctx, split, n).answers()
    pilot = Pilot(
        ctx.run.folder, n, ctx.recipe.generate.images_per_class, ctx.recipe.encoder_name, split, real, answers
    )
    records.write_answer(ctx.run.pilot, pilot.told())
    return pilot


def first_of(recipe: Recipe, asked: int | None = None) -> int:
    """How many images of each class a pilot makes: never more than the recipe."""
    if asked is not None and asked < 1:
        raise FigmentError(f"images_per_class is {asked}; a pilot makes 1 image of each class or more.")
    n = asked or max(2, min(A_CLASS, IN_ALL // len(recipe.task.class_names)))
    return min(n, recipe.generate.images_per_class)


def _split(recipe: Recipe, asked: str | None) -> str:
    """Which real images are asked; "" for none."""
    there = recipe.task.real.places
    if asked is None:
        return next((split for split in SPLITS if split in there), "")
    if asked not in RealImages.SPLITS:
        raise FigmentError(f"There is no split {asked[:40]!r}. Allowed: {', '.join(RealImages.SPLITS)}.")
    if asked not in there:
        has = ", ".join(there) or "none"
        raise FigmentError(f"The task has no {asked} images (it has: {has}). Give them: --set task.real.{asked}=DIR")
    if asked == "test":
        log.warning(
            "the pilot looks at the test images: settings that are chosen by what it says are chosen on them, and an accuracy"
            " on them is then too good. Other real images would not cost that: --set task.real.train=DIR --split train"
        )
    return asked


def _has_no_encoder(recipe: Recipe) -> bool:
    """Whether it names no CLIP: a timm network reads no words."""
    return not isinstance(recipe.encoder or getattr(recipe.train, "encoder", None), str)


def _check_encoder(recipe: Recipe) -> None:
    if _has_no_encoder(recipe):
        beside = "" if recipe.encoder is None else f" and encoder {recipe.encoder_name}"
        raise FigmentError(
            f"A pilot looks at images with a CLIP, and a recipe with train.kind {recipe.train.kind!r}{beside} names none. Name it, such as"
            " --set encoder=openai/clip-vit-large-patch14, or starter/clip for the starter's images."
        )


@dataclass(frozen=True)
class Seen:
    """Features float (n, D) of real images, and their labels int (n,); None where nobody has labelled them."""

    features: np.ndarray
    labels: np.ndarray | None


class _Questions:
    """What the answers are made from: features of the first generated images, and of real ones."""

    def __init__(self, ctx: Context, split: str, n: int) -> None:
        self.ctx, self.split, self.names = ctx, split, ctx.task.class_names
        self.encode = ctx.features()
        made = open_run_images(ctx.run)
        made = made.take(np.flatnonzero(_rank(made.labels) < n))
        self.made = made.labels, self.encode(made, "encode generated")
        self.real = self._real(split) if split else None
        self.words: Head = zero_shot_head(self.encode.encoder, self.names, ctx.task.templates)

    def answers(self) -> tuple[Answer, ...]:
        return self.classes(), self.domain(), self.room(), self.test()

    def classes(self) -> Answer:
        labels, features = self.made
        logits = self.words.predict(features)
        unbiased = logits + bias_of(logits, shares_of(labels, len(self.names)))
        return know_classes(unbiased, labels, self.names, self.ctx.recipe.encoder_name)

    def domain(self) -> Answer:
        if self.real is None:
            return Answer(
                "domain", "cannot say", f"Real images would tell whether the generator knows this domain. {GIVE}"
            )
        labels, features = self.made
        content = None
        if self.real.labels is not None:
            predicted = discriminant(features, labels, len(self.names)).predict(self.real.features).argmax(1)
            content = content_gate(predicted, self.real.labels, len(self.names), self.ctx.seed)
        return know_domain(
            features, self.real.features, self.ctx.recipe.encoder_name, self.split, content, self.ctx.seed
        )

    def room(self) -> Answer:
        if self.real is None or self.real.labels is None:
            return Answer(
                "room", "cannot say", f"Labelled real images would tell what is left to gain over words alone. {GIVE}"
            )
        x, y = self.real.features, self.real.labels
        if np.bincount(y, minlength=len(self.names)).min() < 2 or len(y) < FEWEST_LABELLED:
            few = f"2 labelled real images of each class, {FEWEST_LABELLED} in all, would tell what is left to gain over words alone."
            return Answer("room", "cannot say", few)
        logits = self.words.predict(x)
        made = self.words.predict(self.made[1]), self.made[0]
        unbiased = logits + bias_shown(made, (logits, y))
        learnt = _learnt_from_others(x, y, len(self.names), self.ctx.seed)
        answers = {
            "zero_shot": logits,
            "bias_removed": unbiased,
            "images_only": learnt,
            "words_and_images": unbiased + learnt,
        }
        return room_left({name: one.argmax(1) for name, one in answers.items()}, y, self.names, self.split)

    def test(self) -> Answer:
        plan, there = planned(self.ctx.run.folder), self.ctx.given.get("test")
        n = plan.images(EFFECT)
        numbers = {"effect": EFFECT, "needed": n, "there": None if there is None else len(there)}
        said = plan.takes(EFFECT) if there is None else f"{plan.shows(len(there))}."
        return Answer("test images", "planned", said[:1].upper() + said[1:], numbers)

    def _real(self, split: str) -> Seen:
        """Features of real images, as many of each class as there may be."""
        given: Images = self.ctx.given[split]
        labelled = split != "unlabelled"
        order = np.random.default_rng([self.ctx.seed, 5]).permutation(len(given))
        if labelled:
            order = order[np.argsort(_rank(given.labels[order]), kind="stable")]  # classes take turns
        some = given.take(np.sort(order[:MOST_REAL]))
        images, unreadable = self.encode.readable(some, f"encode real {split}")
        if unreadable:
            if labelled:
                check_enough_is_left(unreadable, some.labels, images.labels, self.names, f"task.real.{split}")
            log.warning(
                f"{len(unreadable):,} of {len(some):,} images in task.real.{split} cannot be read: {named(unreadable)}"
            )
        return Seen(self.encode(images), np.asarray(images.labels) if labelled else None)


FEWEST_LABELLED = 20  # real images, below which nothing is said of what they teach
GIVE = "Give some: --set task.real.train=DIR, or a folder nobody has labelled, --set task.real.unlabelled=DIR"


def _rank(labels: np.ndarray) -> np.ndarray:
    """The how-manieth of its class each image is: int (n,), from 0."""
    rank, seen = np.zeros(len(labels), np.int64), dict[int, int]()
    for i, label in enumerate(labels.tolist()):
        rank[i] = seen.get(label, 0)
        seen[label] = int(rank[i]) + 1
    return rank


def _learnt_from_others(x: np.ndarray, y: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """Logits float (n, N) of each image by a classifier that learnt from the images of the other folds, each with some of every class."""
    order = np.random.default_rng([seed, 6]).permutation(len(y))
    fold, logits = np.zeros(len(y), np.int64), np.zeros((len(y), n_classes), np.float32)
    fold[order] = _rank(y[order]) % FOLDS
    for f in np.unique(fold):
        logits[fold == f] = discriminant(x[fold != f], y[fold != f], n_classes).predict(x[fold == f])
    return logits


def read_pilot(folder: Path) -> Mapping[str, Any] | None:
    """What the last pilot in a run's folder said, as `Pilot.told`; None where there was none, or its file was changed."""
    return records.read_answer(Run(folder).pilot)
