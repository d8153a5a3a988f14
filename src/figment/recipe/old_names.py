"""Names of recipe fields in version 0.1, read for one version: each use says what replaced it."""

from __future__ import annotations

import logging
from typing import Any

from figment.recipe.train import ClipHeadSettings, WordsAndImagesSettings

logger = logging.getLogger(__name__)

#: Field -> its name now. A path is read after the names before it are renewed.
FIELDS = {
    "generate.adapt": "generate.finetune",
    "train.live": "train.unfrozen",
    "train.unfrozen.share": "train.unfrozen.trainable_fraction",
    "evaluate.fidelity": "evaluate.measures",
}
#: The same, of what went from a part to the recipe itself.
MOVED = {"train.track": "track", "train.pretrain.track": "track"}
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
        recipe = _moved({name: _value(str(name), value) for name, value in recipe.items()})
    except RecursionError:  # it holds itself, or is too deep; whoever validates it says so
        return recipe
    if isinstance(arms := recipe.get("arms"), dict):
        recipe["arms"] = _each(arms)
    if isinstance(table := recipe.get("table"), dict):
        recipe["table"] = {
            k: _each(v) if k in ("rows", "columns") and isinstance(v, dict) else v for k, v in table.items()
        }
    return _with_kind(recipe)


def _with_kind(recipe: dict[Any, Any]) -> dict[Any, Any]:
    """Version 0.1 had one kind of learner, and recipes did not name it: one that says how it is tuned means that one."""
    train = recipe.get("train", {})
    if not isinstance(train, dict) or "kind" in train:
        return recipe
    table = recipe.get("table")
    of_table = [table.get("rows"), table.get("columns")] if isinstance(table, dict) else []
    groups = [recipe.get("arms"), *of_table]
    changes = [c for group in groups if isinstance(group, dict) for c in group.values() if isinstance(c, dict)]
    named = {str(name) for name in train} | {
        str(f).removeprefix("train.") for c in changes for f in c if str(f).startswith("train.")
    }
    told = sorted(named & (ClipHeadSettings.model_fields.keys() - WordsAndImagesSettings.model_fields.keys()))
    if not told or any("train.kind" in c for c in changes):
        return recipe
    logger.warning("train.%s is of the CLIP head, which a recipe names now: write train: {kind: clip_head}.", told[0])
    return {**recipe, "train": {"kind": "clip_head", **train}}


def renewed_changes(changes: dict[Any, Any]) -> dict[Any, Any]:
    """Dotted fields and their values, as ``--set``, arms and rows have them, with today's names."""
    return _moved(dict(_field(field, value) for field, value in changes.items()))


def _moved(renewed: dict[Any, Any]) -> dict[Any, Any]:
    """Where both places say something, today's wins."""
    train = renewed.get("train")
    if isinstance(train, dict) and ":" in str(train.get("kind", "")):  # a plug-in's fields are its own
        return renewed
    for field, now in MOVED.items():
        value = _taken(renewed, field)
        if value is not None:  # a resolved recipe has them all
            logger.warning("%s is now %s; the old name is read for one version.", field, now)
            renewed.setdefault(now, value)
    return renewed


def _taken(part: dict[Any, Any], field: str) -> Any:
    """Take a field out of a part of a recipe, however much of its path is one dotted name; None where it is not there."""
    for name, inner in part.items():
        if name == field:
            return part.pop(name)
        if (
            isinstance(inner, dict)
            and field.startswith(f"{name}.")
            and (found := _taken(inner, field[len(name) + 1 :]))
        ):
            return found
    return None


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
