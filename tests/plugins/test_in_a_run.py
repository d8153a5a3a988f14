"""A writer, a generator, a filter and a learner of a user's own, through a whole recipe."""

from __future__ import annotations

import json
import sys
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from figment.errors import FigmentError
from figment.exports.export import export
from figment.layout import Run, shard_files
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import run_recipe as run_recipe_unasked
from figment.stages.report import write_report
from figment.status import status
from figment.verify import verify
from trials import OF_EVIDENCE

pytestmark = pytest.mark.slow
run_recipe = partial(run_recipe_unasked, allow_plugins=True)

NAMES = ["red thing", "green thing", "blue thing"]
OWN = """
from pathlib import Path

import numpy as np

from figment import Prompt
from figment.types import Verdict

CALLS = {"written": 0, "made": 0, "judged": 0, "learnt": 0}


class Writer:
    def __init__(self, words):
        self.words = words

    def __call__(self, task, n, rng):
        CALLS["written"] += 1
        return [
            Prompt(f"{label}/{word}", f"{word} {name}", label, f"{label}")
            for label, name in enumerate(task.class_names)
            for word in self.words
        ]


class Generator:
    \"\"\"One colour a class, and a little noise; the third image of a prompt is grey.\"\"\"

    batch_size = 4

    def __call__(self, prompts, seeds):
        CALLS["made"] += len(prompts)
        return [self.draw(p, s) for p, s in zip(prompts, seeds)]

    def draw(self, prompt, seed):
        colour = [220 * (name in prompt) for name in ("red", "green", "blue")]
        noise = np.random.default_rng(seed).normal(0, 20, (16, 16, 3))
        return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


class Filter:
    \"\"\"Asks for what a built-in one gets.\"\"\"

    def __init__(self, given, darkest=0.0):
        self.darkest, self.names, self.train = darkest, given.task.class_names, given.real("train")
        assert len(self.train) == 18 and given.features().encoder is not None

    def __call__(self, images):
        CALLS["judged"] += len(images)
        light = [float(image.mean()) for image in images.load(range(len(images)))]
        return [Verdict(x >= self.darkest, "dark", {"light": x}) for x in light]


class Model:
    def __init__(self, means):
        self.means = means

    def logits(self, images):
        seen = np.stack([image.mean((0, 1)) for image in images.load(range(len(images)))])
        return -np.linalg.norm(seen[:, None] - self.means[None], axis=2).astype(np.float32)

    def save(self, folder):
        np.save(Path(folder) / "means.npy", self.means)


class NearestMean:
    name = "nearest mean colour"

    def __init__(self, given):
        self.n = len(given.task.class_names)

    def learn(self, synthetic, real, seed):
        CALLS["learnt"] += 1
        images = synthetic if synthetic is not None else real
        colours = np.stack([image.mean((0, 1)) for image in images.load(range(len(images)))])
        return Model(np.stack([colours[images.labels == label].mean(0) for label in range(self.n)]))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_parts

    yield own_parts
    sys.modules.pop("own_parts", None)


@pytest.fixture
def recipe(own, photos, clip):
    def make(**changes) -> Recipe:
        data = {
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "encoder": str(clip),
            "prompts": {"kind": "own_parts:Writer", "options": {"words": ["a", "one"]}},
            "generate": {"kind": "own_parts:Generator", "images_per_class": 4},
            "filters": [{"kind": "own_parts:Filter", "options": {"darkest": 5.0}}],
            "train": {"kind": "own_parts:NearestMean", "seeds": 1},
            "evaluate": {"real_all": True, "exchange_rate": False},
        }
        return validate(data, "test").changed(changes)

    return make


def test_all_four_together(own, recipe, tmp_path):
    run = tmp_path / "run"
    outcome = run_recipe(recipe(), run)
    assert own.CALLS == {"written": 1, "made": 12, "judged": 12, "learnt": 4}
    assert set(outcome.results) - OF_EVIDENCE == {"top1/synthetic", "top1/real_all"}
    of_guessing = outcome.results["worth"].details["differences"]["chance"]
    assert of_guessing["value"] == pytest.approx(2 / 3) and of_guessing["ci"][0] > 0.5
    assert outcome.results["top1/synthetic"].value == 1.0  # one colour a class is easy
    made = [row for path in shard_files(run / "images") for row in pq.read_table(path).to_pylist()]
    assert {row["prompt"] for row in made} == {f"{word} {name}" for word in ("a", "one") for name in NAMES}
    (verdicts,) = [pq.read_table(path) for path in (run / "scores").glob("*/train.parquet")]
    assert verdicts.num_rows == 12 and "light" in verdicts.column_names
    assert np.load(run / "model" / "means.npy").shape == (3, 3)
    assert json.loads((run / "model" / "stage.json").read_text())["learner"] == "nearest mean colour"
    assert dict(report_of(run).question)["Classifier"].startswith("nearest mean colour")
    found = verify(run)
    assert found.ok, found.findings
    again = run_recipe(recipe(), run)
    assert again.results == outcome.results
    assert (own.CALLS["written"], own.CALLS["made"], own.CALLS["learnt"]) == (1, 12, 4)


def test_another_option_is_named_and_another_filter_leaves_the_images(own, recipe, tmp_path):
    run_recipe(recipe(), tmp_path / "run")
    run_recipe(recipe(filters=[]), tmp_path / "run")
    assert own.CALLS["made"] == 12
    with pytest.raises(FigmentError, match="prompts.options.words was"):
        run_recipe(recipe(**{"prompts.options": {"words": ["the"]}}), tmp_path / "run")


def test_a_writer_that_forgets_a_class_is_told_which(own, recipe, tmp_path, monkeypatch):
    write = own.Writer.__call__
    monkeypatch.setattr(own.Writer, "__call__", lambda self, *given: [p for p in write(self, *given) if p.label != 1])
    with pytest.raises(FigmentError, match="own_parts:Writer returned no prompt for 1 of 3 classes: green thing"):
        run_recipe(recipe(), tmp_path / "run")


def test_verbs_that_read_import_nothing(own, recipe, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run_recipe(recipe(), run)
    (tmp_path / "own_parts.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.delitem(sys.modules, "own_parts")
    assert verify(run).ok
    said = "\n".join(f"{one.name} {one.state}" for one in status(run))
    assert "model done" in said and "results done" in said
    write_report(Run(run))
    assert export(run, "csv", str(tmp_path / "csv")).written
    assert repair(run) == []  # nothing is broken, so nothing is made
    assert "own_parts" not in sys.modules and not (tmp_path / "own_parts.ran").exists()
