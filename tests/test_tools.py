"""Tools that read and run many tables: images are shared between them, and orderings are told as the tables have them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from counting import counting
from figment.checkpoint import Checkpoint
from figment.encoders import Features, open_encoder
from figment.generate.training.loop import Advice, Training
from figment.generate.training.settings import TrainingSettings
from figment.images_in.memory import MemoryImages
from figment.recipe import Recipe, load_recipe, validate
from figment.report.table import Ordering, TablePage
from figment.run import make_images
from figment.studies.table import read_table, run_table
from figment.task import load_task
from figment.verify import verify

ROOT = Path(__file__).parents[1]
NAMES = ["red thing", "green thing", "blue thing"]


def tool(name: str, folder: str = "tools") -> ModuleType:
    spec = spec_from_file_location(f"{folder}_{name}", ROOT / folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def calibration(name: str) -> ModuleType:
    """A module of tools/calibration, which import one another by that name."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return import_module(f"calibration.{name}")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def drawn_by_arithmetic(task: str) -> Recipe:
    """A recipe of one image a class."""
    generate = {"kind": "procedural", "images_per_class": 1, "height": 32, "width": 32}
    return validate({"task": task, "prompts": {"kind": "templates"}, "generate": generate}, "test")


tables, orderings = tool("tables"), tool("orderings")


def test_the_starters_trainings_go_on_from_what_they_left_before_optimizers_could_be_chosen(tmp_path):
    """Their checkpoint is called by their settings: another field must not make it one of another training."""
    shared, steps = tool("training", "tools/starter"), []

    def started(**settings) -> Training:
        weight = torch.nn.Parameter(torch.ones(2, 2))
        loss_of = lambda step: steps.append(step) or weight.square().sum()
        return Training(
            {"w": weight}, loss_of, TrainingSettings(steps=4, warmup_steps=0, **settings), Advice("", "", "")
        )

    before = (
        'it {"steps":4,"minutes":null,"learning_rate":0.0001,"warmup_steps":0,"weight_decay":0.01,"betas":[0.9,0.999],'
        '"grad_clip":1.0,"ema_decay":0.9999,"precision":"float32"}'
    )
    left = started()
    next(iter(left))
    Checkpoint(tmp_path / "it.safetensors", before).write(left.state_dict())
    shared.to_its_end("it", started(), tmp_path)
    assert steps == [0, 1, 2, 3]
    shared.to_its_end("it", started(optimizer="adafactor"), tmp_path)
    assert steps == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def recipes(clip, photos, tmp_path_factory) -> dict[str, Path]:
    """Two tables of which the second has the set of the first, and more of it."""
    folder = tmp_path_factory.mktemp("recipes")
    columns = {"0": {"metric": "top1/zero_shot"}, "all": {}}
    table = {"title": "Amounts", "source": "a paper", "seeds": 1, "rows": {"things": {}}, "columns": columns}
    data = {
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 4, "shard_size": 6, "height": 24, "width": 20},
        "filters": [],
        "train": {"kind": "clip_head", "start": "zero_shot", "encoder": str(clip), "epochs": 1, "min_steps": 40, "seeds": 1},
    }  # fmt: skip
    grown = {"generate.images_per_class": 6, "train.learning_rate": 0.05}
    printed = {"first": {"things": {"0": 50, "all": 60}}, "second": {"things": {"0": 60, "all": 50}}}
    for name, own in printed.items():
        text = yaml.safe_dump({**data, "table": {**table, "printed": own}, "variants": {"grown": grown}})
        (folder / f"{name}.yaml").write_text(text)
    return {name: folder / f"{name}.yaml" for name in printed}


@pytest.fixture(scope="module")
def ran(recipes, tmp_path_factory) -> Path:
    """The first table, and the second, which took over what the first had."""
    out = tmp_path_factory.mktemp("tables")
    run_table(load_recipe(recipes["first"]), out / "first")
    second = load_recipe(recipes["second"], variant="grown")
    tables.take_over(out / "second", tables.sets_of(second), [out / "first"])
    run_table(second, out / "second")
    return out


def test_a_table_takes_over_the_images_that_it_asks_for_and_makes_the_rest(recipes, ran, tmp_path):
    second = load_recipe(recipes["second"], variant="grown")
    taken = tables.take_over(tmp_path / "again", tables.sets_of(second), [ran / "first"])
    assert taken == list(tables.sets_of(second)) and len(taken) == 1
    with counting() as spent:
        page = run_table(second, tmp_path / "again")
    assert spent.made == 6  # of 18, of which the first table has 12
    alone = run_table(second, tmp_path / "alone")
    assert page.cells == alone.cells
    found = verify(tmp_path / "again")
    assert found.ok and not found.findings
    assert tables.take_over(tmp_path / "again", tables.sets_of(second), [ran / "first"]) == []  # it is there


def test_other_images_are_not_taken_over(recipes, ran, tmp_path):
    other = load_recipe(recipes["second"], ["seed=7"])
    assert tables.take_over(tmp_path / "other", tables.sets_of(other), [ran / "first"]) == []
    assert not (tmp_path / "other" / "images").exists()
    with counting() as spent:
        run_table(other, tmp_path / "other")
    assert spent.made == 12


def test_a_plan_counts_what_tables_have_in_common_once(recipes):
    first, second = load_recipe(recipes["first"]), load_recipe(recipes["second"], variant="grown")
    assert tables.plan({"first": first, "second": second}) == [
        "first: 1 runs, 12 images in 1 sets, 12 of them new",
        "second: 1 runs, 18 images in 1 sets, 6 of them new",
        "all: 18 images in 1 sets",
    ]


def test_orderings_are_those_of_the_tables_side_by_side(ran):
    sets = {"old": orderings.read_set(ran), "new": {"first": orderings.read(ran / "first")}}
    rows = orderings.rows(sets)
    for of_table in (row for row in rows if row["kind"] == "table"):
        own = [
            r
            for r in rows
            if r["kind"] == "ordering" and (r["set"], r["table"]) == (of_table["set"], of_table["table"])
        ]
        there = read_table(ran / of_table["table"])
        assert [o["state"] for o in own] == [o.state for o in there.orderings]
        assert {state: of_table[state] for state in orderings.STATES} == {
            state: Counter(o.state for o in there.orderings)[state] for state in orderings.STATES
        }
        assert of_table["seconds"] >= 0 and of_table["seeds"] == 1
        cells = {
            (r["row"], r["column"]): r["per_seed"]
            for r in rows
            if r["kind"] == "cell" and (r["set"], r["table"]) == (of_table["set"], of_table["table"])
        }
        assert cells == {place: cell.per_seed for place, cell in there.cells.items()}
    assert {row["table"]: row["images"] for row in rows if row["kind"] == "table"} == {"first": 12, "second": 18}
    directions = {row["table"]: (row["better"], row["than"]) for row in rows if row["kind"] == "ordering"}
    assert directions == {"first": ("all", "0"), "second": ("0", "all")}  # as each has it printed


def test_the_page_has_each_table_once_with_its_cost_and_each_ordering_in_all_sets(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", f"old={ran}", f"new={ran}", "--out", str(tmp_path / "found")])
    orderings.main()
    text = (tmp_path / "found.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert Counter(row["kind"] for row in rows) == {"table": 4, "ordering": 4, "cell": 8}  # of two sets of two tables
    assert (
        "| first | old | 12 | 1 |" in text and "| first | new | 12 | 1 |" in text and "| **all** | old | 30 |" in text
    )
    (line,) = [line for line in text.splitlines() if line.startswith("| all better than 0 |")]
    state = rows[1]["state"]
    assert line.count(state) == 2 and "+10.00" in line


def told(name: str, states: dict[tuple[str, str], str]) -> Any:
    """A finished table with these orderings: (where, the better one) -> what became of it."""
    values = {"holds": (0.02, (0.01, 0.03)), "reversed": (-0.02, (-0.03, -0.01)), "undecided": (0.0, (-0.01, 0.01))}
    found = [
        Ordering("columns", at, better, "CLIP", 5.0, *values[state], state) for (at, better), state in states.items()
    ]
    rows, columns = (
        list(dict.fromkeys(at for at, _ in states)),
        ["CLIP", *dict.fromkeys(better for _, better in states)],
    )
    page = TablePage("Title", "", "", rows, columns, {}, orderings=found, seeds=3, source="a paper")
    return orderings.Told(name, page, 6000, 120.0)


def test_states_are_counted_by_table_by_place_and_from_set_to_set():
    before = {("night", "CE"): "undecided", ("night", "SCE"): "reversed", ("x-ray", "CE"): "holds"}
    after = {("night", "CE"): "holds", ("night", "SCE"): "holds", ("sketch", "CE"): "holds"}
    sets = {"old": {"table1": told("table1", before)}, "new": {"table1": told("table1", after)}}
    text = orderings.page(sets, "rows.jsonl")
    assert "| table1 | old | 6,000 | 3 | 2 minutes | 1 | 1 | 1 |" in text
    assert "| table1 | new | 6,000 | 3 | 2 minutes | 3 | 0 | 0 |" in text
    assert "2 orderings of both | holds | reversed | undecided |" in text  # x-ray and sketch are in one set each
    assert "| holds | 0 | 0 | 0 |\n| reversed | 1 | 0 | 0 |\n| undecided | 1 | 0 | 0 |" in text
    assert (
        "| night | 0 / 1 / 1 | 2 / 0 / 0 |\n| x-ray | 1 / 0 / 0 | 0 / 0 / 0 |\n| sketch | 0 / 0 / 0 | 1 / 0 / 0 |"
        in text
    )
    assert (
        "| SCE better than CLIP | night | +5.00 | **reversed**, −2.0 (−3.0 to −1.0) | holds, +2.0 (+1.0 to +3.0) |"
        in text
    )
    assert "| CE better than CLIP | sketch | +5.00 | – | holds, +2.0 (+1.0 to +3.0) |" in text


def test_a_folder_without_tables_is_no_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", f"old={tmp_path}", "--out", str(tmp_path / "found")])
    with pytest.raises(SystemExit):
        orderings.main()
    assert "'old' has no finished table" in capsys.readouterr().err


# ---- benchmarks/generate.py --------------------------------------------------------------------------------------------

generate = tool("generate", "benchmarks")
WAYS = {
    "loop": generate.Way("loop", 2.0, 50),
    "batched": generate.Way("batched", 2.0, 50),
    "old": generate.Way("old", 2.0, 20),
    "figment": generate.Way("figment", 1.5, 4, "build/student"),
}
RATES = {"loop": 1.0, "batched": 4.0, "old": 10.0, "figment": 60.0}


def answers(share: float, n: int = 2000, generations: int = 3) -> np.ndarray:
    """Nested sets of right answers, so that differences are those of the shares alone."""
    return np.tile((np.arange(n) < share * n).astype(float), (generations, 1))


@pytest.mark.parametrize(
    "share, rates, met",
    [
        (0.80, {}, {"loop": True, "batched": True, "old": True}),
        (0.70, {}, {"loop": False, "batched": False, "old": False}),
        (0.80, {"figment": 49.0}, {"loop": False, "batched": True, "old": False}),
        (0.80, {"batched": 5.1}, {"loop": True, "batched": False, "old": True}),
    ],
)
def test_a_target_is_met_by_the_ratio_and_the_lower_end_of_the_difference_together(share, rates, met):
    right = {name: answers(share if name == "figment" else 0.8) for name in WAYS}
    lines = {line[0]: line for line in generate.compared(WAYS, RATES | rates, right)}
    assert {name: lines[name][-1] == "met" for name in met} == met and lines["figment"][-1] == ""
    assert lines["loop"][5] == f"{(RATES | rates)['figment']:.1f}x"
    assert len({len(line) for line in lines.values()}) == 1


def test_answers_come_back_from_the_rows_as_means_over_trainings():
    rng = np.random.default_rng(0)
    right = rng.random((2, 3, 13)) < 0.5
    rows = [
        {"generation": g, "training": t, "n": 13, "right": np.packbits(right[g, t]).tobytes().hex()}
        for t in range(3)
        for g in (1, 0)
    ]
    assert np.allclose(generate.right_of(rows), right.mean(1))


@pytest.fixture
def study(tmp_path, monkeypatch) -> Any:
    """Of few images, with nothing measured yet."""
    asked = [
        "--guidance",
        "1",
        "2",
        "--steps",
        "4",
        "--images",
        "4",
        "--choice-images",
        "4",
        "--cas-images",
        "10",
        "--seeds",
        "1",
    ]
    asked += ["--out", str(tmp_path / "rows.jsonl"), "--work", str(tmp_path / "work")]
    return generate.Study(generate.parsed(asked))


def test_settings_are_chosen_on_the_pool_and_what_is_in_the_rows_is_not_measured_again(study, monkeypatch):
    made: list[Any] = []
    monkeypatch.setattr(study, "spawn", lambda way, samples, to=None: made.append(way) or 2.0)
    monkeypatch.setattr(study, "images", lambda way, n, seed: made.append(way) or way)
    asked_of = set()

    def right(way, split, seed):  # guidance 2 is the better one
        asked_of.add(split)
        return np.arange(10) < (8 if way.guidance == 2 else 5)

    monkeypatch.setattr(study, "right", right)
    ways = study.ways()
    assert {way.guidance for way in ways.values()} == {2.0} and asked_of == {"train"}
    assert [way.steps for way in ways.values()] == [50, 50, 4]
    study.speeds(ways)
    study.learn(ways)
    assert asked_of == {"train", "test"}
    text = generate.page(study, ways)
    assert "| loop | 2 | 50 | 2.00 |" in text and text.count("missed") == 2
    again = generate.Study(study.args)  # from the file
    monkeypatch.setattr(again, "spawn", None)
    monkeypatch.setattr(again, "right", None)
    assert again.ways() == ways
    again.speeds(ways)
    again.learn(ways)
    assert generate.page(again, ways) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop", "batched", "figment"])
def test_each_way_makes_an_image_a_text(name, sd15):
    job = {
        "way": asdict(generate.Way(name, 2.0, 2)),
        "model": str(sd15),
        "texts": ["a", "b", "c"],
        "seeds": [1, 2, 3],
        "to": "",
    }
    images, seconds = generate.make(job)
    assert len(images) == 3 and {image.dtype for image in images} == {np.dtype(np.uint8)} and seconds > 0
    assert {image.shape for image in images} == {images[0].shape} and images[0].ndim == 3


# ---- tools/plans.py --------------------------------------------------------------------------------------------------


def test_the_page_of_plans_and_the_readme_say_what_a_dry_run_says_of_table_1():
    plans, page = tool("plans"), (ROOT / "docs" / "results" / "plans.md").read_text()
    first = plans.plan("he2023/table1")
    assert first.told.images == 6_716_000 and first.hours == pytest.approx(6_716_000 * 0.32 / 3600)
    counted = plans._row(first).rpartition(" | ")[0]  # of its trainings tests make few
    assert counted in page and plans.SOURCES in page
    assert f"| every task makes its own | {plans.images_alone(plans.read(first.name)):,} |" in page
    assert f"{round(first.hours, -2):.0f} hours a seed ([plans]" in (ROOT / "README.md").read_text()
    header = (ROOT / "recipes" / "he2023" / "table1.yaml").read_text().split("name:")[0]
    assert f"all 17 rows take about {round(first.hours, -2):.0f} hours a seed" in header


# ---- tools/calibration -------------------------------------------------------------------------------------------------


def test_rows_of_another_world_do_not_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    one, other = ({"task": task, "generated": 4000} for task in ("fashion", "fashion-night"))
    calibration("rows").Rows(path, one).measure("words", "zero-shot", [{"blur": 0.0}])
    rows = calibration("rows").Rows(path, other)
    assert not rows.rows and not rows.has("words", "zero-shot")
    rows.measure("words", "zero-shot", [{"blur": 0.05}])
    assert len(path.read_text().splitlines()) == 2
    assert [row["blur"] for row in calibration("rows").Rows(path, one).rows] == [0.0]


def test_a_page_keeps_what_somebody_wrote_below_its_numbers():
    page = calibration("page")
    rows = [{"part": "words", "case": "zero-shot", "task": "fashion-night", "generated": 4000, "blur": 0.0}]
    rows[0] |= {"zero-shot %": 40.0, "bias removed %": 45.0}
    text = page.page(rows, "night.jsonl")
    assert "fashion-night" in text and "4,000 generated images" in text and "[night.jsonl](night.jsonl)" in text
    assert "| 0 | 40.0 | 45.0 |" in text and page.written_by_hand(text) == ""
    assert page.written_by_hand(text + "\n***\n\nIt is surprising.\n") == "\n***\n\nIt is surprising.\n"


def test_every_part_of_a_calibration_is_on_the_page():
    rows = [json.loads(line) for line in (ROOT / "docs/results/evidence_first.jsonl").read_text().splitlines()]
    text = calibration("page").page([{**row, "task": "fashion", "generated": 4000} for row in rows], "evidence.jsonl")
    sections = text.split("\n## ")
    assert len(sections) == 1 + len(calibration("notes").NOTES) and all(
        "| --- |" in section for section in sections[1:]
    )
    powers = [line for line in text.splitlines() if line.startswith('| "helps" where something does')]
    assert len(powers) == 3  # of five with right labels, two have a difference that is not positive


@pytest.mark.parametrize(
    "truth, width, expected",
    [
        ([10.0, 10, 10], [1.0, 1, 1], (100, 100)),
        ([0.0, 0, 0], [2.0, 2, 2], (0, 2.5)),
        ([1.0, 9, 9], [2.0, 2, 2], (50, 50)),
        ([1.5, 1.5, 9], [2.0, 2, 2], (67.3, 83.6)),
    ],
)
def test_expected_power_is_that_of_the_least_sure_difference_or_less(truth, width, expected):
    found = calibration("targets").expected_power({"truth in points": truth, "width in points": width})
    assert found == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("asked, fits", [("fashion-night", True), ("fashion", False), ("fashion-sketch", False)])
def test_a_run_is_of_the_task_that_is_asked_for(asked, fits, tmp_path):
    make_images(drawn_by_arithmetic("fashion-night"), tmp_path / "run")
    check = calibration("world").check_is_of
    if fits:
        check(load_task(asked), tmp_path / "run")
    else:
        with pytest.raises(SystemExit, match=rf"run is a run of fashion-night, not of {asked}: .*--set task={asked}"):
            check(load_task(asked), tmp_path / "run")


def test_worlds_differ_by_task_encoder_and_images(clip):
    world = calibration("world").World
    encoder = open_encoder(str(clip))

    def of(task: str, shade: int) -> Any:
        images = MemoryImages([np.full((8, 8, 3), shade, np.uint8)], np.array([0]))
        return world(load_task(task), np.zeros((10, 4)), 1.0, images, 1, images, images, Features(encoder))

    night = of("fashion-night", 1)
    assert night.key == of("fashion-night", 1).key and night.n_classes == 10 and night.facts["generated"] == 1
    assert len({night.key, of("fashion-night", 2).key, of("fashion", 1).key}) == 3
