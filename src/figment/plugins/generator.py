"""A generator of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.plugins.blame import failure
from figment.plugins.load import Plugin, items


class PluginRaised(Exception):
    """A plug-in's own exception, with its name and line. It fails the sample it was raised for, not the run."""

    def __str__(self) -> str:
        return str(self.args[0])


class PluginGenerator:
    """A generator of a user's own. Its images are checked; what else it has (``batch_size``, ``describe``...) is passed on."""

    def __init__(self, plugin: Plugin):
        self.plugin = plugin
        if not callable(plugin.made):
            plugin.refuse("made", plugin.made, "a generator, which is called with prompts and seeds and returns images")
        self.fingerprint = plugin.fingerprint

    def __getattr__(self, name: str) -> Any:
        if name == "plugin" or name.startswith("_"):  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.plugin.made, name)

    def size(self) -> tuple[int, int]:
        """Height and width that start images are cut to."""
        if not callable(getattr(self.plugin.made, "size", None)):
            raise FigmentError(
                f"The plug-in {self.plugin.kind} cannot start from real images: it has no size(), the height and width that they are"
                " cut to. Leave real guidance out, or give it one."
            )
        with self.plugin.blamed("asked for its size"):
            size = self.plugin.made.size()
        if not isinstance(size, tuple | list) or len(size) != 2 or not all(isinstance(s, Integral) for s in size):
            self.plugin.refuse("has as its size", size, "two whole numbers, the height and the width in pixels")
        return int(size[0]), int(size[1])

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], *args: Any, **more: Any) -> list[Any]:
        try:
            result = self.plugin.made(prompts, seeds, *args, **more)
        except FigmentError:
            raise
        except Exception as error:
            raise PluginRaised(failure(self.plugin.kind, error, "called for images", self.plugin.made)) from error
        wanted = "a list with a uint8 array (height, width, 3), RGB from 0 to 255, for each prompt"
        images = items(self.plugin, result, len(prompts), "image", wanted)
        for image in images:
            if image is not None:  # one that failed
                self._check(image)
        return images

    def _check(self, image: Any) -> None:
        hints = {
            "float": "Multiply by 255, round, and convert with .astype(np.uint8)",
            "grey": "Repeat it with np.repeat(image[..., None], 3, axis=2)",
            "alpha": "Drop the alpha channel with image[..., :3]",
            "PIL": 'Convert with np.asarray(image.convert("RGB"))',
        }
        wanted = "for each prompt a uint8 array (height, width, 3), RGB from 0 to 255"
        hint = ""
        if not isinstance(image, np.ndarray):
            hint = hints["PIL"] if type(image).__module__.startswith("PIL") else ""
        elif image.ndim == 3 and image.shape[2] == 3 and image.size and image.dtype == np.uint8:
            return
        elif image.ndim == 2 or image.shape[2:] == (1,):
            hint = hints["grey"]
        elif image.shape[2:] == (4,):
            hint = hints["alpha"]
        elif np.issubdtype(image.dtype, np.floating):
            hint = hints["float"]
        self.plugin.refuse("returned as an image", image, wanted + (f". {hint}" if hint else ""))
