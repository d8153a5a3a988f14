"""A recipe is data until its owner says otherwise: which plug-ins may be imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from figment import plain_yaml
from figment.errors import FigmentError

VARIABLE = "FIGMENT_ALLOW_PLUGINS"
FIELD = "allow_plugins"


def check(kinds: Iterable[str], allowed: bool) -> None:
    """Raise FigmentError, which says what would be imported from where, unless somebody has allowed all of these plug-ins.

    That is whoever calls (``allowed``), ``FIGMENT_ALLOW_PLUGINS=1``, or for each of them the user's own config file. Nothing is
    imported to find that out.
    """
    if allowed or os.environ.get(VARIABLE) == "1":
        return
    kinds = list(dict.fromkeys(kinds))
    if not kinds:
        return
    known = _listed()
    refused = [kind for kind in kinds if kind not in known]
    if not refused:
        return
    code = "; ".join(f"{kind[:200]} from {_where(kind)}" for kind in refused)
    raise FigmentError(
        f"The recipe names code to be run: {code}. A recipe is data, which may have come from anybody, so nothing of it was"
        f" imported. If you know this code and want it run, say so: --{FIELD.replace('_', '-')}, from Python {FIELD}=True, or"
        f" {VARIABLE}=1 in the environment; for good, in {config_file()}: {FIELD}: [{', '.join(kind[:200] for kind in refused)}]"
    )


def config_file() -> Path:
    """The user's own; ``XDG_CONFIG_HOME`` says where, as for other programs."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME") or "/", ".config")
    return Path(folder) / "figment" / "config.yaml"


def _listed() -> set[str]:
    """The plug-ins that the user's config file allows. Raises FigmentError for a file that is no such thing."""
    path = config_file()
    try:
        data = plain_yaml.read(path)
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise FigmentError(f"Your config file {path} cannot be read: {error}.") from error
    own = (data or {}).get(FIELD, []) if isinstance(data or {}, dict) else None
    if not isinstance(own, list) or not all(isinstance(kind, str) for kind in own) or (data or {}).keys() - {FIELD}:
        raise FigmentError(
            f"Your config file {path} holds one field, a list of plug-ins, such as {FIELD}: [my_package.my_module:MyFilter]."
        )
    return set(own)


def _where(kind: str) -> str:
    """The files that importing a plug-in would run, its packages' first."""
    files = modules(kind.partition(":")[0])
    return " and ".join(files) if files else "a module that is not found here"


def modules(name: str) -> list[str]:
    """The files of a module and of the packages around it, outermost first, found without importing any; [] where there is none."""
    files: list[str] = []
    parts, places = name.split("."), None
    if not all(parts):  # such as ".relative", which finders may stumble over
        return []
    for i in range(len(parts)):
        own = ".".join(parts[: i + 1])
        specs = (finder.find_spec(own, places) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return []
        if spec.has_location and spec.origin:
            files.append(spec.origin)
        elif spec.origin:  # "built-in", "frozen"
            files.append(f"Python itself ({own})")
        places = spec.submodule_search_locations
        if places is None and i + 1 < len(parts):  # such as os.path, which is no module of a package
            return files
    return files
