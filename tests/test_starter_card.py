"""The starter's card: every number of it is measured, from what is there of each look."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.mark.slow
def test_a_card_has_a_row_a_look_and_measures_nothing_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(TOOLS))
    card, measure = import_module("starter.card"), import_module("starter.measure")
    everything, few = measure.open_images, slice(0, 10_000, 100)
    for module in (card, measure):
        monkeypatch.setattr(
            module,
            "open_images",
            lambda folder, names: (own := everything(folder, names)).take(range(*few.indices(len(own)))),
        )
        own = {look: task for look, task in measure.tasks().items() if look == "night"}
        monkeypatch.setattr(module, "tasks", lambda own=own: own)
    monkeypatch.setattr(measure, "GENERATED", 20)
    monkeypatch.setattr(measure, "BESIDE", 10)
    monkeypatch.setattr(measure, "CNN", measure.CNN.model_copy(update={"min_steps": 2}))
    monkeypatch.setattr(card, "SAMPLING", {"guidance_scale": 1.0, "num_inference_steps": 2})
    package, work = tmp_path / "package", tmp_path / "work"
    package.mkdir()
    work.mkdir()
    for phase in card.PHASES:
        (work / f"{phase}.json").write_text(json.dumps({"steps": 6_000, "seconds": 600, "loss": 0.1}))
    card.write_card(package, work)
    found = json.loads((package / "measurements.json").read_text())
    assert list(found) == ["night"] and {"zero-shot, plain", "generated, plain"} < set(found["night"])
    assert 0 <= found["night"]["zero-shot"]["accuracy"]["value"] <= 1
    text = (package / "README.md").read_text()
    assert (
        sum(line.startswith("| night |") for line in text.splitlines()) == 1 + 2
    )  # known; made with its words and without
    assert "| unet | 6,000 | 10 min |" in text
    assert Image.open(package / "looks.png").width == 2 * 32 * 3 * card.SAMPLES
    capsys.readouterr()
    card.write_card(package, work)
    assert "measured" not in capsys.readouterr().out
