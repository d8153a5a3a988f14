"""Recipes and programs of version 0.1 are read, and told what replaced their names."""

from __future__ import annotations

import logging

import pytest
import yaml

import figment
from figment._old_names import NAMES
from figment.recipe import load_recipe, validate
from figment.recipe.old_names import FIELDS, MOVED

TASK = {"class_names": ["cat", "dog"]}
OLD = {
    "task": TASK,
    "few_shot": {"shots": 2},
    "generate": {"adapt": {"rank": 4}},
    "train": {"live": {"share": 0.5, "batch_norm": "live"}},
    "evaluate": {"exchange_rate": False, "fidelity": True},
}
NEW = {
    "task": TASK,
    "few_shot": {"shots": 2},
    "generate": {"finetune": {"rank": 4}},
    "train": {"kind": "clip_head", "unfrozen": {"trainable_fraction": 0.5, "batch_norm": "train"}},
    "evaluate": {"exchange_rate": False, "measures": ["recognisability", "frechet"]},
}


def warned(caplog) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


def written(folder, data):
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder / "recipe.yaml"


def test_a_recipe_of_old_is_todays_and_every_old_name_is_told_with_its_new_one(tmp_path, caplog):
    old = load_recipe(written(tmp_path, OLD))
    for field, now in FIELDS.items():
        assert warned(caplog).count(f"{field} is now {now};") == 1
    assert "train.unfrozen.batch_norm: live is now train" in warned(caplog)
    caplog.clear()
    assert old == load_recipe(written(tmp_path, NEW)) == validate(yaml.safe_load(old.to_yaml()), "it")
    assert warned(caplog) == ""


@pytest.mark.parametrize("field", MOVED)
def test_a_tracker_of_a_part_is_now_the_recipes(field, tmp_path, caplog):
    network = {"kind": "network", "architecture": "test_resnet", "pretrain": {"kind": "simclr"}}
    real = {"train": "photos", "test": "photos"}
    (tmp_path / "photos").mkdir()
    data = {"task": {**TASK, "real": real}, "train": network}
    plain = load_recipe(written(tmp_path, data))
    dotted = load_recipe(written(tmp_path, {**data, "arms": {"other": {field: "wandb"}}}), [f"{field}=trackio"])
    assert dotted.track == "trackio" and dotted.arms == {"other": {"track": "wandb"}}
    caplog.clear()
    inner = network if field == "train.track" else network["pretrain"]
    inner["track"] = "tensorboard"
    moved = load_recipe(written(tmp_path, data))
    assert moved == plain.changed({"track": "tensorboard"}) and f"{field} is now track;" in warned(caplog)
    assert load_recipe(written(tmp_path, {**data, "track": "mlflow"})).track == "mlflow"
    caplog.clear()
    inner["track"] = None  # as resolved recipes have it
    assert load_recipe(written(tmp_path, data)) == plain and warned(caplog) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("generate.adapt={rank: 4}", "generate.finetune={rank: 4}"),
        ("generate.adapt.rank=4", "generate.finetune.rank=4"),
        ("train.live.share=0.5", "train.unfrozen.trainable_fraction=0.5"),
        (
            "train.unfrozen={share: 0.5, batch_norm: frozen}",
            "train.unfrozen={trainable_fraction: 0.5, batch_norm: eval}",
        ),
        ("train.live.batch_norm=live", "train.unfrozen.batch_norm=train"),
        ("evaluate.fidelity=true", "evaluate.measures=[recognisability, frechet]"),
        ("evaluate.fidelity=false", "evaluate.measures=[]"),
    ],
)
def test_set_arms_rows_and_changed_take_old_names(tmp_path, caplog, old, new):
    base = {"task": TASK, "few_shot": {}, "train": {"kind": "clip_head"}, "evaluate": {"exchange_rate": False}}
    path = written(tmp_path, base)
    assert load_recipe(path, [old]) == load_recipe(path, [new])
    assert " is now " in warned(caplog)
    (a, b), (c, d) = (text.split("=", 1) for text in (old, new))
    was, now = {a: yaml.safe_load(b)}, {c: yaml.safe_load(d)}
    recipe = load_recipe(path)
    assert recipe.changed(was) == recipe.changed(now)
    assert validate({**base, "arms": {"x": was}}, "it") == validate({**base, "arms": {"x": now}}, "it")
    tables = [{"title": "t", "rows": {"r": own}, "columns": {"c": own}} for own in (was, now)]
    assert validate({**base, "table": tables[0]}, "it") == validate({**base, "table": tables[1]}, "it")


def test_metrics_of_tables_have_new_names(caplog):
    def table(name: str):
        rows = {"r": {"metric": name}}
        return validate({"task": TASK, "table": {"title": "t", "metric": name, "rows": rows, "columns": rows}}, "it")

    assert table("recognised") == table("recognisability")
    assert "metric: recognised is now recognisability" in warned(caplog)


@pytest.mark.parametrize(
    "told",
    [
        {"train": {"soft_weight": 0.2}},
        {"train": {"seeds": 2}, "arms": {"x": {"train.epochs": 3}}},
        {"table": {"title": "t", "rows": {"r": {}}, "columns": {"c": {"train.order": "mix"}}}},
    ],
)
def test_a_recipe_that_says_how_a_head_is_tuned_means_the_one_kind_there_was(tmp_path, caplog, told):
    recipe = load_recipe(written(tmp_path, {"task": TASK, **told}))
    assert recipe.train.kind == "clip_head"
    assert "write train: {kind: clip_head}" in warned(caplog)


def test_one_that_says_nothing_of_the_kind_has_todays_default(tmp_path, caplog):
    path = written(tmp_path, {"task": TASK, "train": {"seeds": 2, "encoder": "starter/clip"}})
    assert load_recipe(path).train.kind == "words_and_images" and warned(caplog) == ""
    assert load_recipe(written(tmp_path, {"task": TASK}), ["train.epochs=3"]).train.kind == "clip_head"


def test_where_both_names_are_given_todays_wins(tmp_path):
    assert load_recipe(
        written(tmp_path, {**NEW, "generate": {"adapt": {"rank": 9}, "finetune": {"rank": 4}}})
    ) == load_recipe(written(tmp_path, NEW))
    assert load_recipe(
        written(tmp_path, {**OLD, "generate": {"adapt": {"rank": 4}, "finetune": None}})
    ).generate.finetune


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_old_name_of_the_package_is_there_or_says_where_it_went(name, recwarn):
    assert getattr(figment, name) is not None
    told = [str(w.message) for w in recwarn if w.category is DeprecationWarning and "figment." in str(w.message)]
    assert bool(told) == (name not in figment.__all__)
    for text in told:
        assert text.startswith(f"figment.{name} is now figment.")
