"""Robustness: a probe that was trained on one set, asked on others of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import FileImages
from figment.images_in.folder import ids_below, images_below, is_hidden
from figment.images_in.labels import listed, normalised
from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.probe import linear_probe
from figment.task import PathText


class Robustness(Evaluation):
    """The accuracy of a linear probe (features normalised) on a folder of class folders: all of the probe's classes, or some.

    With some of the classes, as ImageNet-A and ImageNet-R have them, the answer is one of these.
    """

    name: ClassVar[str] = "robustness"
    layout: ClassVar[str] = (
        "class folders named by WordNet id (A, R, Sketch), class name or number (V2), of all classes or some"
    )
    protocol: ClassVar[str] = (
        "a linear probe trained on `train`, tested here without any further learning; answers among the classes that are here"
    )
    paper: ClassVar[str] = "Recht et al. 2019 (V2); Hendrycks et al. 2021 (A, R); Wang et al. 2019 (Sketch)"

    train: PathText | None = Field(
        None, description="the task that the probe learns, as linear takes it, such as a recipe for ImageNet"
    )

    def measure(self, given: Given, where: str) -> Numbers:
        if self.train is None:
            raise FigmentError(
                "robustness asks a probe that was trained elsewhere, and nothing says where. Name its task: --set"
                " robustness.train=imagenet.yaml"
            )
        own = given.labelled(self.train)
        test = open_some_classes(as_path(where), own.class_names, own.own_names)
        device = given.backbone.device
        probe = linear_probe(given.features(own.train), own.train.labels, len(own.class_names), given.seed, device)
        here = np.unique(test.labels)
        answers = here[probe(given.features(test))[:, here].argmax(1)]
        values, ci = accuracies({"accuracy": answers}, test.labels)
        details = {"classes": len(here), "of": len(own.class_names), "learning_rate": probe.rate}
        return Numbers(values, len(test), ci, details)


def open_some_classes(folder: Path, class_names: Sequence[str], own_names: Sequence[str] = ()) -> FileImages:
    """A folder of class folders, of some of the task's classes: named by class name, the data set's own name, or position from 0.

    Numbers are positions where all folders are numbers and no class is called so. Raises FigmentError for a folder of no class.
    """
    if not folder.is_dir():
        raise FigmentError(f"There is no folder {folder}. Give one with a folder of images for each class.")
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_hidden([p.name]))
    known = {normalised(name): i for i, name in enumerate(class_names)} | {name: i for i, name in enumerate(own_names)}
    if (
        found
        and all(name.isascii() and name.isdecimal() for name in found)
        and not any(name in known for name in found)
    ):
        known = {name: int(name) for name in found if int(name) < len(class_names)}
    labels_of = {name: known.get(name, known.get(normalised(name), -1)) for name in found}
    if strange := [name for name, label in labels_of.items() if label < 0]:
        raise FigmentError(
            f"{folder} has folders of classes that the probe does not know: {listed(strange)}. They are called as the classes of its"
            f" task, by task.own_names, or by position from 0 to {len(class_names) - 1}."
        )
    if not found:
        raise FigmentError(f"{folder} has no folders of classes. Give one with a folder of images for each class.")
    files = {name: images_below(folder / name) for name in found}
    paths = [path for own in files.values() for path in own]
    labels = [labels_of[name] for name, own in files.items() for _ in own]
    return FileImages(paths, np.array(labels, np.int64), ids_below(folder, paths))
