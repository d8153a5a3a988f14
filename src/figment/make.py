"""The objects behind a recipe's settings: its writer, its generator, its filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from figment.encoders import Features, open_encoder
from figment.errors import FigmentError
from figment.filters.argmax import ArgmaxFilter
from figment.filters.blank import BlankFilter
from figment.filters.centroid import CentroidFilter
from figment.filters.clip import ClipFilter
from figment.filters.duplicate import DuplicateFilter
from figment.filters.memorised import MemorisedFilter
from figment.filters.real import RealFilter
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.finetune import Finetuning
from figment.generate.procedural import ProceduralGenerator
from figment.prompts.attributes import Attributes
from figment.prompts.captions import Captions
from figment.prompts.chat import Chat
from figment.prompts.seq2seq import Seq2Seq
from figment.prompts.templates import Templates
from figment.recipe import Recipe
from figment.recipe import filters as settings_of
from figment.recipe.generate import DiffusersSettings, ProceduralSettings
from figment.recipe.plugin import Plugin
from figment.types import Filter, Generator, Images, Writer

MANY_PROMPTS = 50  # a class, where a recipe names no number


def make_generator(recipe: Recipe, shots: int | None = None) -> Generator:
    """The recipe's generator as it comes. ``shots`` is the number of real images a class, where its split file says it."""
    settings = recipe.generate
    if isinstance(settings, DiffusersSettings):
        options = settings.model_dump(exclude={"kind", "images_per_class", "shard_size", "finetune", "real_guidance"})
        guidance = settings.real_guidance
        if guidance is not None and recipe.few_shot is not None:
            options["real_guidance"] = guidance.resolved(shots or recipe.few_shot.shots)
        return DiffusersGenerator(**options)
    if isinstance(settings, ProceduralSettings):
        return ProceduralGenerator(height=settings.height, width=settings.width, noise=settings.noise)
    return load_plugin(settings)


def make_finetuning(recipe: Recipe, generator: Generator, train: Images | None, root: Path) -> Finetuning | None:
    """How the recipe tunes its generator on the real images ``train``, if it does. Raises FigmentError without any."""
    settings = recipe.generate.finetune if isinstance(recipe.generate, DiffusersSettings) else None
    if settings is None or not isinstance(generator, DiffusersGenerator):
        return None
    if train is None:
        raise FigmentError(
            "generate.finetune tunes the generator on real training images, and there are none. Set task.real.train to a"
            " folder of yours, or leave generate.finetune out."
        )
    settings = settings.model_copy(update={"template": settings.template or recipe.task.templates[0]})
    return Finetuning(generator, train, tuple(recipe.task.class_names), settings, root, recipe.seed)


def make_writer(recipe: Recipe, train: Images | None = None, cache: Path | None = None) -> tuple[Writer, int]:
    """The recipe's writer of prompts and how many it is asked for, for each class.

    ``train`` are the real images that may be captioned, ``cache`` is a folder for the answers of a chat server.
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
                "prompts.kind is 'captions', and there are no images to caption. Set task.real.train to a folder of"
                " yours, or choose prompts.kind: attributes, which needs none."
            )
        return Captions(train, **options), n
    return Attributes(settings.templates, settings.synonyms, exactly=settings.per_class is not None), n


def make_filters(recipe: Recipe, features: Features, features_folder: Path, real: Mapping[str, Images]) -> list[Filter]:
    """The recipe's filters. ``real`` holds the real images of each split there is. Raises FigmentError where a filter needs others."""
    known: dict[str | None, Features] = {None: features, recipe.train.encoder: features}

    def encoded(model: str | None) -> Features:
        if model is not None and model not in known:
            known[model] = Features(open_encoder(model, allow_pickle=recipe.train.allow_pickle), features_folder)
        return known[model]

    def train(kind: str) -> Images:
        if "train" not in real:
            raise FigmentError(
                f"The filter {kind!r} compares with real training images, and there are none. "
                "Set task.real.train, or take the filter out."
            )
        return real["train"]

    def make(f: settings_of.Filter) -> Filter:
        if isinstance(f, Plugin):
            return load_plugin(f)
        if isinstance(f, settings_of.BlankFilterSettings):
            return BlankFilter(f.minimum_std)
        own, names = encoded(f.model), recipe.task.class_names
        if isinstance(f, settings_of.ClipFilterSettings):
            return ClipFilter(own, names, f.templates or recipe.task.templates, f.rule, f.threshold, f.k, recipe.seed)
        if isinstance(f, settings_of.ArgmaxFilterSettings):
            return ArgmaxFilter(own, names, f.templates or recipe.task.templates)
        if isinstance(f, settings_of.RealFilterSettings):
            return RealFilter(own, train("real"), f.quantile, f.threshold)
        if isinstance(f, settings_of.CentroidFilterSettings):
            return CentroidFilter(own, f.drop_farthest, f.drop_nearest, train("centroid") if f.of == "real" else None)
        if isinstance(f, settings_of.DuplicateFilterSettings):
            return DuplicateFilter(own, f.threshold)
        return MemorisedFilter(own, real.get("train"), real.get("test"), f.quantile, f.threshold, f.test)

    return [make(f) for f in recipe.filters]


def reads_train(f: settings_of.Filter) -> bool:
    """Whether a filter compares with real training images."""
    return isinstance(f, settings_of.RealFilterSettings | settings_of.MemorisedFilterSettings) or (
        isinstance(f, settings_of.CentroidFilterSettings) and f.of == "real"
    )


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
