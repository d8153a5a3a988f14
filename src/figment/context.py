"""What the stages of one run share: its recipe, its folder, its real images, and models that are opened at most once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from figment import measures
from figment.engines import Engine, Local
from figment.errors import FigmentError
from figment.filters.hand import HandFilter
from figment.filters.selection import Selection, select
from figment.images_in import ShardImages, by_hand
from figment.images_in.black import warn_of_black
from figment.images_in.groups import check_groups, groups_of
from figment.images_in.labels import listed
from figment.images_in.leaks import Leaks, find_leaks
from figment.images_in.provenance import Stored
from figment.images_in.real import open_real
from figment.images_in.shards import made_before, open_run_images
from figment.images_in.tones import warn_of_other_whites
from figment.images_in.unreadable import check_enough_is_left, named
from figment.layout import Run
from figment.plugins import permission
from figment.recipe import Recipe
from figment.recipe.encoder import TimmEncoderSettings
from figment.shards import prompts_in
from figment.shots import few_images, other_images
from figment.task import Task
from figment.types import Encoder, Filter, Generator, Images, Learner, Model, Prompt, Training, Writer
from figment.words import is_code, printable

if TYPE_CHECKING:  # torch and diffusers take seconds to import, and not every command needs them
    from figment.encoders import Features
    from figment.generate.finetune import Finetuning
    from figment.learners.processes import Processes

log = logging.getLogger(__name__)


class Context:
    """One run, while something is made of it. It is a :class:`figment.recipe.given.Given` to everything built from settings.

    Nothing is opened before it is asked for. ``prompts`` and ``images`` can be had once their stages are done.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        *,
        generator: Generator | None = None,
        engine: Engine | None = None,
        part: tuple[int, int] | None = None,
        first: int | None = None,
        reported: bool = True,
        allow_plugins: bool = False,
        on: Processes | None = None,
    ) -> None:
        self.recipe, self.run = recipe, run
        self.part, self.on = part, on  # of the images, in a job array; of many processes that fine-tune together
        self.engine: Engine = engine or Local()
        self.first = first  # of the images, so many of each class, for a look at what the rest will be like
        self.reported, self.allow_plugins = reported, allow_plugins  # whether the run gets a page of its own
        self.unreadable: dict[str, dict[str, str]] = {}  # split -> id of a real image -> why it was left out
        self.absent: Mapping[str, str] = {}  # split -> where its real images ought to be, which a forecast does without
        self.seconds_per_image: float | None = (
            None  # that a forecast was told; then no model is opened and nothing timed
        )
        self._generator = generator
        self._readable: dict[str, Images] = {}  # split -> its images without those that cannot be read
        self._features: dict[tuple[str, bool], Features] = {}

    # ---- what settings are built from --------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        return self.recipe.task

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def caches(self) -> Path:
        return self.run.features

    def features(self, encoder: str | TimmEncoderSettings | None = None, raw: bool = False) -> Features:
        own = encoder or self.recipe.looks_with
        key = own if isinstance(own, str) else own.model_dump_json(), raw
        if key not in self._features:
            self._features[key] = _raw_features(self, own) if raw else _open_features(self, own)
        return self._features[key]

    def real(self, split: str) -> Images | None:
        """The real images that may be looked at: of ``train`` the shots alone, where there is ``few_shot``."""
        if split == "train" and self.shots is not None:
            return self.shots
        return self.readable(split)

    @property
    def shots_per_class(self) -> int | None:
        """The most of any class, where real guidance is to suit their number."""
        few = self.recipe.few_shot
        if few is None:
            return None
        return few.each or int(np.bincount(self.draw(self.given.get("train")).labels).max())

    # ---- what is there already -----------------------------------------------------------------------------------------

    @cached_property
    def prompts(self) -> list[Prompt]:
        return prompts_in(self.run.prompts)

    @cached_property
    def images(self) -> ShardImages:
        """As many as the recipe asks for."""
        return open_run_images(self.run)

    @cached_property
    def selection(self) -> Selection:
        """What the filters say of the images, and after them whoever rejected some by hand."""
        said = by_hand.read(self.run)
        return select(self.images, [*self.filters, *([HandFilter(said)] if said.rejects() else [])])

    # ---- real images -------------------------------------------------------------------------------------------------

    @cached_property
    def given(self) -> dict[str, Stored]:
        """Split -> its real images as they were given, for the splits the task has."""
        return open_real(self.task)

    @cached_property
    def leaks(self) -> Leaks | None:
        """Of test images into what is learnt from, and of generated images into real ones; None where nobody is to look."""
        if self.recipe.evaluate.leaks is False:
            return None
        return find_leaks(self.given, self.task.class_names, made_before(self.run))

    def readable(self, split: str) -> Images | None:
        """All real images of a split that can be read, which are encoded then; None where the task has none."""
        if split in self.given and split not in self._readable:
            self._readable[split] = self._without_unreadable(split)
        return self._readable.get(split)

    def _without_unreadable(self, split: str) -> Images:
        """What cannot be read is said and recorded."""
        given = self.given[split]
        images, unreadable = self.features().readable(given, f"encode real {split}")
        if unreadable:
            where = f"task.real.{split}"
            check_enough_is_left(unreadable, given.labels, images.labels, self.task.class_names, where)
            self.unreadable[split] = {printable(name): reason for name, reason in unreadable.items()}
            log.warning(
                f"{len(unreadable):,} of the {len(given):,} images in {where} cannot be read and are left out:"
                f" {named(unreadable)}"
            )
        warn_of_black(images, f"task.real.{split}")
        return images

    @cached_property
    def test_groups(self) -> np.ndarray | None:
        """Which group each readable test image is of, int64 (n,); None where the task names none."""
        settings, test = self.task.real.groups, self.readable("test")
        return None if settings is None or test is None else groups_of(test, settings)

    @cached_property
    def shots(self) -> Images | None:
        """The few real images of ``few_shot``; None without it. Raises FigmentError where a class has too few."""
        return None if self.recipe.few_shot is None else self.draw(self.readable("train"))

    def draw(self, pool: Images | None) -> Images:
        """The images of ``few_shot`` among these. Raises FigmentError where there are none or too few."""
        few, names = self.recipe.few_shot, self.task.class_names
        assert few is not None
        if pool is None:
            raise FigmentError(
                "few_shot draws from real training images, and there are none. Set task.real.train to a folder of"
                " yours, or leave few_shot out."
            )
        return few_images(pool, names, few.shots, few.split, self.seed)

    def other_shots(self, j: int) -> Images:
        """The j-th other choice of as many real images of each class as those of ``few_shot``."""
        pool, shots = self.readable("train"), self.shots
        assert pool is not None and shots is not None
        return other_images(pool, shots, int(np.random.SeedSequence([self.seed, 4, j]).generate_state(1)[0]))

    # ---- models ------------------------------------------------------------------------------------------------------

    @cached_property
    def untuned(self) -> Generator:
        """The generator as it comes."""
        return self._generator if self._generator is not None else self.recipe.generate.build(self)

    @cached_property
    def finetuning(self) -> Finetuning | None:
        """How the generator is fine-tuned on real images, where the recipe says so. All runs of a study find it in one place."""
        if not self.recipe.generate.finetunes:
            return None  # then no real image is needed to make images
        return self.recipe.generate.finetuning(self, self.untuned, self.run.finetune)

    @cached_property
    def generator(self) -> Generator:
        """The generator of the images. What it is fine-tuned with may still have to be trained."""
        return self.untuned if self.finetuning is None else self.finetuning.tuned

    @cached_property
    def writer(self) -> Writer:
        return self.recipe.prompts.build(self)

    @cached_property
    def filters(self) -> list[Filter]:
        return [settings.build(self) for settings in self.recipe.filters]

    @cached_property
    def learner(self) -> Learner:
        return self.recipe.train.build(self)

    @cached_property
    def kept(self) -> Images:
        """The generated images that are learnt from."""
        images, n = self.selection.kept, self.recipe.train.images_per_class
        if n is None:
            return images
        chosen = [np.flatnonzero(images.labels == label)[:n] for label in np.unique(images.labels)]
        return images.take(np.sort(np.concatenate(chosen)))

    @cached_property
    def models(self) -> list[Model]:
        """The recipe's own, one a training seed; trained when they are first asked for."""
        trainings = [Training(self.kept, self.shots, seed) for seed in self.recipe.training_seeds]
        return list(self.learner.learn_many(trainings))

    @property
    def guided(self) -> bool:
        """Whether images start from real ones."""
        return self.recipe.generate.guided

    @property
    def starts(self) -> Images | None:
        """The real images that images start from, with real guidance."""
        return self.shots if self.guided else None

    # ---- before anything is spent ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Find out now what would otherwise fail after hours: real folders, models, settings that contradict one another."""
        permission.check(self.recipe.plugins, self.allow_plugins)
        _check_splits(self)
        _warn_of_codes(self.task)
        self.check_real()
        few = self.recipe.few_shot
        if few is not None:
            shots = self.draw(self.given.get("train"))  # as they are: too few, or another split, before all are encoded
            if self.recipe.evaluate.shot_draws is not None:
                other_images(self.given["train"], shots, 0)
        if few is None or not few.split or not self.guided:
            _ = self.untuned  # a generator that cannot be had is found out before images are encoded
        measures.check(self.recipe, self.given)
        if self.recipe.evaluate.encoder is not None:
            _ = self.features(self.recipe.evaluate.encoder)
        _ = self.learner
        self._check_learner()
        for split in sorted(measures.splits_needed(self.recipe) & set(self.given)):  # the features are kept
            self.readable(split)
        warn_of_other_whites({split: images.white for split, images in self.given.items()})
        _ = self.shots, self.writer, self.filters, self.untuned
        if self.finetuning is not None and not self.finetuning.is_complete():
            self.finetuning.check()

    def check_real(self) -> None:
        """Raise FigmentError for what would spoil the test, unless the recipe has it reported; warn of the rest."""
        if self.task.real.groups is not None:
            check_groups(self.given, self.task.real.groups)
        if self.leaks is None:
            return
        if self.recipe.evaluate.leaks == "refuse":
            self.leaks.refuse()
        for sentence in (*self.leaks.serious, *self.leaks.others):
            log.warning(sentence)

    def _check_learner(self) -> None:
        """What the end of the run would refuse: numbers of images against numbers of steps."""
        most = self.recipe.generate.images_per_class
        limit = self.recipe.train.images_per_class
        synthetic = (most if limit is None else min(most, limit)) * self.recipe.n_labels
        real = 0 if self.recipe.few_shot is None else len(self.draw(self.given.get("train")))
        self.learner.check(synthetic, real)
        if self.recipe.evaluate.baselines:
            _check_baselines(self)


def _raw_features(ctx: Context, encoder: str | TimmEncoderSettings) -> Features:
    """Of the same weights, in memory once, as the network gives them."""
    from figment import encoders

    return encoders.Features(encoders.raw(ctx.features(encoder).encoder), ctx.caches)


def _open_features(ctx: Context, own: str | TimmEncoderSettings) -> Features:
    from figment.encoders import Features, open_encoder

    opened: Encoder
    if isinstance(own, TimmEncoderSettings):
        opened = own.build()
    else:
        opened = open_encoder(own, allow_pickle=ctx.recipe.encoder_pickles)
    return Features(opened, ctx.caches)


def _check_baselines(ctx: Context) -> None:
    from figment.learners.clip_head.baselines import baseline

    for name in ctx.recipe.evaluate.baselines:
        baseline(name, ctx.learner)


def _check_splits(ctx: Context) -> None:
    select = ctx.recipe.train.select
    if select == "validation" and "val" not in ctx.given:
        raise FigmentError(
            "train.select is 'validation', and there are no validation images. Set task.real.val, or train.select: last."
        )
    if select == "test_best" and "test" not in ctx.given:
        raise FigmentError("train.select is 'test_best', and there are no test images. Set task.real.test.")


def _warn_of_codes(task: Task) -> None:
    """Class names are read as words, by generator and classifier alike."""
    codes = [name for name in task.class_names if is_code(name)]
    if codes:
        read = task.templates[0].replace("{}", codes[0])
        log.warning(
            f"{len(codes):,} of {len(task.class_names):,} class names are spelt for programs, such as {listed(codes, 3)}: the models read"
            f" {read[:80]!r}, which can cost many points. Write them as people say them in task.class_names, and the data set's spellings"
            " in task.own_names, in the same order."
        )
