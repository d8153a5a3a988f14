"""Whole runs on tiny random models: every stage, again after an interruption, again with nothing to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from figment import records
from figment.errors import FigmentError
from figment.images_in import open_shards
from figment.layout import shard_files
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from figment.status import status
from figment.studies.arms import run_arms
from figment.verify import verify
from trials import OF_EVIDENCE
from warm import python

NAMES = ["red square", "blue disc"]


@pytest.fixture(scope="module")
def models(sd15, sdxl, clip) -> dict[str, str]:
    return {"sd15": str(sd15), "sdxl": str(sdxl), "clip": str(clip)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Real images: a red square or a blue disc's box on noise, for train and test."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), ("test", 6)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
                image[10:30, 12:32, 2 * label] = 250
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return root


def recipe(models: dict[str, str], photos: Path | None, pipeline: str = "sd15", **changes) -> Recipe:
    real = {"train": str(photos / "train"), "test": str(photos / "test")} if photos else {}
    data = {
        "task": {
            "class_names": NAMES,
            "attributes": {"size": ["small", "large"]},
            "contexts": ["outside"],
            "real": real,
        },
        "prompts": {"kind": "attributes", "per_class": 3},
        "generate": {"model": models[pipeline], "images_per_class": 6, "num_inference_steps": 2, "shard_size": 4},
        "filters": [{"kind": "blank"}, {"kind": "clip", "rule": "top_k", "k": 4}],
        "train": {"encoder": models["clip"], "epochs": 2, "min_steps": 20, "seeds": 2},
        "evaluate": {"shots": [1, 2], "draws": 2},
    }
    return validate(data, "test").changed(changes)


def rows(folder: Path) -> list[dict]:
    return [row for path in shard_files(folder / "images") for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("pipeline", ["sd15", "sdxl"])
def test_all_stages_from_class_names_to_a_report(models, photos, pipeline, tmp_path):
    outcome = run_recipe(recipe(models, photos, pipeline), tmp_path / "run")
    assert set(outcome.results) - OF_EVIDENCE == {
        *("top1/zero_shot", "top1/synthetic", "gain/synthetic", "top1/real_all", "gain/real_all"),
        *("top1/real_1", "top1/real_2", "exchange_rate"),
    }
    assert outcome.verdict == "cannot say"  # twelve test images
    assert list(outcome.results["worth"].details["differences"]) == [
        "top1/zero_shot",
        "top1/bias_removed",
        "top1/placebo",
    ]
    assert outcome.results["top1/synthetic"].n == 12
    made = rows(tmp_path / "run")
    assert len(made) == 12
    assert all(row["error"] == "" and row["image"]["bytes"] for row in made)
    page = report_of(tmp_path / "run")
    assert (page.counts.attempted, page.counts.kept) == (12, 8)
    assert outcome.verdict.capitalize() in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert {s.state for s in status(tmp_path / "run")} == {"done"}
    tables = yaml.safe_load((tmp_path / "run" / ".huggingface.yaml").read_text())["configs"]
    assert {"images", "prompts", "predictions"} < {table["config_name"] for table in tables}
    assert verify(tmp_path / "run").ok and ".huggingface.yaml" in records.read(tmp_path / "run").files


@pytest.mark.slow
def test_the_same_again_does_nothing_and_a_changed_setting_is_named(models, photos, tmp_path):
    first = run_recipe(recipe(models, photos), tmp_path)
    before = {p: p.stat().st_mtime_ns for p in shard_files(tmp_path / "images")}
    again = run_recipe(recipe(models, photos), tmp_path)
    assert again.results == first.results
    assert {p: p.stat().st_mtime_ns for p in shard_files(tmp_path / "images")} == before

    with pytest.raises(FigmentError, match=r"generate.guidance_scale was 2.0 and is now 3.0.*--out"):
        run_recipe(recipe(models, photos, **{"generate.guidance_scale": 3.0}), tmp_path)
    with pytest.raises(FigmentError, match=r"prompts.per_class was 3 and is now 2"):
        run_recipe(recipe(models, photos, **{"prompts.per_class": 2}), tmp_path)

    trained = run_recipe(recipe(models, photos, **{"train.epochs": 3}), tmp_path)
    assert trained.results["top1/synthetic"].fingerprint != first.results["top1/synthetic"].fingerprint
    assert {p: p.stat().st_mtime_ns for p in shard_files(tmp_path / "images")} == before
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(first.results)  # what was measured before is kept


@pytest.mark.slow
def test_a_filter_taken_out_of_the_recipe_leaves_no_rejects_in_the_report(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path)
    assert report_of(tmp_path).counts.kept == 8
    run_recipe(recipe(models, photos, filters=[]), tmp_path)
    assert report_of(tmp_path).counts.kept == 12


@pytest.mark.slow
def test_without_real_images_nothing_is_measured_and_the_report_says_so(models, tmp_path):
    outcome = run_recipe(recipe(models, None), tmp_path)
    assert outcome.results == {}
    assert outcome.verdict == "not measured"
    assert "no real test images" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()


@pytest.mark.slow
def test_the_resolved_recipe_reproduces_the_images(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path / "one")
    resolved = validate(yaml.safe_load((tmp_path / "one" / "resolved.yaml").read_text()), "resolved.yaml")
    run_recipe(resolved, tmp_path / "two")
    assert rows(tmp_path / "two") == rows(tmp_path / "one")


@pytest.mark.slow
def test_arms_are_whole_runs_and_stand_in_one_report(models, photos, tmp_path):
    arms = {"no filter": {"filters": []}, "templates <b>": {"prompts": {"kind": "templates"}}}
    outcomes = run_arms(recipe(models, photos, name="main", arms=arms), tmp_path)
    assert list(outcomes) == ["no filter", "templates <b>", "main"]
    assert [a.name for a in report_of(tmp_path).arms] == [
        "zero-shot",
        "no filter",
        "templates <b>",
        *("bias removed", "placebo", "images only"),
        "main",
        "all real images",
    ]
    assert "templates <b>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    # The real images were encoded once, for all of them.
    assert not (tmp_path / "arms" / "00-no-filter" / "features").exists()


def test_validation_images_are_asked_for_before_anything_is_made(models, photos, tmp_path):
    with pytest.raises(FigmentError, match="no validation images"):
        run_recipe(recipe(models, photos, **{"train.select": "validation"}), tmp_path)
    assert not (tmp_path / "images").exists()


UNHURRIED = """
import time
from figment.generate.procedural import ProceduralGenerator

class Unhurried(ProceduralGenerator):
    fingerprint, batch_size = "unhurried", 1

    def __call__(self, prompts, seeds, init=None):
        time.sleep(0.05 * len(prompts))
        return super().__call__(prompts, seeds)
"""


@pytest.mark.slow
def test_killed_at_three_moments_it_ends_as_if_it_never_was(models, tmp_path, monkeypatch):
    (tmp_path / "unhurried.py").write_text(UNHURRIED)
    monkeypatch.syspath_prepend(tmp_path)
    own = recipe(models, None, generate={"kind": "unhurried:Unhurried", "images_per_class": 20, "shard_size": 3})
    path, killed = tmp_path / "recipe.yaml", tmp_path / "killed"
    path.write_text(own.to_yaml())
    figment = "from figment.cli import main; main()"
    shards = 14  # 40 images, 3 a shard
    for until in (1, 5, 9):
        process = python(figment, "run", path, "--out", killed, "--allow-plugins", path=[tmp_path])
        while len(shard_files(killed / "images")) < until:
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert not (killed / "images" / "stage.json").exists()
        assert any("at images" in row.text and "stopped" in row.text for row in status(killed))
    run_recipe(own, killed, allow_plugins=True)
    run_recipe(own, tmp_path / "whole", allow_plugins=True)
    assert rows(killed) == rows(tmp_path / "whole")
    assert len(shard_files(killed / "images")) == shards
    assert json.loads((killed / "images" / "stage.json").read_text())["counts"]["attempted"] == 40
    heads = [(folder / "model" / "head.safetensors").read_bytes() for folder in (killed, tmp_path / "whole")]
    assert heads[0] == heads[1]


# ---- what must not be found out after hours ---------------------------------------------------------------------------


class Counted:
    """A generator that paints noise and counts what it is asked for."""

    fingerprint, batch_size = "counted", 4

    def __init__(self, fails=()):
        self.made, self.fails = 0, fails

    def __call__(self, prompts, seeds, init=None):
        self.made += len(prompts)
        return [
            None
            if any(f in p for f in self.fails)
            else np.random.default_rng(s).integers(0, 256, (32, 32, 3), np.uint8)
            for p, s in zip(prompts, seeds, strict=True)
        ]


@pytest.mark.slow
def test_a_refused_change_leaves_the_folder_as_it_was(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path, generator=Counted())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for changes in ({"generate.guidance_scale": 3.0}, {"generate.shard_size": 5}, {"seed": 1}):
        with pytest.raises(FigmentError, match=next(iter(changes))):
            run_recipe(recipe(models, photos, **changes), tmp_path, generator=Counted())
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_second_call_makes_and_trains_nothing(models, photos, tmp_path):
    for name, real in (("measured", photos), ("not measured", None)):
        run_recipe(recipe(models, real), tmp_path / name, generator=Counted())
        head = (tmp_path / name / "model" / "head.safetensors").stat().st_mtime_ns
        again = Counted()
        run_recipe(recipe(models, real), tmp_path / name, generator=again)
        assert again.made == 0
        assert (tmp_path / name / "model" / "head.safetensors").stat().st_mtime_ns == head


@pytest.mark.slow
def test_a_run_that_stopped_while_measuring_is_not_finished_and_measures_again(models, photos, tmp_path, monkeypatch):
    import figment.stages.results

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(figment.stages.results, "_append_results", stop)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe(models, photos), tmp_path, generator=Counted())
    with pytest.raises(FigmentError, match=f"{tmp_path} holds no finished run.*figment status"):
        report_of(tmp_path)
    assert run_recipe(recipe(models, photos), tmp_path, generator=Counted()).results["top1/synthetic"].n == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"filters": [{"kind": "clip", "model": "./no-such-folder"}]},
        {"filters": [{"kind": "no.such.module:Filter"}]},
        {"prompts": {"kind": "figment.errors:no_such_name"}},
        {"train.encoder": "./no-such-folder"},
        {"generate.scheduler": "NoScheduler"},
        {"task.real.train": "./no-such-folder"},
    ],
)
def test_what_is_missing_is_found_before_anything_is_made(models, photos, tmp_path, changes):
    generator = None if "generate.scheduler" in changes else Counted()
    with pytest.raises(FigmentError, match="no-such-folder|no.such.module|no_such_name|NoScheduler"):
        run_recipe(recipe(models, photos, **changes), tmp_path, generator=generator)
    assert not (tmp_path / "images").exists()


@pytest.mark.slow
def test_a_filter_that_rejects_everything_says_why(models, photos, tmp_path):
    with pytest.raises(FigmentError, match=r"rejected every image.*constant.*loosen"):
        run_recipe(
            recipe(models, photos, filters=[{"kind": "blank", "minimum_std": 255}]), tmp_path, generator=Counted()
        )
    # ... and can be loosened without making the images again
    again = Counted()
    run_recipe(recipe(models, photos, filters=[{"kind": "blank"}]), tmp_path, generator=again)
    assert again.made == 0


@pytest.mark.slow
def test_a_class_of_failures_alone_does_not_stop_the_others(models, tmp_path, capsys):
    names = ["red square", "[/bold] <b>"]
    own = recipe(models, None, **{"task.class_names": names, "filters": []})
    run_recipe(own, tmp_path, generator=Counted(fails=["<b>"]))
    assert "no image was kept of: [/bold] <b>" in capsys.readouterr().out
    counts = report_of(tmp_path).counts
    assert (counts.attempted, counts.failed, counts.kept) == (12, 6, 6)
    run_recipe(own, tmp_path, generator=Counted())
    assert report_of(tmp_path).counts.kept == 12


@pytest.mark.slow
def test_validation_images_choose_the_epoch(models, photos, tmp_path):
    own = recipe(models, photos, **{"train.select": "validation", "task.real.val": str(photos / "train")})
    assert "top1/synthetic" in run_recipe(own, tmp_path, generator=Counted()).results
    assert len(json.loads((tmp_path / "model" / "stage.json").read_text())["history"]["val_accuracy"]) == 2


def test_a_wrong_arm_is_named_before_any_runs(models, photos, tmp_path):
    arms = {"good": {"filters": []}, "bad one": {"generate.guidence_scale": 3}}
    with pytest.raises(FigmentError, match=r"arm 'bad one' has 1 mistake:(.|\n)*Did you mean 'guidance_scale'"):
        run_arms(recipe(models, photos, arms=arms), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_status_tells_of_arms_before_the_recipe_itself_has_begun(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path / "arms" / "00-first", generator=Counted())
    states = {s.name: s.state for s in status(tmp_path)}
    assert states["arms/00-first/images"] == states["arms/00-first/report"] == "done"
    assert states["images"] == states["report"] == "to do"


@pytest.mark.slow
def test_a_real_image_that_cannot_be_read_is_left_out_and_said(models, photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    images = sorted((tmp_path / "photos" / "test").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:60])
    own, run = recipe(models, tmp_path / "photos"), tmp_path / "run"
    first = run_recipe(own, run)
    left_out = f"{images[0].parent.name}/{images[0].name} (cut off or damaged)"
    said = capsys.readouterr().out
    assert f"1 of the 12 images in task.real.test cannot be read and are left out: {left_out}" in said
    assert first.results["top1/synthetic"].n == first.results["top1/zero_shot"].n == 11
    assert any(left_out in caveat for caveat in report_of(run).caveats)
    assert json.loads((run / "stage.json").read_text())["unreadable"]["test"].keys() == {
        f"{images[0].parent.name}/{images[0].name}"
    }
    again = run_recipe(own, run)
    assert again.results == first.results
    images[0].unlink()  # what was measured is the same, what is said of it is not
    mended = run_recipe(own, run)
    assert mended.results["top1/synthetic"].value == first.results["top1/synthetic"].value
    assert mended.results["top1/synthetic"].fingerprint != first.results["top1/synthetic"].fingerprint
    assert not any("left out" in caveat for caveat in report_of(run).caveats)


def test_too_many_real_images_that_cannot_be_read_are_named_before_anything_is_made(models, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    images = sorted((tmp_path / "photos" / "test").rglob("*.png"))
    for broken in images[:2]:
        broken.write_bytes(b"")
    with pytest.raises(FigmentError, match=r"2 of the 12 images in task.real.test .*3?\.png \(an empty file\)"):
        run_recipe(recipe(models, tmp_path / "photos"), tmp_path / "run")
    for broken in images[:6]:  # one class
        broken.write_bytes(b"")
    with pytest.raises(FigmentError, match=f"Not one of the 6 images of {images[0].parent.name!r}"):
        run_recipe(recipe(models, tmp_path / "photos"), tmp_path / "run")
    assert not (tmp_path / "run" / "images").exists()


def test_an_arm_needs_a_name_of_its_own(models, tmp_path):
    with pytest.raises(FigmentError, match="both called 'main'"):
        run_arms(recipe(models, None, name="main", arms={"main": {"seed": 1}}), tmp_path)


@pytest.mark.slow
def test_images_are_made_where_the_real_images_are_not(tmp_path):
    """A node of a job array has the recipe, and not the photographs."""
    task = {"class_names": ["cat", "dog"], "real": {"train": "/no/such/folder", "test": "/nor/this"}}
    recipe = validate({"task": task, "generate": {"kind": "procedural", "images_per_class": 2}}, "recipe")
    folder = make_images(recipe, tmp_path)
    assert len(open_shards(folder)[0]) == 4
    with pytest.raises(FigmentError, match="/no/such/folder"):
        run_recipe(recipe, tmp_path)
