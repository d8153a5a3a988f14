"""Which formats there are: a file each, found by its place."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any


def found(package: str) -> dict[str, Any]:
    """Name -> ``write``, of every file in the folder of a package that defines one."""
    place = import_module(package)
    names = [file.name for file in pkgutil.iter_modules(place.__path__)]
    modules = {name: import_module(f"{package}.{name}") for name in names}
    return {name: module.write for name, module in modules.items() if hasattr(module, "write")}
