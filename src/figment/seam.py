"""Objects of users' own at the seam: loaded by name, checked in what they return, and blamed by their own name and line.

A plug-in is ``kind: package.module:Name`` in a recipe: something that is called with ``options`` and, where it has a
parameter ``given``, with what the built-in ones are built from (see ``figment.recipe.given``). What that returns is the
filter, writer, generator or learner. Everything a plug-in does wrong is one `FigmentError`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from figment import store
from figment.errors import FigmentError, nearest
from figment.prompts.check import check_prompts
from figment.types import Images, Model, Prompt, Training, Verdict


@dataclass(frozen=True)
class Plugin:
    """What ``kind: package.module:Name`` stands for: the object, and who is to blame for what it does."""

    kind: str
    made: Any
    options: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Its own, or else one of its module's source and its options. Raises FigmentError where its own is no text."""
        own = getattr(self.made, "fingerprint", None)
        if own is None:
            source = _file_of(self.kind)
            code = Path(source).read_bytes() if source and Path(source).is_file() else b""
            return store.fingerprint([self.kind, store.digest(code), dict(self.options)])
        if not isinstance(own, str) or not own:
            self.refuse("has as its fingerprint", own, "a text that is another whenever its results would be")
        return own

    def attribute(self, name: str, default: Any) -> Any:
        with self.blamed(f"asked for its {name}"):
            return getattr(self.made, name, default)

    def refuse(self, did: str, got: Any, wanted: str) -> None:
        """Raise the FigmentError for a result that is none."""
        raise FigmentError(f"The plug-in {self.kind} {did} {shown(got)}. Wanted: {wanted}.")

    @contextmanager
    def blamed(self, when: str) -> Iterator[None]:
        """Whatever is raised here is the plug-in's fault, said in one paragraph with its own file and line."""
        try:
            yield
        except FigmentError:
            raise
        except Exception as error:
            raise FigmentError(failure(self.kind, error, when, self.made)) from error


# ---- loading ---------------------------------------------------------------------------------------------------------


def load(kind: str, options: Mapping[str, Any], given: Any) -> Plugin:
    """The object behind ``kind``. Raises FigmentError where it cannot be imported or made."""
    module_name, _, name = kind.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):  # it lacks something itself
            raise FigmentError(failure(kind, error, "imported")) from error
        raise FigmentError(
            f"The plug-in {kind} cannot be imported: there is no module {error.name!r}. It must be installed, or lie in a folder"
            " that PYTHONPATH names."
        ) from error
    except (Exception, SystemExit) as error:  # a script without a main guard leaves by itself
        raise FigmentError(failure(kind, error, "imported")) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        there = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        what = "nothing of that name" if factory is None else f"{shown(factory)} there, which cannot be called"
        raise FigmentError(
            f"The plug-in {kind} cannot be loaded: {_file_of(kind) or module_name} holds {what}.{nearest(name, there)}"
        )
    more = {"given": given} if "given" in _parameters(factory) else {}
    _check_options(kind, factory, {**options, **more})
    try:
        return Plugin(kind, factory(**options, **more), options)
    except FigmentError:
        raise
    except Exception as error:
        raise FigmentError(failure(kind, error, "called with its options", factory)) from error


def _check_options(kind: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some of those written in C have none
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        raise FigmentError(
            f"The plug-in {kind}{signature} cannot be called with the options {', '.join(options) or '(none)'}: {error}. What it"
            " names is called with options first, by their names; what that returns is then used."
        ) from error


def _parameters(factory: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}


# ---- blame -----------------------------------------------------------------------------------------------------------


def failure(kind: str, error: BaseException, when: str, made: Any = None) -> str:
    """What a plug-in raised, where in its own file, in one paragraph."""
    text = " ".join(str(error).split())[:300]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"The plug-in {kind} failed when it was {when}: {said.rstrip('.')}. It is at {_place(kind, error, made)}."


def _place(kind: str, error: BaseException, made: Any) -> str:
    """``file, line n``: the last line of the plug-in's own file that ran, or where it is defined."""
    own = _file_of(kind)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [f for f in traceback.extract_tb(error.__traceback__) if own and f.filename == own]
    if lines:
        return f"{own}, line {lines[-1].lineno}"
    try:  # it was called in a way that it cannot be
        kind_of_it = made if inspect.isroutine(made) or inspect.isclass(made) else type(made)
        return f"{inspect.getsourcefile(kind_of_it)}, line {inspect.getsourcelines(kind_of_it)[1]}"
    except (TypeError, OSError):
        return own or kind


def _file_of(kind: str) -> str | None:
    name = kind.partition(":")[0]
    try:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else None
    except (ImportError, ValueError, AttributeError):
        return None
    return getattr(module, "__file__", None) if module is not None else spec.origin if spec else None


def shown(value: Any) -> str:
    """A value as a message names it: its type and, for arrays, their dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.80} ({type(value).__name__})" if value is not None else "None"
    module = type(value).__module__.partition(".")[0]
    name = type(value).__qualname__
    return f"an object of type {name if module == 'builtins' else f'{module}.{name}'}"


# ---- filters and writers ---------------------------------------------------------------------------------------------


def items(plugin: Plugin, result: Any, n: int | None, each: str, wanted: str) -> list[Any]:
    """A result that holds ``n`` of something, as a list."""
    if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__"):
        plugin.refuse("returned", result, wanted)
    if n is not None and len(result) != n:
        raise FigmentError(f"The plug-in {plugin.kind} returned {len(result):,} {each}s for {n:,}. Wanted: {wanted}.")
    return list(result)


class PluginFilter:
    """A filter of a user's own. Its verdicts are checked."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a filter, which is called with images and returns a Verdict for each")
        self.name = plugin.attribute("name", None) or plugin.kind.partition(":")[2]
        if not isinstance(self.name, str) or not self.name.replace("-", "").replace("_", "").isalnum():
            plugin.refuse("has as its name", self.name, "letters, digits, - and _; a folder is called by it")
        self.fingerprint = plugin.fingerprint

    def __call__(self, images: Images) -> list[Verdict]:
        with self.plugin.blamed("called with images"):
            result = self.plugin.made(images)
        wanted = "a list with a figment.Verdict(keep, reason, scores) for each image"
        verdicts = items(self.plugin, result, len(images), "verdict", wanted)
        return [self._checked(v, f"the image {id}") for v, id in zip(verdicts, images.ids, strict=True)]

    def _checked(self, verdict: Any, of: str) -> Verdict:
        refuse = self.plugin.refuse
        if not isinstance(verdict, Verdict):
            refuse(f"returned for {of}", verdict, "a figment.Verdict(keep, reason, scores) for each image")
        if not isinstance(verdict.keep, bool | np.bool_):
            refuse(f"gave a Verdict for {of} whose keep is", verdict.keep, "True or False")
        if not isinstance(verdict.reason, str) or not (verdict.keep or verdict.reason):
            refuse(f"rejected {of} with the reason", verdict.reason, "a short phrase that says why")
        for name, score in verdict.scores.items():
            if not isinstance(score, Real) or not isfinite(score):
                refuse(f"gave {of} a score {name!r} of", score, "a finite number")
        return Verdict(bool(verdict.keep), verdict.reason, {str(k): float(v) for k, v in verdict.scores.items()})


class PluginWriter:
    """A writer of prompts of a user's own. Its prompts are checked."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a writer, which is called as writer(task, n, rng) and returns prompts")
        self.fingerprint = plugin.fingerprint

    def __call__(self, task: Any, n: int, rng: np.random.Generator) -> list[Prompt]:
        with self.plugin.blamed("called for prompts"):
            result = self.plugin.made(task, n, rng)
            result = list(result) if inspect.isgenerator(result) else result
        wanted = "a list of figment.Prompt(id, text, label, group)"
        prompts = items(self.plugin, result, None, "prompt", wanted)
        if not prompts:
            self.plugin.refuse("returned", result, f"{wanted}, one or more")
        for prompt in prompts:
            if not isinstance(prompt, Prompt):
                self.plugin.refuse("returned among its prompts", prompt, wanted)
            for name, kind in (("id", str), ("text", str), ("group", str), ("label", Integral)):
                if not isinstance(getattr(prompt, name), kind) or isinstance(getattr(prompt, name), bool):
                    what = "a text" if kind is str else "the position of the class in task.class_names"
                    self.plugin.refuse(f"returned a Prompt whose {name} is", getattr(prompt, name), what)
        try:
            check_prompts(prompts, task.class_names)
        except FigmentError as error:
            raise FigmentError(f"The plug-in {self.plugin.kind} wrote prompts that do not hold. {error}") from error
        return prompts


# ---- generators ------------------------------------------------------------------------------------------------------


class PluginRaised(Exception):
    """A plug-in's own exception, with its name and line. It fails the sample it was raised for, not the run."""

    def __str__(self) -> str:
        return str(self.args[0])


class PluginGenerator:
    """A generator of a user's own. Its images are checked; what else it has (``batch_size``, ``describe``...) is passed on."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a generator, which is called with prompts and seeds and returns images")
        self.fingerprint = plugin.fingerprint

    def __getattr__(self, name: str) -> Any:
        if name == "plugin" or name.startswith("_"):  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.plugin.made, name)

    def size(self) -> tuple[int, int]:
        """Height and width that start images are cut to."""
        if not callable(getattr(self.plugin.made, "size", None)):
            raise FigmentError(
                f"The plug-in {self.plugin.kind} cannot start from real images: it has no size(), the height and width that they are"
                " cut to. Leave real guidance out, or give it one."
            )
        with self.plugin.blamed("asked for its size"):
            size = self.plugin.made.size()
        if not isinstance(size, tuple | list) or len(size) != 2 or not all(isinstance(s, Integral) for s in size):
            self.plugin.refuse("has as its size", size, "two whole numbers, the height and the width in pixels")
        return int(size[0]), int(size[1])

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], *args: Any, **more: Any) -> list[Any]:
        try:
            result = self.plugin.made(prompts, seeds, *args, **more)
        except FigmentError:
            raise
        except Exception as error:
            raise PluginRaised(failure(self.plugin.kind, error, "called for images", self.plugin.made)) from error
        wanted = "a list with a uint8 array (height, width, 3), RGB from 0 to 255, for each prompt"
        images = items(self.plugin, result, len(prompts), "image", wanted)
        for image in images:
            if image is not None:  # one that failed
                self._check(image)
        return images

    def _check(self, image: Any) -> None:
        hints = {
            "float": "Multiply by 255, round, and convert with .astype(np.uint8)",
            "grey": "Repeat it with np.repeat(image[..., None], 3, axis=2)",
            "alpha": "Drop the alpha channel with image[..., :3]",
            "PIL": 'Convert with np.asarray(image.convert("RGB"))',
        }
        wanted = "for each prompt a uint8 array (height, width, 3), RGB from 0 to 255"
        hint = ""
        if not isinstance(image, np.ndarray):
            hint = hints["PIL"] if type(image).__module__.startswith("PIL") else ""
        elif image.ndim == 3 and image.shape[2] == 3 and image.size and image.dtype == np.uint8:
            return
        elif image.ndim == 2 or image.shape[2:] == (1,):
            hint = hints["grey"]
        elif image.shape[2:] == (4,):
            hint = hints["alpha"]
        elif np.issubdtype(image.dtype, np.floating):
            hint = hints["float"]
        self.plugin.refuse("returned as an image", image, wanted + (f". {hint}" if hint else ""))


# ---- learners --------------------------------------------------------------------------------------------------------


class PluginModel:
    """What a user's own learner made. Its logits are checked."""

    def __init__(self, plugin: Plugin, model: Any, n_classes: int, fingerprint: str):
        self.plugin, self.model, self.n_classes = plugin, model, n_classes
        for method in ("logits", "save"):
            if not callable(getattr(model, method, None)):
                plugin.refuse(
                    f"learnt a model without {method}():", model, "a model with logits(images) and save(folder)"
                )
        own = getattr(model, "fingerprint", None)
        self.fingerprint = own if isinstance(own, str) and own else fingerprint
        self.history = list(getattr(model, "history", None) or [])
        self.facts = dict(getattr(model, "facts", None) or {})
        if not all(isinstance(epoch, Mapping) for epoch in self.history):
            plugin.refuse("learnt a model whose history is", self.history, "a list with a dict for each epoch")

    def logits(self, images: Images) -> np.ndarray:
        with self.plugin.blamed("asked for the logits of its model"):
            logits = self.model.logits(images)
        shape = (len(images), self.n_classes)
        wanted = f"a float32 array of shape {shape}: for each image a finite number a class, the highest the answer"
        if not isinstance(logits, np.ndarray) or logits.shape != shape or not np.issubdtype(logits.dtype, np.floating):
            self.plugin.refuse("has a model whose logits are", logits, wanted)
        if not np.isfinite(logits).all():
            n = int((~np.isfinite(logits)).any(1).sum())
            raise FigmentError(
                f"The plug-in {self.plugin.kind} has a model whose logits are NaN or infinite for {n:,} of {len(images):,} images."
                f" Wanted: {wanted}."
            )
        return logits.astype(np.float32, copy=False)

    def save(self, folder: Path) -> None:
        with self.plugin.blamed("asked to save its model"):
            self.model.save(folder)


class PluginLearner:
    """A learner of a user's own. Its models are checked; `learn_many` is supplied where it has none."""

    def __init__(self, plugin: Plugin, n_classes: int):
        self.plugin, self.n_classes = plugin, n_classes
        if not callable(getattr(plugin.made, "learn", None)):
            plugin.refuse("made", plugin.made, "a learner with learn(synthetic, real, seed), which returns a model")
        self.name = str(plugin.attribute("name", None) or plugin.kind.partition(":")[2])
        self.fingerprint = plugin.fingerprint

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        with self.plugin.blamed("asked to learn"):
            model = self.plugin.made.learn(synthetic, real, seed)
        return self._model(model, Training(synthetic, real, seed))

    def learn_many(self, trainings: Sequence[Training]) -> Iterator[Model]:
        many = self.plugin.attribute("learn_many", None)
        if many is None:
            for t in trainings:
                yield self.learn(t.synthetic, t.real, t.seed)
            return
        with self.plugin.blamed("asked for several trainings"):
            models = iter(many(trainings))
        for done, training in enumerate(trainings):
            with self.plugin.blamed("asked for several trainings"):
                model = next(models, None)
            if model is None:
                raise FigmentError(
                    f"The plug-in {self.plugin.kind} gave {done:,} models for {len(trainings):,} trainings. Wanted: learn_many gives"
                    " a model for each, in order."
                )
            yield self._model(model, training)

    def untrained(self) -> Model | None:
        untrained = self.plugin.attribute("untrained", None)
        if untrained is None:
            return None
        with self.plugin.blamed("asked for its untrained model"):
            model = untrained()
        return None if model is None else self._model(model, Training())

    def _model(self, model: Any, training: Training) -> PluginModel:
        seen = [
            [list(i.digests), i.labels.tolist()] if i is not None else None for i in (training.synthetic, training.real)
        ]
        own = store.fingerprint([self.fingerprint, seen, training.seed])
        return PluginModel(self.plugin, model, self.n_classes, own)
