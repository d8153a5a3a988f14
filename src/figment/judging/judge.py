"""A backbone and data sets in; a few numbers of each evaluation out, beside all that was judged into the same folder before."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from figment import claims, plain_yaml
from figment.encoders import TimmEncoder
from figment.errors import FigmentError, nearest
from figment.files import lock
from figment.judging import record
from figment.judging.backbone import Backbone
from figment.judging.evaluation import Evaluation, Given, Numbers
from figment.judging.evaluations import EVALUATIONS

DEFAULT = ("linear", "knn")  # where a data set is named alone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """One evaluation on one data set, and the seconds it took."""

    evaluation: str
    on: str
    settings: Mapping[str, Any]
    numbers: Numbers
    seconds: float


def judge_backbone(
    backbone: Backbone, on: Sequence[str], out: Path, changes: Sequence[str] = (), seed: int = 0
) -> list[Judged]:
    """Judge a backbone by each evaluation that is asked for. ``out/judge.json`` and its page ``judge.html`` have each as soon as it is done.

    Args:
        backbone: see `figment.judging.backbone.open_backbone`.
        on: ``EVALUATION=WHERE`` each, ``EVALUATION,EVALUATION=WHERE``, or ``WHERE`` for a linear probe and nearest neighbours; the
            evaluations are `EVALUATIONS`, and each says how its data set is laid out.
        out: folder for the numbers, which are added to those that are there, of this backbone or of others: see `figment.judging.record`.
            It also keeps features and the state of trainings, so that what was interrupted goes on.
        changes: ``EVALUATION.FIELD=VALUE`` each: settings other than the published ones.
        seed: of all chance.

    Raises FigmentError for an evaluation or a setting that there is not, before anything is done, and for a data set that is not laid
    out as its evaluation reads it: what was judged before that is in the file, and so is what went wrong. A folder ``out`` that holds
    others' files under names of ours is refused, and so is one that another process judges into.
    """
    asked = [(name, where) for text in on for name, where in _asked(text)]
    if not asked:
        raise FigmentError(
            f"Say what to judge it on: --on photos, or --on EVALUATION=WHERE with one of {', '.join(EVALUATIONS)}."
        )
    settings = with_changes(changes, {name for name, _ in asked})
    judged: list[Judged] = []
    claims.check_outside(out)
    with claims.claimed(out, claims.JUDGED), lock(out):
        given = Given(backbone, out, seed)
        for name, where in asked:
            log.info("%s on %s", name, where, extra={"heading": True})
            told = _told(backbone, settings[name], where, seed)
            started = time.monotonic()
            try:
                numbers = settings[name].measure(given, where)
            except FigmentError as error:
                record.add(out, {**told, "failed": str(error)})
                raise
            one = Judged(name, where, told["settings"], numbers, time.monotonic() - started)
            record.add(out, {**told, "numbers": asdict(numbers), "seconds": one.seconds})
            judged.append(one)
    return judged


def with_changes(changes: Iterable[str], asked: set[str]) -> dict[str, Evaluation]:
    """Name -> evaluation, of those that are asked for, with these settings changed. Raises FigmentError."""
    given: dict[str, dict[str, Any]] = {name: {} for name in asked}
    for change in changes:
        place, equals, value = change.partition("=")
        name, dot, field = place.strip().partition(".")
        if not (equals and dot):
            raise FigmentError(
                f"--set takes EVALUATION.FIELD=VALUE, such as few_shot.ways=3; this is {change[:100]!r}."
            )
        if name not in asked:
            raise FigmentError(
                f"--set {change[:100]!r}: {name!r} is not among the evaluations that are asked for ({', '.join(sorted(asked))})."
            )
        given[name][field] = plain_yaml.parse(value, f"--set {change[:200]!r}: the value")
    return {name: _made(EVALUATIONS[name], fields) for name, fields in given.items()}


def _made(kind: type[Evaluation], fields: dict[str, Any]) -> Evaluation:
    if strange := next((field for field in fields if field not in kind.model_fields), None):
        has = f" It has: {', '.join(kind.model_fields)}." if kind.model_fields else " It has none."
        raise FigmentError(f"{kind.name} has no setting {strange[:60]!r}.{nearest(strange, kind.model_fields)}{has}")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join([kind.name, *map(str, first["loc"])])
        raise FigmentError(
            f"{what}: {first['msg'][:1].lower()}{first['msg'][1:]} (got {str(first['input'])[:60]!r})."
        ) from error


def _asked(text: str) -> list[tuple[str, str]]:
    """The evaluations of one ``--on``, and the place of its data set."""
    names, equals, where = text.partition("=")
    own = [name.strip() for name in names.split(",")]
    if not equals or not all(name.isidentifier() for name in own):  # an = in a path
        return [(name, text) for name in DEFAULT]
    if strange := next((name for name in own if name not in EVALUATIONS), None):
        raise FigmentError(
            f"There is no evaluation {strange[:60]!r}.{nearest(strange, EVALUATIONS)} There are: {', '.join(EVALUATIONS)}."
        )
    if not where:
        raise FigmentError(f"--on {text!r} names no data set after the =.")
    return [(name, where) for name in own]


def _told(backbone: Backbone, by: Evaluation, on: str, seed: int) -> dict[str, Any]:
    """Of which backbone a result is, and how it comes about. ``changed`` are the settings that are not as published."""
    own = {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "weights": backbone.encoder.digest
        if isinstance(backbone.encoder, TimmEncoder)
        else "",  # by which cards find it
        "features": backbone.n_features,
        "resize": backbone.encoder.resize,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "device": str(backbone.device),
    }
    settings = by.model_dump(mode="json")
    usual = {name: field.default for name, field in type(by).model_fields.items()}
    return {
        "backbone": own,
        "seed": seed,
        "evaluation": by.name,
        "on": on,
        "settings": settings,
        "changed": {name: settings[name] for name, value in usual.items() if getattr(by, name) != value},
        "protocol": by.protocol,
        "paper": by.paper,
    }
