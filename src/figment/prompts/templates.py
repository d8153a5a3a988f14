"""The basic strategy: template and class name, nothing else (He et al. 2023, "B")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment.prompts.ids import prompt_id
from figment.task import Task
from figment.types import Prompt


class Templates:
    """One prompt for each class and template, so ``n`` above the number of templates changes nothing.

    ``templates`` defaults to the task's own.
    """

    def __init__(self, templates: Sequence[str] | None = None):
        self.templates = templates

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        templates = list(self.templates or task.templates)[:n]
        prompts = []
        for label, name in enumerate(task.class_names):
            for i, template in enumerate(templates):
                id = prompt_id(label, name, i)
                prompts.append(Prompt(id, template.replace("{}", name), label, id, f"template {i}"))
        return prompts
