"""What a run trained, opened again as it was saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from figment import files, records
from figment.errors import FigmentError
from figment.layout import Run, Study, subfolders
from figment.recipe import Recipe, load_recipe
from figment.recipe.encoder import TimmEncoderSettings

if TYPE_CHECKING:  # torch takes seconds to import
    from figment.learners.saved import ImageEncoder, Saved


@dataclass(frozen=True)
class Trained:
    """The model of a finished run. ``told`` is what its record says."""

    run: Run
    recipe: Recipe
    saved: Saved
    told: records.Found


def open_trained(folder: Path | str, device: str = "auto", dtype: str = "auto") -> Trained:
    """The model of a run, of an arm or of a table's cell.

    ``dtype`` is an encoder's; networks compute in float32. Raises FigmentError where the run is not that far, where its model is
    damaged or was trained by a learner of the user's own, and where the encoder under a head is not there any more.
    """
    from figment.device import choose_device
    from figment.learners.saved import open_saved

    run = Run(files.as_path(folder))
    if run.kind == "table":
        cell = next((p for c in subfolders(Study(run.folder).cells) for p in subfolders(c)), run.folder / "cells")
        raise FigmentError(
            f"{folder} is a table of runs, each with a model of its own. Name one of them, such as {cell}."
        )
    told = records.read(run.model)
    if told.state not in ("finished", "old"):
        raise FigmentError(
            f"{folder} holds no trained model{f': {told.problem}' if told.state == 'damaged' else ''}. Give the folder of a finished run,"
            f" such as runs/demo. To see how far a run is: figment status {folder}"
        )
    recipe = load_recipe(run.folder)
    if ":" in recipe.train.kind:
        raise FigmentError(
            f"The model in {run.model} was trained by a learner of your own, {recipe.train.kind}. How it is opened, that learner knows:"
            " what lies there is what its save() wrote."
        )
    if wrong := records.problems(told):
        name, problem = next(iter(wrong.items()))
        raise FigmentError(
            f"The model in {run.model} is damaged: {name} {problem}. figment repair {folder} trains it again, from the same images."
        )
    saved = open_saved(run.model, lambda name: _encoder(recipe, name, device, dtype), choose_device(device))
    return Trained(run, recipe, saved, told)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (n, N). Logits of hundreds are common, so it is not done in float32."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _encoder(recipe: Recipe, folder: str | None, device: str, dtype: str) -> ImageEncoder:
    """The one in a folder, or that the recipe trains on."""
    from figment.encoders import open_encoder

    own = cast(Any, recipe.train).encoder if folder is None else folder
    if isinstance(own, TimmEncoderSettings):
        return own.build(device, dtype)
    return cast("ImageEncoder", open_encoder(own, device, dtype, allow_pickle=recipe.encoder_pickles))
