"""A filter of a user's own."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from figment.plugins.load import Plugin, items
from figment.types import Images, Verdict


class PluginFilter:
    """A filter of a user's own. Its verdicts are checked."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a filter, which is called with images and returns a Verdict for each")
        self.name = plugin.attribute("name", None) or plugin.kind.partition(":")[2]
        if not isinstance(self.name, str) or not self.name.replace("-", "").replace("_", "").isalnum():
            plugin.refuse("has as its name", self.name, "letters, digits, - and _; a folder is called by it")
        self.fingerprint = plugin.fingerprint

    def __call__(self, images: Images) -> list[Verdict]:
        with self.plugin.blamed("called with images"):
            result = self.plugin.made(images)
        wanted = "a list with a figment.Verdict(keep, reason, scores) for each image"
        verdicts = items(self.plugin, result, len(images), "verdict", wanted)
        return [self._checked(v, f"the image {id!r}") for v, id in zip(verdicts, images.ids, strict=True)]

    def _checked(self, verdict: Any, of: str) -> Verdict:
        refuse = self.plugin.refuse
        if not isinstance(verdict, Verdict):
            refuse(f"returned for {of}", verdict, "a figment.Verdict(keep, reason, scores) for each image")
        if not isinstance(verdict.keep, bool | np.bool_):
            refuse(f"gave a Verdict for {of} whose keep is", verdict.keep, "True or False")
        if not isinstance(verdict.reason, str) or not (verdict.keep or verdict.reason):
            refuse(f"rejected {of} with the reason", verdict.reason, "a short phrase that says why")
        for name, score in verdict.scores.items():
            if not isinstance(score, Real) or not isfinite(score):
                refuse(f"gave {of} a score {name!r} of", score, "a finite number")
        return Verdict(bool(verdict.keep), verdict.reason, {str(k): float(v) for k, v in verdict.scores.items()})
