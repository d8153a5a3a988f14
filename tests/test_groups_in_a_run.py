"""Real images that belong together, a test set that grows and several arms, in whole runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from figment import records
from figment.errors import FigmentError
from figment.forecast import forecast
from figment.recipe import Recipe, load_recipe, validate
from figment.report.folder import report_of
from figment.run import Outcome, run_recipe
from figment.studies.arms import run_arms
from figment.studies.table import run_table
from figment.verify import verify
from test_cli import figment

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory, photos) -> Path:
    """The photographs, three or so a video: ``red_thing/train-0_1.png``, ``red_thing/test-2_7.png``; ``half`` is half of ``test``."""
    root = tmp_path_factory.mktemp("videos")
    for split in ("train", "test", "half"):
        for path in sorted((photos / split.replace("half", "test")).rglob("*.png")):
            number = int(path.stem)
            if split == "half" and number >= 6:
                continue
            to = root / split / path.parent.name / f"{split.replace('half', 'test')}-{number // 3}_{number}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return root


@pytest.fixture
def recipe(clip, videos):
    def make(groups: bool = True, test: str = "test", **changes) -> Recipe:
        real = {"train": str(videos / "train"), "test": str(videos / test)}
        if groups:
            real["groups"] = {"pattern": r"(\w+/\w+-\d)_"}
        data = {
            "name": "main",
            "task": {"class_names": NAMES, "real": real},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 4, "shard_size": 6, "height": 24, "width": 20},
            "filters": [],
            "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 2, "learning_rate": 0.01},
            "evaluate": {"shots": [1, 2], "draws": 2, "resamples": 3, "placebos": 2},
        }
        return validate(data, "test").changed(changes)

    return make


def test_groups_are_in_every_interval_and_said_once(recipe, tmp_path):
    plain = run_recipe(recipe(groups=False), tmp_path / "plain").results
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe().to_yaml())
    done = figment("run", path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("36 real test images in 12 groups") == 1 and done.stdout.count("in 12 groups") == 1
    assert (tmp_path / "run/report.html").read_text(encoding="utf-8").count("36 real test images in 12 groups") == 1
    assert verify(tmp_path / "run").ok
    grouped = run_recipe(recipe(), tmp_path / "run").results
    wider = 0
    for metric, result in grouped.items():
        assert result.value == plain[metric].value, metric
        ours, alone = (np.subtract(r.ci[1], r.ci[0]) for r in (result, plain[metric]))
        if np.isfinite(ours) and np.isfinite(alone) and metric != "exchange_rate":
            # Where trainings differ more than test images do, groups make Student's degrees of freedom more, and hardly anything else.
            assert ours >= 0.98 * alone, metric
            wider += ours > alone
    assert wider >= 12  # of fifteen: all but where a bound of the scale stops both
    assert grouped["top1/synthetic"].details["groups"] == 12
    told = pq.read_table(tmp_path / "run/predictions.parquet")
    assert [len(set(told["group"].to_pylist())), told["group"].to_pylist()[:4]] == [12, [0, 0, 0, 1]]
    assert "group" not in pq.read_table(tmp_path / "plain/predictions.parquet").column_names
    assert "36 real test images in 12 groups" in forecast(recipe(), tmp_path / "new").costs["results"].text


def test_a_change_of_groups_is_measured_again_and_trains_nothing(recipe, tmp_path, monkeypatch):
    first = run_recipe(recipe(groups=False), tmp_path / "run").results
    monkeypatch.setattr("figment.learners.clip_head.learner.ClipHeadLearner.learn_many", lambda *_: 1 / 0)
    second = run_recipe(recipe(), tmp_path / "run").results
    renamed = recipe(**{"task.real.groups.pattern": r"(?:)(\w+/\w+-\d)_"})  # the same groups, found in another way
    third = run_recipe(renamed, tmp_path / "run").results
    assert first["worth"].ci != second["worth"].ci and third == second
    assert second["worth"].details.get("look") is None  # as many images as before: no growth


def test_groups_in_two_splits_and_images_of_none_are_refused_before_anything_is_made(recipe, videos, tmp_path):
    leaky = recipe(**{"task.real.train": str(videos / "half")})
    with pytest.raises(FigmentError, match="6 groups are in both task.real.train and task.real.test.*18 of the 36"):
        run_recipe(leaky, tmp_path / "run")
    with pytest.raises(FigmentError, match="36 of the 36 test images are of no group"):
        run_recipe(recipe(**{"task.real.groups.pattern": "(video)"}), tmp_path / "run")
    assert not (tmp_path / "run" / "images").exists() and not (tmp_path / "run" / "prompts").exists()


def test_a_table_of_groups_is_found_beside_the_recipe(recipe, videos, tmp_path):
    ids = [str(p.relative_to(videos / "test")) for p in sorted((videos / "test").rglob("*.png"))]
    (tmp_path / "groups.csv").write_text("image,group\n" + "".join(f"{id},{id[:-6]}\n" for id in ids))
    own = recipe(groups=False).model_dump(mode="json")
    own["task"]["real"]["groups"] = {"csv": "groups.csv"}
    own["arms"] = {"a": {"task.real.groups": {"column": "video"}}, "b": {"task.real.groups.column": "video"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(own))
    loaded = load_recipe(tmp_path / "recipe.yaml")
    assert loaded.task.real.groups.csv == str(tmp_path / "groups.csv")
    assert loaded.arms["a"] == {"task.real.groups": {"column": "video"}} and loaded.arms["b"] == {
        "task.real.groups.column": "video"
    }
    n = len({id[:-6] for id in ids})
    result = run_recipe(loaded.changed({"arms": {}}), tmp_path / "run").results["top1/synthetic"]
    assert result.details["groups"] == n


def test_looks_at_a_growing_test_set_are_counted(recipe, tmp_path):
    small = run_recipe(recipe(groups=False, test="half"), tmp_path / "run").results["worth"]
    again = run_recipe(recipe(groups=False, test="half"), tmp_path / "run").results["worth"]
    assert "look" not in small.details and again == small
    grown = run_recipe(recipe(groups=False), tmp_path / "run").results["worth"]
    assert grown.details["look"] == {"number": 2, "before": [18], "planned": None, "level": pytest.approx(0.025 / 6)}
    once = run_recipe(recipe(groups=False), tmp_path / "once").results["worth"]
    assert once.value == grown.value and np.subtract(*grown.ci) < np.subtract(*once.ci)  # a wider one
    said = " ".join(report_of(tmp_path / "run").verdict.notes)
    assert "Look 2 at a growing test set, 18 and then 36 images" in said and "0.0042" in said
    assert "Look" not in " ".join(report_of(tmp_path / "once").verdict.notes)
    assert verify(tmp_path / "run").ok


def test_a_planned_test_set_spends_its_error_over_the_looks(recipe, tmp_path):
    plan = {"evaluate.planned_test": 36}
    first = run_recipe(recipe(groups=False, test="half", **plan), tmp_path / "run").results["worth"]
    assert first.details["look"]["level"] == pytest.approx(0.00153, abs=1e-5)  # z = 2.963
    assert "Look 1 at 18 of 36 planned test images" in " ".join(report_of(tmp_path / "run").verdict.notes)
    last = run_recipe(recipe(groups=False, **plan), tmp_path / "run").results["worth"]
    assert last.details["look"]["level"] == pytest.approx(0.0245, abs=1e-4)  # z = 1.969
    assert "Look 2 at 18 and then 36 of 36 planned" in " ".join(report_of(tmp_path / "run").verdict.notes)


def test_a_plan_that_is_spent_says_nothing_new(recipe, tmp_path):
    plan = {"evaluate.planned_test": 18}
    run_recipe(recipe(groups=False, test="half", **plan), tmp_path / "run")
    worth = run_recipe(recipe(groups=False, **plan), tmp_path / "run").results["worth"]
    assert worth.details["verdict"] == "cannot say" and "was planned for 18 test images" in worth.details["sentence"]
    assert not any("Look" in note for note in report_of(tmp_path / "run").verdict.notes)
    assert worth.details["next"] == [] and "inf" not in json.dumps(worth.details).lower()


def luck(folder: Path, p: float) -> None:
    """As if the run there had been found to help, with this p."""
    path = folder / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["metric"] == "worth":
            row["details"] |= {"verdict": "helps", "p": p, "sentence": "It helps."}
            row["value"] += 0.5 - p
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records.vouch(folder, [path.name])


def test_the_verdicts_of_arms_hold_for_all_of_them_at_once(recipe, tmp_path):
    arms = {"soft": {"train.soft_weight": 0.1}, "hard": {"train.soft_weight": 0.0}}
    own = recipe(groups=False, arms=arms, **{"evaluate.exchange_rate": False})
    outcomes = run_arms(own, tmp_path / "run")
    assert {o.verdict for o in outcomes.values()} == {o.results["worth"].details["verdict"] for o in outcomes.values()}
    luck(tmp_path / "run", 0.02)
    luck(tmp_path / "run/arms/00-soft", 0.012)
    page = report_of(tmp_path / "run")
    words = {arm.name: arm.verdict for arm in page.arms if arm.verdict}
    alone = "helps alone, not among the arms"
    assert words["soft"] == words["main"] == page.verdict.word == alone and words["hard"] != alone
    assert "one of 3 arms" in page.verdict.sentence and "p of 0.02 " in page.verdict.sentence
    assert "Best of 3 arms: soft, +" in " ".join(page.verdict.notes)
    assert report_of(tmp_path / "run/arms/00-soft").verdict.word == "helps"  # what the arm has alone
    luck(tmp_path / "run/arms/00-soft", 0.008)
    luck(tmp_path / "run", 0.012)
    assert report_of(tmp_path / "run").verdict.word == "helps"
    shown = figment("report", tmp_path / "run").stdout
    assert "Best of 3 arms" in " ".join(shown.split())
    assert Outcome(tmp_path, {}, alone).verdict == alone


def test_the_cells_of_a_table_know_of_groups(recipe, tmp_path):
    table = {
        "title": "two",
        "rows": {"few": {"train.images_per_class": 2}, "all": {}},
        "columns": {"top-1": {}},
        "metric": "top1/synthetic",
        "seeds": 1,
        "printed": {"few": {"top-1": 1.0}, "all": {"top-1": 2.0}},
    }
    pages = [run_table(recipe(g, table=table), tmp_path / f"{g}") for g in (False, True)]
    for cell in pages[0].cells:
        plain, grouped = (page.cells[cell] for page in pages)
        assert plain.value == grouped.value and np.ptp(grouped.ci) > np.ptp(plain.ci)
    assert pages[1].caption.endswith("36 test images in 12 groups.") and "groups" not in pages[0].caption
    plain, grouped = (page.orderings[0] for page in pages)
    assert plain.difference == grouped.difference and np.ptp(grouped.ci) >= np.ptp(plain.ci)
