"""The prompts of images that are there already: a prompt for each, of which it is the only image."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from figment import records
from figment.images_in.said_of import texts_beside
from figment.prompts.ids import prompt_id
from figment.prompts.words import fill
from figment.task import Task
from figment.types import Images, Prompt
from figment.words import comparable


class OfImages:
    """One prompt for each image, whose number is the image's place among them: :class:`figment.generate.folder.FolderGenerator` goes by
    that. Each class comes in an order of its own, at random, so that its first images are a fair choice.

    The words are those that the set has beside the image, else the task's first template; images of one class and the same words are of
    one group.
    """

    def __init__(self, images: Images):
        self.images = images

    @cached_property
    def texts(self) -> list[str]:
        return texts_beside(self.images)

    @property
    def fingerprint(self) -> str:
        """Of names, classes and words; what the images show, the generator knows."""
        return records.fingerprint([list(self.images.ids), self.images.labels.tolist(), self.texts])

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        prompts, first = [], dict[tuple[int, str], str]()
        for label, name in enumerate(task.class_names):
            for place in rng.permutation(np.flatnonzero(self.images.labels == label)).tolist():
                id, said = prompt_id(label, name, place), " ".join(self.texts[place].split())
                group = first.setdefault((label, comparable(said)), id) if said else id
                text, source = said or fill(task.templates[0], name), f"image {self.images.ids[place]}"
                prompts.append(Prompt(id, text, label, group, source))
        return prompts
