"""Each class in the backgrounds and poses of all real images, whichever class they are of: BOB's prompts (Yang et al., CVPR 2026).

A generator that was fine-tuned on few images of a class ties the class to where they were taken. Asked for each class in the context of
any image, as often as it occurs, it shows the class alone: the context is summed out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment import records
from figment.errors import FigmentError
from figment.images_in.contexts import in_context
from figment.prompts.ids import prompt_id
from figment.prompts.words import fill
from figment.task import Task
from figment.types import Prompt


class Contexts:
    """``n`` prompts a class, each in the context of another image, drawn from those of all classes.

    Args:
        contexts: of the images, one each; the background and the pose of one image stay together.
        template: with ``{}`` for the class name; None = the task's first.
        exactly: raise FigmentError where there are fewer contexts than ``n``; else write one prompt for each of them.
    """

    def __init__(self, contexts: Sequence[str], template: str | None = None, exactly: bool = True):
        self.contexts, self.template, self.exactly = list(contexts), template, exactly

    @property
    def fingerprint(self) -> str:
        """Of the contexts."""
        return records.fingerprint(self.contexts)

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        if self.exactly and n > len(self.contexts):
            raise FigmentError(
                f"prompts.per_class is {n:,}, and there are {len(self.contexts):,} images whose contexts can be drawn. Set"
                f" prompts.per_class to {len(self.contexts)} or less: several images are then made of each prompt."
            )
        prompts = []
        for label, name in enumerate(task.class_names):
            sentence = fill(self.template or task.templates[0], name)
            for i, j in enumerate(rng.permutation(len(self.contexts))[:n]):
                id = prompt_id(label, name, i)
                prompts.append(Prompt(id, in_context(sentence, self.contexts[j]), label, id, f"context {j}"))
        return prompts
