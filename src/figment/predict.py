"""What a run's model says of images of the user's own."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figment import claims, files
from figment.errors import FigmentError
from figment.exports.folder import whole_file
from figment.images_in.folder import SUFFIXES, FileImages, images_below
from figment.images_in.unreadable import Unreadable
from figment.progress import progress
from figment.trained import open_trained, softmax
from figment.words import storable

FORMATS = (".csv", ".jsonl")
MAGIC = "*?["


@dataclass(frozen=True)
class Prediction:
    """Of one image: ``probabilities`` float32 (N,), or None and the reason why it cannot be read."""

    image: str
    probabilities: np.ndarray | None
    error: str = ""


class Predictor:
    """The model of a run. ``class_names`` are in the order of the probabilities.

    ``device`` is "auto" or torch's name of one. Raises FigmentError as `figment.trained.open_trained` does.
    """

    def __init__(self, run: Path | str, device: str = "auto") -> None:
        self.saved = open_trained(run, device).saved
        self.class_names = list(self.saved.class_names)

    def __call__(self, paths: Sequence[Path], batch_size: int = 64) -> Iterator[Prediction]:
        """Of each image in order. One that cannot be read gets its reason, and stops nothing."""
        names = [storable(str(path)) for path in paths]
        # As one set, as test images are read: what is white in images of 16 bits is a matter of all of them.
        images = FileImages(list(paths), np.zeros(len(paths), np.int64), names)
        with progress("predict", len(paths)) as advance:
            for start in range(0, len(paths), batch_size):
                some = range(start, min(start + batch_size, len(paths)))
                yield from self._batch(images, some)
                advance(len(some))

    def _batch(self, images: FileImages, some: range) -> list[Prediction]:
        decoded: dict[int, np.ndarray] = {}
        errors: dict[int, str] = {}
        for i in some:
            try:
                (decoded[i],) = images.load([i])
            except Unreadable as error:
                errors[i] = error.reason
        found: dict[int, np.ndarray] = {}
        if decoded:
            found = dict(
                zip(decoded, softmax(self.saved.logits(list(decoded.values()))).astype(np.float32), strict=True)
            )
        return [Prediction(images.ids[i], found.get(i), errors.get(i, "")) for i in some]


def images_of(places: Iterable[str]) -> list[Path]:
    """The image files behind names of files, folders (all images below) and patterns such as ``photos/*.jpg``, each once.

    A file that is named counts whatever it is called. Raises FigmentError, before any is opened, for a place that is not there, and
    for a folder or a pattern without images.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for path in _images_at(place):
            # not Path.resolve, which raises for a link to itself: reading it says what is wrong
            found.setdefault(path if files.is_remote(path) else Path(os.path.realpath(path)), path)
    return list(found.values())


def _images_at(place: str) -> list[Path]:
    path = files.as_path(place)
    if path.is_dir():
        return images_below(path)
    if path.exists() or path.is_symlink():
        return [path]
    if not any(c in place for c in MAGIC):
        raise FigmentError(
            f"There is no image or folder {place}. Name files, folders, or patterns in quotes, such as 'photos/*.jpg'."
        )
    matches = sorted(Path(p) for p in glob.glob(str(Path(place).expanduser()), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    images = [p for p in matches if p.suffix.lower() in SUFFIXES and not p.is_dir()]
    if not images:
        raise FigmentError(f"The pattern {place} matches no image. Allowed file names end in {', '.join(SUFFIXES)}.")
    return images


@contextmanager
def writing(path: Path, class_names: Sequence[str], top_k: int, all_of_them: bool) -> Iterator[Any]:
    """A function that takes a prediction and writes it: to CSV or to JSON lines, by the file's name, which it gets when it is whole.

    Raises FigmentError for another name, and where there is a file already.
    """
    suffix, top_k = path.suffix.lower(), min(top_k, len(class_names))
    if suffix not in FORMATS:
        raise FigmentError(
            f"Predictions are written as CSV or JSON lines, by the file's name; {path} ends in neither .csv nor .jsonl."
        )
    claims.check_outside(path)
    with files.explained(path):
        if path.exists() or path.is_symlink():
            raise FigmentError(f"{path} exists already and is left as it is. Choose another name with --out.")
    with whole_file(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
        if suffix == ".csv":
            writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(_headings(class_names, top_k, all_of_them))
            yield lambda one: writer.writerow(_cells(one, class_names, top_k, all_of_them))
        else:
            yield lambda one: text.write(
                json.dumps(_record(one, class_names, top_k, all_of_them), ensure_ascii=False) + "\n"
            )
        text.detach()


def best(one: Prediction, class_names: Sequence[str], k: int) -> list[tuple[str, float]]:
    """The likeliest classes and their probabilities, the first first."""
    if one.probabilities is None:
        return []
    order = np.argsort(-one.probabilities, kind="stable")[:k]
    return [(class_names[i], float(one.probabilities[i])) for i in order]


def _headings(class_names: Sequence[str], top_k: int, all_of_them: bool) -> list[str]:
    ranks = ["", *(f"_{k}" for k in range(2, top_k + 1))]
    pairs = [f"{what}{rank}" for rank in ranks for what in ("class", "probability")]
    return ["image", *pairs, *([f"p({name})" for name in class_names] if all_of_them else []), "error"]


def _cells(one: Prediction, class_names: Sequence[str], top_k: int, all_of_them: bool) -> list[Any]:
    pairs: list[Any] = [value for pair in best(one, class_names, top_k) for value in pair]
    pairs += [""] * (2 * top_k - len(pairs))
    every: list[Any] = []
    if all_of_them:
        every = [""] * len(class_names) if one.probabilities is None else one.probabilities.tolist()
    return [one.image, *pairs, *every, one.error]


def _record(one: Prediction, class_names: Sequence[str], top_k: int, all_of_them: bool) -> dict[str, Any]:
    if one.probabilities is None:
        return {"image": one.image, "error": one.error}
    top = [{"class": name, "probability": p} for name, p in best(one, class_names, top_k)]
    every = dict(zip(class_names, one.probabilities.tolist(), strict=True))
    return {"image": one.image, "top": top, **({"probabilities": every} if all_of_them else {})}
