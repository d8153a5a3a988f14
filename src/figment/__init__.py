"""Can generated images stand in for the photographs you do not have, and how do you make them help?

The public names are the imports of ``__init__.pyi``: type checkers read it, and names are loaded from where it says when they
are first used, so that ``import figment`` stays light.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any


def _public() -> dict[str, str]:
    """Name -> its module, from the stub."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_WHERE = _public()
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from figment._old_names import NAMES, old_name

        if name in NAMES:
            return old_name(name, _WHERE)
        raise AttributeError(f"module 'figment' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
