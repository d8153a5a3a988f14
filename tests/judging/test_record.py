"""What was judged into one folder: nothing is lost, whoever comes after, and one page has all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from timm import create_model
from timm.models import save_for_hf

from figment import FigmentError, judge_backbone, open_backbone
from figment.files import lock
from figment.judging import record
from figment.report.judged import as_table
from figment.report.table import markdown
from published import class_folders


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> list[Path]:
    """Two of one architecture and, as folders go, of one name."""
    folders = [tmp_path_factory.mktemp("models") / f"{i}" for i in range(2)]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        save_for_hf(create_model("test_resnet", num_classes=7), folder, safe_serialization=True)
    return folders


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """``a`` and ``b``, data sets that features of chance tell apart."""
    root = tmp_path_factory.mktemp("sets")
    for name in ("a", "b"):
        for split in ("train", "val"):
            own = {"red": [(230 - i, 20, 20) for i in range(6)], "blue": [(20, 20, 230 - i) for i in range(6)]}
            class_folders(root / name / split, own)
    return root


def judge(backbone: Path, on: str, out: Path, *changes: str, seed: int = 0) -> None:
    judge_backbone(open_backbone(str(backbone), device="cpu"), [on], out, changes, seed)


def asked(out: Path) -> list[tuple]:
    return [
        (Path(r["backbone"]["name"]).name, r["evaluation"], Path(r["on"]).name, r["settings"].get("k"), r["seed"])
        for r in record.read(out)
    ]


def test_what_was_judged_before_stays_and_the_same_again_takes_its_place(backbones, root, tmp_path):
    first, second = backbones
    judge(first, f"knn={root}/a", tmp_path)
    judge(first, f"knn={root}/b", tmp_path)
    judge(second, f"knn={root}/a", tmp_path)
    judge(first, f"knn={root}/a", tmp_path, "knn.k=3")
    judge(first, f"knn={root}/a", tmp_path, seed=1)
    before = record.read(tmp_path)
    judge(first, f"knn={root}/a", tmp_path)
    assert asked(tmp_path) == [
        ("0", "knn", "b", 20, 0), ("1", "knn", "a", 20, 0), ("0", "knn", "a", 3, 0), ("0", "knn", "a", 20, 1), ("0", "knn", "a", 20, 0),
    ]  # fmt: skip
    assert record.read(tmp_path)[-1]["numbers"] == before[0]["numbers"]


def test_the_page_has_all_results_how_each_came_about_and_why_others_did_not(backbones, root, tmp_path):
    first, second = backbones
    judge(first, f"knn={root}/a", tmp_path)
    judge(second, f"knn,few_shot={root}/a", tmp_path, "few_shot.ways=2", "few_shot.episodes=3", "few_shot.queries=2")
    with pytest.raises(FigmentError, match="not laid out as ARO"):
        judge(first, f"aro={root}/a", tmp_path)
    page = (tmp_path / record.PAGE).read_text(encoding="utf-8")
    assert "<script" not in page and not re.search(r"(src|href)=.?http", page)
    table = as_table(record.read(tmp_path))
    assert table.columns == [str(first), str(second)]
    knn, few = f"knn, accuracy: {root}/a", f"few_shot, accuracy (ways=2, queries=2, episodes=3): {root}/a"
    assert table.rows == [knn, few] and set(table.cells) == {(knn, str(first)), (knn, str(second)), (few, str(second))}
    for told in (page, markdown(table)):
        assert "20 nearest" in told or "nearest" in told  # the protocol
        assert "not laid out as ARO" in told and "episodes: 3" in told and "3 evaluations of 2 backbones" in told


def test_a_failure_is_kept_until_its_evaluation_is_asked_again(backbones, root, tmp_path):
    first = backbones[0]
    for backbone in backbones:
        with pytest.raises(FigmentError, match="There is no data set"):
            judge(backbone, f"knn={root}/c", tmp_path)
    judge(first, f"linear={root}/a", tmp_path)
    assert [("failed" in r, r["evaluation"]) for r in record.read(tmp_path)] == [
        (True, "knn"),
        (True, "knn"),
        (False, "linear"),
    ]
    judge(first, f"knn={root}/a", tmp_path)  # under its right name
    assert [one[:2] for one in asked(tmp_path)] == [("1", "knn"), ("0", "linear"), ("0", "knn")]


def test_two_of_one_name_are_two_columns():
    one = {
        "evaluation": "knn",
        "on": "a",
        "settings": {},
        "changed": {},
        "seed": 0,
        "protocol": "p",
        "paper": "q",
        "seconds": 1.0,
    }
    own = [
        {**one, "backbone": {"name": "runs/pets", "fingerprint": f"{i}abcdefgh"}, "numbers": {"values": {"worst class": i / 4}, "ci": {}, "n": 8}}
        for i in (1, 2)
    ]  # fmt: skip
    table = as_table(own)
    assert table.columns == ["runs/pets (1abcde)", "runs/pets (2abcde)"]
    assert "| knn, worst class: a | 25.0 | **50.0** |" in markdown(table)  # a number that has no interval


def test_a_folder_into_which_another_process_judges_is_left_alone(backbones, root, tmp_path):
    judge(backbones[0], f"knn={root}/a", tmp_path)
    before = (tmp_path / record.FILE).read_bytes()
    with lock(tmp_path), pytest.raises(FigmentError):
        judge(backbones[0], f"knn={root}/b", tmp_path)
    assert (tmp_path / record.FILE).read_bytes() == before
    judge(backbones[0], f"knn={root}/b", tmp_path)
    assert len(record.read(tmp_path)) == 2


def test_a_damaged_file_is_told_and_left(backbones, root, tmp_path):
    judge(backbones[0], f"knn={root}/a", tmp_path)
    (tmp_path / record.FILE).write_text("{")
    with pytest.raises(FigmentError, match="judge.json"):
        judge(backbones[0], f"knn={root}/b", tmp_path)
    assert (tmp_path / record.FILE).read_text() == "{"


def test_a_file_of_an_earlier_build_begins_anew(backbones, root, tmp_path):
    judge(backbones[0], f"knn={root}/a", tmp_path)
    (tmp_path / record.FILE).write_text(json.dumps({"backbone": {}, "seed": 0, "results": [{"evaluation": "knn"}]}))
    judge(backbones[0], f"knn={root}/b", tmp_path)
    assert len(record.read(tmp_path)) == 1
