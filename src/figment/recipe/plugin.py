"""Your own object in a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue

from figment.task import Strict

PLUGIN = "package.module:Name"  # how messages name the kind of a plug-in


class Plugin(Strict):
    """Your own object: ``kind: package.module:Name``, called with ``options``."""

    kind: str = Field(pattern=r"^[\w.]+:\w+$")
    options: dict[str, JsonValue] = {}


def kind_of(value: Any) -> str:
    """What a union is told apart by."""
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return PLUGIN if isinstance(kind, str) and ":" in kind else str(kind)
