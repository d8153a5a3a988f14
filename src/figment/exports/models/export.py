"""The model of one run to one folder, in one format: written, opened again by its own library, compared, and only then kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from figment import claims, files, records
from figment.errors import FigmentError
from figment.exports import hub
from figment.exports.folder import fill_folder
from figment.exports.found import found
from figment.images_in.shards import open_run_images
from figment.trained import open_trained, softmax

if TYPE_CHECKING:  # torch takes seconds to import
    from figment.learners.saved import Portable, Saved
    from figment.trained import Trained

VERSION = 1  # of what is written: raise it where an earlier export is to be made again
CHECKED = 100  # images
MOST = 1e-3  # that a probability may differ by
MOST_ODDS = 1e-2  # that the logarithm of a probability may differ by, as a share of it
LEAST = 1e-30  # probabilities below are all one: float32 has no digits for them
#: And where the same pixels agree so, but another library's resize gave other ones: by a level of 255 here and there.
MOST_RESIZED = 0.05

#: ``classify(folder, images)``: PIL images to probabilities, float32 (n, N), by somebody else's library. The card shows its source.
Classify = Callable[[str, Sequence[Image.Image]], np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """On how many images what was exported was compared, and the largest differences of a probability: of the same pixels, and with
    images resized as the card shows it."""

    images: int
    same_pixels: float
    resized: float


@dataclass(frozen=True)
class ExportedModel:
    """``written`` is False where all of it was there already."""

    where: str
    class_names: Sequence[str]
    agreement: Agreement
    written: bool


def formats() -> dict[str, Callable[[Path, Portable], Classify]]:
    """Name -> ``write(out, portable)``, of every file in this folder that defines one."""
    return found("figment.exports.models")


def export_model(
    folder: Path | str, to: str, out: Path | str | None = None, *, push: str | None = None, public: bool = False
) -> ExportedModel:
    """Write what a run trained into ``out``, which is new or empty, in the format ``to``: one of :func:`formats`. Or ``push`` it to the
    Hub, card and all, as the new model ``owner/name``, private unless ``public``.

    What is written is opened by the library that it is for, and its probabilities are compared with figment's own on 100 of the run's
    images. Raises FigmentError where they differ by more than 1e-3, and then writes nothing; where the format cannot hold such a
    model; where ``out`` holds anything else; and where the Hub cannot be reached, holds such a model, or there is no token for it.
    """
    from figment.encoders.clip import no_bars
    from figment.exports.models.card import card, facts

    hub.check_place(out, push, public)
    if out is not None:
        claims.check_outside(files.as_path(out))
    trained = open_trained(folder, "cpu", "float32")
    images = _images(trained)
    told = facts(trained)
    own = {name: file.plain() for name, file in trained.told.files.items()}
    of_model = {
        **told,
        "backbone": {**told["backbone"], "judged": []} if told["backbone"] else None,
    }  # judging makes no other model
    identity = {"format": to, "fingerprint": records.fingerprint(["model", VERSION, own, of_model])}
    made_for = f"{to}-{identity['fingerprint']}"
    place = files.as_path(str(out)) if push is None else hub.ready(files.as_path(folder), push, made_for)
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        portable = trained.saved.elsewhere()
        classify = formats()[to](made, portable)
        with no_bars():
            agreement = compare(trained.saved, portable, lambda some: classify(temporary, some), images)
        files.write_atomic(made / "README.md", card(to, told, portable.class_names, agreement, classify))
        written = fill_folder(place, identity, lambda _: _copy(made, place))
    if push is None:
        return ExportedModel(str(out), portable.class_names, agreement, written)
    where = hub.upload(place, push, "model", public=public)
    return ExportedModel(where, portable.class_names, agreement, True)


def compare(
    saved: Saved,
    portable: Portable,
    classify: Callable[[Sequence[Image.Image]], np.ndarray],
    images: Sequence[np.ndarray],
) -> Agreement:
    """How far two classifiers of the same weights are apart. Raises FigmentError where that is too far."""
    same = resized = _apart(saved, classify, images)
    preparation = portable.tower.preparation
    if not same.is_close and preparation is not None and preparation.resize == preparation.crop:
        # transformers resizes by torchvision, which rounds a pixel in two hundred otherwise than Pillow. What needs no resizing tells
        # whether it was that.
        same = _apart(saved, classify, _cut(images, preparation.crop))
    if not (same.is_close and resized.probability <= MOST_RESIZED):
        raise FigmentError(
            f"What was exported does not predict as figment does: on {len(images)} images a probability differs by up to"
            f" {max(same.probability, resized.probability):.2g} (allowed: {MOST:g}), and its logarithm by {max(same.odds, resized.odds):.2g}"
            f" of its size (allowed: {MOST_ODDS:g}). Nothing was written. Another format may do: --to safetensors."
        )
    return Agreement(len(images), same.probability, resized.probability)


@dataclass(frozen=True)
class _Apart:
    """The largest difference of a probability, and of its logarithm as a share of that: where a classifier is sure of itself, all of
    its probabilities are 0 or 1, and would be so if half of its weights were wrong."""

    probability: float
    odds: float

    @property
    def is_close(self) -> bool:
        return self.probability <= MOST and self.odds <= MOST_ODDS


def _apart(saved: Saved, classify: Callable[..., np.ndarray], images: Sequence[np.ndarray]) -> _Apart:
    own = softmax(saved.logits(images))
    theirs = classify([Image.fromarray(image) for image in images])
    if theirs.shape != own.shape or not np.isfinite(theirs).all():
        return _Apart(float("inf"), float("inf"))
    logs = [np.log(np.maximum(p, LEAST)) for p in (own, theirs)]
    odds = np.abs(logs[0] - logs[1]) / np.maximum(1, np.abs(logs[0]))
    return _Apart(float(np.abs(own - theirs).max()), float(odds.max()))


def _cut(images: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """Squares of the size that the network takes."""
    return [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]


def _images(trained: Trained) -> list[np.ndarray]:
    """Of the run, evenly spaced: generated ones, which are always there."""
    own = open_run_images(trained.run)
    return own.load(np.unique(np.linspace(0, len(own) - 1, CHECKED).astype(np.int64)))


def _copy(made: Path, out: Path) -> None:
    for path in sorted(made.iterdir()):
        files.write_atomic(out / path.name, files.read_bytes(path))


def head_of(portable: Portable) -> dict[str, Any]:
    """The tensors ``weight`` (N, D) and ``bias`` (N,) of a head, on features of unit length."""
    start = "head."
    return {name.removeprefix(start): value for name, value in portable.tensors().items() if name.startswith(start)}
