"""Names of recipe fields in version 0.1, read for one version: each use says what replaced it."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

#: Field -> its name now. A path is read after the names before it are renewed.
FIELDS = {
    "generate.adapt": "generate.finetune",
    "train.live": "train.unfrozen",
    "train.unfrozen.share": "train.unfrozen.trainable_fraction",
    "evaluate.fidelity": "evaluate.measures",
}
#: Field (by its name now) -> value then -> value now.
VALUES: dict[str, dict[Any, Any]] = {
    "train.unfrozen.batch_norm": {"frozen": "eval", "live": "train"},
    "evaluate.measures": {True: ["recognisability", "frechet"], False: []},
    "table.metric": {"recognised": "recognisability"},
    "metric": {"recognised": "recognisability"},  # of a row or a column
}


def renewed(recipe: Any) -> Any:
    """Plain data of a recipe with today's names; what is no recipe at all comes back as it is."""
    if not isinstance(recipe, dict):
        return recipe
    try:
        recipe = {name: _value(str(name), value) for name, value in recipe.items()}
    except RecursionError:  # it holds itself, or is too deep; whoever validates it says so
        return recipe
    if isinstance(arms := recipe.get("arms"), dict):
        recipe["arms"] = _each(arms)
    if isinstance(table := recipe.get("table"), dict):
        recipe["table"] = {
            k: _each(v) if k in ("rows", "columns") and isinstance(v, dict) else v for k, v in table.items()
        }
    return recipe


def renewed_changes(changes: dict[Any, Any]) -> dict[Any, Any]:
    """Dotted fields and their values, as ``--set``, arms and rows have them, with today's names."""
    return dict(_field(field, value) for field, value in changes.items())


def _each(named: dict[Any, Any]) -> dict[Any, Any]:
    return {name: renewed_changes(own) if isinstance(own, dict) else own for name, own in named.items()}


def _field(field: Any, value: Any) -> tuple[Any, Any]:
    """One dotted field and its value."""
    now = ""
    for name in str(field).split("."):
        now = _renamed(f"{now}.{name}" if now else name)
    return (now if now != field else field), _value(now, value)


def _value(field: str, value: Any) -> Any:
    """What a field holds, with the names inside of it renewed. Where both names are given, today's wins."""
    if isinstance(value, dict):
        own: dict[Any, Any] = {}
        for name, inner in value.items():
            path = f"{field}.{name}"
            now = _renamed(path, said=inner not in (None, False))  # a resolved recipe has them all
            key = name if now == path else now.rpartition(".")[2]
            if key == name and key in own and inner in (None, []):
                continue
            if key == name or value.get(key) in (None, []):
                own[key] = _value(now, inner)
        return own
    known = VALUES.get(field, {})
    if isinstance(value, str | bool) and value in known:
        if field != "evaluate.measures":  # whose name was another, which has been said
            logger.warning("%s: %s is now %s; the old name is read for one version.", field, value, known[value])
        return known[value]
    return value


def _renamed(path: str, said: bool = True) -> str:
    now = FIELDS.get(path)
    if now is None:
        return path
    if said:
        logger.warning("%s is now %s; the old name is read for one version.", path, now)
    return now
