"""A writer of prompts of a user's own."""

from __future__ import annotations

import inspect
from numbers import Integral
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.plugins.load import Plugin, items
from figment.prompts.check import check_prompts
from figment.types import Prompt


class PluginWriter:
    """A writer of prompts of a user's own. Its prompts are checked."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a writer, which is called as writer(task, n, rng) and returns prompts")
        self.fingerprint = plugin.fingerprint

    def __call__(self, task: Any, n: int, rng: np.random.Generator) -> list[Prompt]:
        with self.plugin.blamed("called for prompts"):
            result = self.plugin.made(task, n, rng)
            result = list(result) if inspect.isgenerator(result) else result
        wanted = "a list of figment.Prompt(id, text, label, group)"
        prompts = items(self.plugin, result, None, "prompt", wanted)
        if not prompts:
            raise FigmentError(f"The plug-in {self.plugin.kind} returned no prompt. Wanted: {wanted}, one or more.")
        for prompt in prompts:
            if not isinstance(prompt, Prompt):
                self.plugin.refuse("returned among its prompts", prompt, wanted)
            for name, kind in (("id", str), ("text", str), ("group", str), ("label", Integral)):
                if not isinstance(getattr(prompt, name), kind) or isinstance(getattr(prompt, name), bool):
                    what = "a text" if kind is str else "the position of the class in task.class_names"
                    self.plugin.refuse(f"returned a Prompt whose {name} is", getattr(prompt, name), what)
        try:
            check_prompts(prompts, task.class_names)
        except FigmentError as error:
            raise FigmentError(f"The plug-in {self.plugin.kind} wrote prompts that do not hold. {error}") from error
        without = [name for label, name in enumerate(task.class_names) if label not in {p.label for p in prompts}]
        if without:
            raise FigmentError(
                f"The plug-in {self.plugin.kind} returned no prompt for {len(without)} of {len(task.class_names)} classes:"
                f" {', '.join(name[:40] for name in without[:5])}. Wanted: one or more for each class."
            )
        return prompts
