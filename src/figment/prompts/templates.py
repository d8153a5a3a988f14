"""The basic strategy: template and class name, nothing else (He et al. 2023, "B")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from figment.prompts.ids import prompt_id
from figment.prompts.words import fill
from figment.task import Task
from figment.types import Prompt


class Templates:
    """One prompt for each class and template, so ``n`` above the number of templates changes nothing.

    ``templates`` defaults to the task's own. ``articles``: "fitting" writes an article before ``{}`` as the name wants it, "exact" leaves
    each template to the letter, as published code does: "a photo of a apple".
    """

    def __init__(self, templates: Sequence[str] | None = None, articles: Literal["fitting", "exact"] = "fitting"):
        self.templates = templates
        self.fill = fill if articles == "fitting" else _to_the_letter

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        templates = list(self.templates or task.templates)[:n]
        prompts = []
        for label, name in enumerate(task.class_names):
            for i, template in enumerate(templates):
                id = prompt_id(label, name, i)
                prompts.append(Prompt(id, self.fill(template, name), label, id, f"template {i}"))
        return prompts


def _to_the_letter(template: str, name: str) -> str:
    return template.replace("{}", name)
