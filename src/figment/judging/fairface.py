"""FairFace: how evenly a backbone serves the groups of people it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from figment.encoders import class_prototypes
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import FileImages
from figment.images_in.table import read_csv
from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.probe import linear_probe
from figment.words import storable

TABLES = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
IMAGES = ("", "fairface-img-margin025-trainval", "fairface-img-margin125-trainval")  # as its two archives are called
COLUMNS = ("file", "age", "gender", "race")
GENDERS = {"Male": "man", "Female": "woman"}


class FairFace(Evaluation):
    """Race and gender together, fourteen classes: the accuracy over all images, and that of the best and the worst class.

    By their words where the backbone reads, else by a linear probe on the training images.
    """

    name: ClassVar[str] = "fairface"
    layout: ClassVar[str] = "fairface_label_train.csv and _val.csv (file, age, gender, race) beside train/ and val/"
    protocol: ClassVar[str] = (
        "race and gender, 14 classes: zero-shot where the backbone reads, else a linear probe; best and worst class"
    )
    paper: ClassVar[str] = "Kärkkäinen and Joo 2021, 1908.04913; StableRep, 2306.00984, Table 7"

    by: Literal["auto", "words", "probe"] = Field("auto", description="how images are classified")
    template: str = Field("a photo of a {}.", description="the sentence of a class, where words classify")

    def measure(self, given: Given, where: str) -> Numbers:
        folder = as_path(where)
        test, test_groups = _read(folder, "val")
        names = sorted(set(test_groups))
        labels = np.array([names.index(group) for group in test_groups], np.int64)
        by_words = given.backbone.reads if self.by == "auto" else self.by == "words"
        if by_words:
            said = [f"{race.replace('_', ' ').lower()} {GENDERS[gender]}" for race, gender in names]
            seen = given.beside_words(test)
            answers = (seen @ class_prototypes(given.backbone.words(), said, [self.template]).T).argmax(1)
        else:
            train, groups = _read(folder, "train")
            if strange := sorted(set(names) - set(groups)):
                raise FigmentError(
                    f"{folder / TABLES['train']} has no images of {' '.join(strange[0])}, and the test images have some."
                )
            own = np.array([names.index(group) if group in names else -1 for group in groups], np.int64)
            known = np.flatnonzero(own >= 0)
            x, features = given.features(train.take(known)), given.features(test)
            answers = linear_probe(x, own[known], len(names), given.seed, given.backbone.device)(features).argmax(1)
        values, ci = accuracies({"accuracy": answers}, labels, "mean of classes")
        of_class = {" ".join(name): float((answers == labels)[labels == c].mean()) for c, name in enumerate(names)}
        values |= {"best class": max(of_class.values()), "worst class": min(of_class.values())}
        return Numbers(values, len(test), ci, {"by": "words" if by_words else "probe", "of_class": of_class})


def _read(folder: Path, split: str) -> tuple[FileImages, list[tuple[str, str]]]:
    """The images of a table, and race and gender of each. Raises FigmentError where it is not FairFace's."""
    table = folder / TABLES[split]
    if not table.is_file():
        raise FigmentError(
            f"{folder} is not laid out as FairFace is: there is no {TABLES[split]}. It holds {' and '.join(TABLES.values())} beside the"
            " folders train and val of the archive with the images."
        )
    rows = read_csv(table)
    if missing := [name for name in COLUMNS if not rows or name not in rows[0][1]]:
        raise FigmentError(
            f"{table} has no column {missing[0]!r}, or no lines. FairFace's tables have {', '.join(COLUMNS)}."
        )
    for line, row in rows:
        if row["gender"] not in GENDERS or not row["race"] or not row["file"] or storable(row["file"]) != row["file"]:
            raise FigmentError(
                f"{table}, line {line}: file, gender and race are {row['file']!r}, {row['gender']!r} and {row['race']!r}, and gender is one"
                f" of {', '.join(GENDERS)}."
            )
    return _images(folder, [row["file"] for _, row in rows]), [(row["race"], row["gender"]) for _, row in rows]


def _images(folder: Path, names: Sequence[str]) -> FileImages:
    root = next((folder / place for place in IMAGES if (folder / place / names[0]).is_file()), None)
    if root is None:
        raise FigmentError(
            f"The images of {folder} are not there: {names[0]} is neither below it nor below {IMAGES[1]} in it."
        )
    return FileImages(
        [root / name for name in names], np.zeros(len(names), np.int64), [storable(name) for name in names]
    )
