"""Tools that read and run many tables: images are shared between them, and orderings are told as the tables have them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from counting import counting
from figment.recipe import load_recipe
from figment.studies.table import read_table, run_table
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


tables, orderings = tool("tables"), tool("orderings")


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
        own = [r for r in rows if r["kind"] == "ordering" and (r["set"], r["table"]) == (of_table["set"], of_table["table"])]
        there = read_table(ran / of_table["table"])
        assert [o["state"] for o in own] == [o.state for o in there.orderings]
        assert {state: of_table[state] for state in orderings.STATES} == {
            state: Counter(o.state for o in there.orderings)[state] for state in orderings.STATES
        }
        assert of_table["seconds"] >= 0 and of_table["seeds"] == 1
    assert {row["table"]: row["images"] for row in rows if row["kind"] == "table"} == {"first": 12, "second": 18}
    directions = {row["table"]: (row["better"], row["than"]) for row in rows if row["kind"] == "ordering"}
    assert directions == {"first": ("all", "0"), "second": ("0", "all")}  # as each has it printed


def test_the_page_has_each_table_once_with_its_cost_and_each_ordering_in_all_sets(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", f"old={ran}", f"new={ran}", "--out", str(tmp_path / "found")])
    orderings.main()
    text = (tmp_path / "found.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len(rows) == 8  # two sets of two tables, each with one ordering
    assert "| first | old | 12 | 1 |" in text and "| first | new | 12 | 1 |" in text and "| **all** | old | 30 |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| all better than 0 |")]
    state = rows[1]["state"]
    assert line.count(state) == 2 and "+10.00" in line


def test_a_folder_without_tables_is_no_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", f"old={tmp_path}", "--out", str(tmp_path / "found")])
    with pytest.raises(SystemExit):
        orderings.main()
    assert "'old' has no finished table" in capsys.readouterr().err
