"""A plug-in by its name: imported, called with its options, and held together with who is to blame for what it does."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figment import records
from figment.errors import FigmentError, nearest
from figment.plugins import permission
from figment.plugins.blame import failure, file_of, shown


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
            source = file_of(self.kind)
            code = Path(source).read_bytes() if source and Path(source).is_file() else b""
            return records.fingerprint([self.kind, records.digest(code), dict(self.options)])
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


def items(plugin: Plugin, result: Any, n: int | None, each: str, wanted: str) -> list[Any]:
    """A result that holds ``n`` of something, as a list."""
    if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__"):
        plugin.refuse("returned", result, wanted)
    if n is not None and len(result) != n:
        raise FigmentError(f"The plug-in {plugin.kind} returned {len(result):,} {each}s for {n:,}. Wanted: {wanted}.")
    return list(result)


def load(kind: str, options: Mapping[str, Any], given: Any) -> Plugin:
    """The object behind ``kind``. Raises FigmentError where it may not be imported, cannot be, or cannot be made.

    This is the one place where code is imported because a recipe names it.
    """
    permission.check(given.recipe.plugins, given.allow_plugins)  # of all of them: whoever allows one sees the others
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
            f"The plug-in {kind} cannot be loaded: {file_of(kind) or module_name} holds {what}.{nearest(name, there)}"
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
