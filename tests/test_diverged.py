"""A training that diverges is said by name, with its step, whether anything is tested or not; nothing is kept of it or made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import made
from counting import counting
from figment.errors import FigmentError
from figment.layout import Run
from figment.repair import repair
from figment.run import run_recipe
from figment.status import status
from figment.verify import verify

#: AdamW takes learning_rate x weight_decay of a weight away at each step: a million times itself.
TOO_FAST = {"learning_rate": 1e3, "weight_decay": 1e3, "epochs": 20, "seeds": 1}
HEAD = {"kind": "clip_head", "order": "mix", **TOO_FAST}
NETWORK = {
    "kind": "network", "architecture": "small_cnn", "image_size": 8, "batch_size": 2, "optimizer": "adamw", "warmup": 0.0,
    **TOO_FAST,
}  # fmt: skip
FEW = {"few_shot": {"shots": 2}}
UNFROZEN = {"learning_rate": 1e3, "trainable_fraction": 1.0}
TRAININGS: dict[str, dict[str, Any]] = {
    "clip_head": {"train": HEAD},
    "mixed": {"train": HEAD, **FEW},
    "one after the other": {"train": {**HEAD, "order": "synthetic_then_real"}, **FEW},
    "unfrozen": {"train": {**HEAD, "unfrozen": UNFROZEN}},
    "unfrozen, LoRA": {"train": {**HEAD, "unfrozen": {**UNFROZEN, "trainable_fraction": 0.0, "lora_rank": 2}}},
    "network": {"train": NETWORK},
    "network, EMA": {"train": {**NETWORK, "ema": 0.5}},
}
SAID = r"The training( of the classifier)? diverged: (its loss became (nan|inf)|some of its weights were NaN or infinite) at step \d+ \(epoch \d+"


@pytest.fixture(scope="module")
def photos_of_two(photos, tmp_path_factory) -> Path:
    return made.of_two_classes(photos, tmp_path_factory.mktemp("two"))


def recipe(clip: Path, photos: Path, changes: dict[str, Any], tested: bool) -> Any:
    train = {**changes["train"], **({} if changes["train"]["kind"] == "network" else {"encoder": str(clip)})}
    own = made.recipe(clip, photos, **{**changes, "train": train, "evaluate": made.LESS})
    return own if tested else own.changed({"task.real.test": None})


@pytest.mark.slow
@pytest.mark.parametrize("tested", [True, False], ids=["tested", "not tested"])
@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_that_diverges_says_so_and_leaves_no_model(training, tested, clip, photos_of_two, tmp_path):
    own, said = recipe(clip, photos_of_two, TRAININGS[training], tested), []
    with counting() as spent:
        for _ in range(2):
            with pytest.raises(FigmentError, match=SAID) as error:
                run_recipe(own, tmp_path)
            said.append(str(error.value))
        assert said[0] == said[1] and "the same settings would diverge again" in said[0]
        assert not Run(tmp_path).model.joinpath("stage.json").exists() and not list(tmp_path.rglob("head.safetensors"))
        assert [one.state for one in status(tmp_path) if one.name in ("model", "results", "report")] == ["to do"] * 3
        assert verify(tmp_path).ok and repair(tmp_path) == []
    assert spent.made == 6  # once


@pytest.mark.slow
def test_settings_that_do_not_diverge_go_on_from_there(clip, photos_of_two, tmp_path):
    own, model = recipe(clip, photos_of_two, TRAININGS["clip_head"], True), Run(tmp_path).model
    with counting() as spent:
        with pytest.raises(FigmentError, match=SAID):
            run_recipe(own, tmp_path)
        run_recipe(own.changed({"train.learning_rate": 0.01, "train.weight_decay": 0.1}), tmp_path)
        before = (model / "head.safetensors").read_bytes()
        with pytest.raises(FigmentError, match=SAID):  # the model that was there stays
            run_recipe(own, tmp_path)
    assert spent.made == 6 and (model / "head.safetensors").read_bytes() == before
    assert json.loads((model / "stage.json").read_text())["settings"]["train"]["learning_rate"] == 0.01
