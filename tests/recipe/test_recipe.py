"""Recipes: every mistake at once and by name, and what is written out loads back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from figment.errors import FigmentError
from figment.recipe import Recipe, load_recipe, validate
from figment.recipe.filters import ClipFilterSettings
from figment.recipe.mistakes import _tag, models_in
from figment.recipe.plugin import Plugin
from figment.recipe.prompts import AttributesSettings, TemplatesSettings
from figment.recipe.unfingerprinted import identity
from figment.stages.plans import images_key, prompts_settings
from figment.task import Task, builtin_names, load_task

TASK = {"class_names": ["cat", "dog"]}


def parts_of(root: type[BaseModel], where: tuple[str, ...] = ()) -> dict[tuple[str, ...], type[BaseModel]]:
    """Every model in a recipe, by the fields and kinds that lead to it."""
    parts = {where: root}
    for name, field in root.model_fields.items():
        models = models_in(field.annotation)
        for model in models:
            parts |= parts_of(model, (*where, name, _tag(model)) if len(models) > 1 else (*where, name))
    return parts


def written(folder: Path, data: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def mistake(data: Any) -> str:
    with pytest.raises(FigmentError) as error:
        validate(data, "it")
    return str(error.value)


# ---- what is right ---------------------------------------------------------------------------------------------------


def test_class_names_alone_are_a_recipe(tmp_path):
    recipe = load_recipe(written(tmp_path, {"task": TASK}))
    assert recipe.task.class_names == ["cat", "dog"] and isinstance(recipe.prompts, AttributesSettings)
    assert [f.kind for f in recipe.filters] == ["blank", "clip"]


def test_only_documented_fields_are_needed():
    needed = {
        (".".join(where), name)
        for where, part in parts_of(Recipe).items()
        for name, field in part.model_fields.items()
        if field.default is PydanticUndefined and field.default_factory is None
    }
    assert needed == {
        ("", "task"),
        ("task", "class_names"),
        ("table", "title"),
        ("table.scaling", "real"),
        ("table.sweep", "fields"),
        ("table.sweep", "then"),
        ("table.reference", "row"),
        ("encoder", "timm"),
        ("evaluate.encoder", "timm"),
        ("train.images_only.encoder", "timm"),
        ("generate.folder", "path"),
        ("prompts.chat", "base_url"),
        ("prompts.chat", "model"),
        ("prompts.synclr", "base_url"),
        ("prompts.synclr", "model"),
        ("prompts.caption_set", "source"),
        ("prompts.contexts", "contexts"),
        ("generate.diffusers.loras", "lora"),
        ("prompts.package.module:Name", "kind"),
        ("generate.cascade", "stages"),
        ("generate.package.module:Name", "kind"),
        ("filters.package.module:Name", "kind"),
        ("train.package.module:Name", "kind"),
    }


def test_a_built_in_task_by_its_name():
    recipe = validate({"task": "fashion"}, "it")
    assert recipe.task == load_task("fashion") and len(recipe.task.class_names) == 10
    assert "fashion" in builtin_names()
    text = mistake({"task": "fashon"})
    assert "no built-in task 'fashon'" in text and "Did you mean 'fashion'?" in text


def test_plugins_are_taken_for_prompts_and_filters():
    recipe = validate(
        {"task": TASK, "prompts": {"kind": "a.b:C"}, "filters": [{"kind": "m:f", "options": {"x": [1]}}]}, "it"
    )
    assert isinstance(recipe.prompts, Plugin) and recipe.filters[0].options == {"x": [1]}


@pytest.mark.parametrize(
    "data",
    [
        {"task": TASK},
        {"task": "fashion", "arms": {"a, b: [c]": {"prompts": {"kind": "templates"}, "filters": []}}},
        {"task": {"class_names": ["null", "yes", "1.5", "a: b", "#x", " é🐱", "`x` |", "<b>", "{x}", "{}"]}},
        {"task": TASK, "filters": [{"kind": "m:f", "options": {"date": "2020-01-01", "on": "off", "x": 1e-7}}]},
        {"task": TASK, "generate": {"model": "/a b/c", "batch_size": 3, "negative_prompt": "\x85\u2028 '\"\\"}},
    ],
)
def test_the_resolved_recipe_loads_back_to_itself(tmp_path, data):
    recipe = validate(data, "it")
    again = load_recipe(written(tmp_path, recipe.to_yaml()))
    assert again == recipe and again.to_yaml() == recipe.to_yaml()
    assert set(yaml.safe_load(recipe.to_yaml())) == set(Recipe.model_fields)


def test_a_run_folder_is_a_recipe(tmp_path):
    written(tmp_path, {"task": TASK, "seed": 7})
    assert load_recipe(tmp_path).seed == 7


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def test_all_mistakes_are_told_at_once_with_the_nearest_names():
    text = mistake(
        {
            "task": {"class_names": ["cat"], "class_nams": []},
            "generate": {"guidence_scale": 3, "images_per_class": 0, "dtype": "fp16"},
            "filters": [{"kind": "blank"}, {"kind": "clip", "treshold": 0.5}],
            "train": {"kind": "clip_head", "epoch": 3},
            "promts": {},
        }
    )
    assert text.startswith("it has 7 mistakes:") and len(text.splitlines()) == 8
    for said in (
        "task.class_nams: there is no such field. Did you mean 'class_names'?",
        "generate.guidence_scale: there is no such field. Did you mean 'guidance_scale'?",
        "generate.images_per_class: input should be greater than or equal to 1 (got '0')",
        "generate.dtype: input should be 'auto', 'float32', 'bfloat16' or 'float16' (got 'fp16')",
        "filters.1.treshold: there is no such field. Did you mean 'threshold'?",
        "train.epoch: there is no such field. Did you mean 'epochs'?",
        "promts: there is no such field. Did you mean 'prompts'?",
    ):
        assert said in text


def test_a_field_of_another_kind_is_told_with_its_kind():
    text = mistake({"task": TASK, "train": {"kind": "words_and_images", "pad": 3}})
    assert "train.pad: there is no such field. It is one of kind: network. Allowed here: seeds" in text


def test_an_unknown_kind_gets_the_list():
    for part in ({"prompts": {"kind": "atributes"}}, {"filters": [{"kind": "clop"}]}):
        text = mistake({"task": TASK, **part})
        assert "kind must be one of" in text and "package.module:Name" in text
    assert "'templates', 'attributes'" in mistake({"task": TASK, "prompts": {"kind": "atributes"}})
    assert "got 'clop'" in mistake({"task": TASK, "filters": [{"kind": "clop"}]})


def test_plugin_is_no_kind_that_can_be_written():
    text = mistake({"task": TASK, "prompts": {"kind": "plugin"}})
    assert (
        "package.module:Name" in text
        and "'plugin'" in text.partition("got")[2]
        and "'plugin'" not in text.partition("got")[0]
    )


def test_a_kind_that_is_not_given_is_asked_for():
    text = mistake({"task": TASK, "prompts": {"per_class": 3}})
    assert "prompts: kind must be" in text and "None" not in text


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "task.class_names: this field is needed"),
        ({"class_names": []}, "two classes or more; class_names has 0"),
        ({"class_names": ["cat"]}, "two classes or more; class_names has 1"),
        ({"class_names": ["cat", " CAT"]}, "class_names holds 'cat' and ' CAT': each class once"),
        ({"class_names": ["cat", " "]}, "a class name is empty"),
        ({"class_names": ["cat", True]}, "task.class_names.1: input should be a valid string (got 'True')"),
        ({"class_names": "cat, dog"}, "task.class_names: input should be a valid list"),
        ({**TASK, "templates": ["a photo"]}, "task.templates.0: a template holds {} once"),
        ({**TASK, "templates": ["{} and {}"]}, "task.templates.0: a template holds {} once"),
        ({**TASK, "templates": []}, "templates is empty"),
        (
            {**TASK, "synonyms": {"cot": ["bed"]}},
            "synonyms names 'cot', which is not in class_names. Did you mean 'cat'?",
        ),
        (
            {**TASK, "real": "photos"},
            "task.real: these are fields with values, such as real: {train: ...}; got 'photos'. Allowed here: train, ",
        ),
        ({**TASK, "real": {"tst": "x"}}, "task.real.tst: there is no such field. Did you mean 'test'?"),
    ],
)
def test_wrong_tasks(task, said):
    assert said in mistake({"task": task})


def test_no_task_at_all():
    assert "task: this field is needed" in mistake({})
    assert mistake({"task": "x"}).endswith("Or give class_names.")
    for data in (None, [], "text", 3):
        assert "it has 1 mistake" in mistake(data)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"few_shot": {"shots": "many"}},
            "few_shot.shots: input should be a valid integer, .*, or 'all' \\(got 'many'\\).",
        ),
        (
            {"few_shot": {"shots": 0}},
            "few_shot.shots: input should be greater than or equal to 1, or 'all' \\(got '0'\\).",
        ),
        ({"generate": {"batch_size": "big"}}, "generate.batch_size: input should be a valid integer, .*, or 'auto'"),
        ({"arms": {"int": 3}}, "arms.int: input should be a valid dict"),  # an arm's name, and no alternative
        ({"arms": {"int": 3, "float": 3}}, "2 mistakes"),
    ],
)
def test_a_number_or_a_word_is_one_mistake(part, said):
    text = mistake({"task": TASK, **part})
    assert re.search(said, text) and ("1 mistake:" in text or "2 mistakes" in said), text


def test_a_rule_that_needs_k_says_so_before_anything_is_generated():
    for rule in ("top_k", "threshold_else_top_k"):
        assert "filters.0: rule 'top_k'".replace("top_k", rule) in mistake(
            {"task": TASK, "filters": [{"kind": "clip", "rule": rule}]}
        )
        assert ClipFilterSettings(rule=rule, k=3).k == 3


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"highest": 0.9, "rule": "top_k", "k": 2}, "highest drops them"),
        ({"highest": 0.5, "threshold": 0.5}, "highest 0.5 must be above threshold 0.5"),
        ({"highest": 0}, "greater than 0"),
    ],
)
def test_windows_of_confidence_that_are_none(window, said):
    assert said in mistake({"task": TASK, "filters": [{"kind": "clip", **window}]})
    assert ClipFilterSettings(highest=0.9, threshold=0.3).highest == 0.9


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_numbers(value):
    assert "generate.guidance_scale" in mistake({"task": TASK, "generate": {"guidance_scale": value}})
    assert "filters.0.minimum_std" in mistake({"task": TASK, "filters": [{"kind": "blank", "minimum_std": value}]})


@pytest.mark.parametrize(
    "text",
    ["a: [", "\t", "task: {{", "a: !!python/object:os.system x", "seed: 2020-13-45", "seed: !!bool x", "\x00"]
    + ["seed: !!timestamp x", "? [a]\n: b", "- a", "", "just words", "seed: !!int ''"],
)
def test_what_is_no_recipe_at_all(tmp_path, text):
    with pytest.raises(FigmentError, match=r"recipe\.yaml"):
        load_recipe(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FigmentError, match=r"There is no recipe .*none\.yaml.*figment init"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(FigmentError, match="a folder without a recipe"):
        load_recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00a: b")
    with pytest.raises(FigmentError, match="cannot be read"):
        load_recipe(tmp_path / "recipe.yaml")


# ---- --set -----------------------------------------------------------------------------------------------------------


def test_set_wins_over_the_file(tmp_path):
    path = written(tmp_path, {"task": "fashion", "generate": {}, "filters": [{"kind": "clip"}]})
    recipe = load_recipe(
        path,
        [
            "generate.guidance_scale=3.5",
            "seed = 4",
            "name=a=b",
            "task.name=mine",
            "task.contexts=[in fog, at sea]",
            "task.real.train=null",
            "filters.0.threshold=0.25",
            "prompts={kind: templates}",
        ],
    )
    assert recipe.generate.guidance_scale == 3.5 and recipe.seed == 4 and recipe.name == "a=b"
    assert recipe.task.name == "mine" and recipe.task.contexts == ["in fog", "at sea"]
    assert recipe.task.class_names == load_task("fashion").class_names and recipe.task.real.train is None
    assert recipe.filters[0].threshold == 0.25 and isinstance(recipe.prompts, TemplatesSettings)


def test_set_reaches_into_defaults(tmp_path):
    """A field that the file leaves to its default can be set as one that the file holds."""
    path = written(tmp_path, {"task": TASK, "generate": None})
    recipe = load_recipe(
        path,
        ["prompts.per_class=7", "filters.1.threshold=0.25", "evaluate.shots.0=2", "task.real.val=v"]
        + ["generate.model=starter"],
    )
    assert recipe.prompts == AttributesSettings(per_class=7) and recipe.filters[1] == ClipFilterSettings(threshold=0.25)
    assert recipe.evaluate.shots[:3] == [2, 2, 4] and recipe.task.real.val == str(tmp_path / "v")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("generate.guidance_scale", "has no '='"),
        ("generate.guidence_scale=3", "Did you mean 'guidance_scale'?"),
        ("generate.guidance_scale=high", "generate.guidance_scale: input should be a valid number"),
        ("seed.x=1", "'seed' is a single value"),
        ("filters.9.k=1", "'9' is no place in a list of 1"),
        ("filters.x=1", "'x' is no place in a list of 1"),
        ("filters.-1=1", "'-1' is no place in a list of 1"),
        ("filters.²=1", "no place in a list of 1"),
        ("seed=[", "is not YAML"),
        ("seed=2020-13-45", "is not YAML"),
        ("=3", "there is no such field"),
        ("a..b=3", "there is no such field"),
        ("task=nope", "no built-in task 'nope'"),
        ("task.class_names.0.x=nope", "is a single value"),
    ],
)
def test_bad_changes(tmp_path, change, said):
    path = written(tmp_path, {"task": TASK, "seed": 1, "filters": [{"kind": "clip"}]})
    with pytest.raises(FigmentError) as error:
        load_recipe(path, [change])
    assert said in str(error.value)


def test_set_into_an_unknown_built_in_task(tmp_path):
    with pytest.raises(FigmentError, match="no built-in task"):
        load_recipe(written(tmp_path, {"task": "fashon"}), ["task.name=x"])


def test_changed_copies_and_checks():
    recipe = validate({"task": TASK}, "it")
    assert recipe.changed({"generate.guidance_scale": 3.0, "filters": []}).filters == []
    assert recipe.generate.guidance_scale == 2.0 and len(recipe.filters) == 2
    with pytest.raises(FigmentError, match="generate.guidance_scale"):
        recipe.changed({"generate.guidance_scale": -1})


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "sub" / "models" / "sd").mkdir(parents=True)
    (tmp_path / "sub" / "fast").mkdir()
    path = written(
        tmp_path / "sub",
        {
            "task": {**TASK, "real": {"test": "photos/test", "train": "/abs/train", "val": "starter/test"}},
            "generate": {"model": "models/sd", "denoiser": "fast"},
            "train": {"encoder": "./clip"},
            "filters": [{"kind": "clip", "model": "../clip"}, {"kind": "clip", "model": "openai/clip"}],
            "arms": {"other": {"generate.model": "./other", "task.real.test": "photos/test"}},
        },
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("sub/recipe.yaml"))
    assert recipe == load_recipe(path)
    real = recipe.task.real
    assert (real.test, real.train, real.val) == (str(tmp_path / "sub/photos/test"), "/abs/train", "starter/test")
    assert recipe.generate.model == str(tmp_path / "sub/models/sd")
    assert recipe.generate.denoiser == str(tmp_path / "sub/fast")
    assert recipe.train.encoder == str(tmp_path / "sub/clip")
    assert [f.model for f in recipe.filters] == [str(tmp_path / "clip"), "openai/clip"]
    assert recipe.arms["other"] == {
        "generate.model": str(tmp_path / "sub/other"),
        "task.real.test": str(tmp_path / "sub/photos/test"),
    }


CHAT = {"base_url": "http://127.0.0.1:1", "model": "m"}
PLACES = {
    "captions": {"kind": "caption_set", "source": "words.txt"},
    "contexts": {"kind": "contexts", "contexts": "words.txt"},
    "backgrounds": {"kind": "synclr", **CHAT, "backgrounds": "words.txt"},
    "concepts": {
        "kind": "synclr",
        **CHAT,
        "concepts": {"words.txt": 0.5, "dtd": 0.5},
        "places": "words.txt",
        "textures": "dtd",
    },
}


@pytest.mark.parametrize("prompts", PLACES.values(), ids=PLACES)
def test_files_of_words_are_relative_to_the_recipe(prompts, tmp_path):
    """Built-in tasks go by their names, also where there is a folder of that name."""
    (tmp_path / "words.txt").write_text("a heron\n")
    (tmp_path / "dtd").mkdir()
    train = {"kind": "stablerep"} if prompts["kind"] in ("caption_set", "synclr") else {"kind": "clip_head"}
    data = {
        "task": {**TASK, "real": {"train": "photos"}},
        "train": train,
        "filters": [],
        "prompts": prompts,
        "arms": {"a": {"prompts": prompts}},
    }
    recipe = load_recipe(written(tmp_path, data))
    absolute = json.loads(json.dumps(prompts).replace("words.txt", str(tmp_path / "words.txt")))
    assert recipe.prompts == recipe.changed({"prompts": absolute}).prompts
    assert recipe.arms["a"]["prompts"] == absolute
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "words.txt").write_text("a heron\n")
    moved = load_recipe(written(tmp_path / "moved", data))
    assert prompts_settings(moved) == prompts_settings(recipe) and images_key(moved) != images_key(recipe)


@pytest.mark.parametrize(
    ("prompts", "reads"),
    [
        ({"kind": "templates"}, "templates"),
        ({"kind": "templates", "templates": ["a {}"]}, ""),
        ({"kind": "attributes"}, "templates synonyms attributes contexts"),
        ({"kind": "attributes", "templates": ["a {}"], "synonyms": False}, "attributes contexts"),
        ({"kind": "seq2seq"}, "templates synonyms"),
        ({"kind": "chat", "base_url": "http://x/v1", "model": "m"}, "templates synonyms attributes contexts"),
        ({"kind": "synclr", "base_url": "http://x/v1", "model": "m"}, "templates synonyms"),
        ({"kind": "captions"}, "templates synonyms attributes contexts"),
        ({"kind": "captions", "vary": False}, "templates synonyms"),
        ({"kind": "contexts", "contexts": "c.csv"}, "templates"),
        ({"kind": "contexts", "contexts": "c.csv", "template": "a {}"}, ""),
        ({"kind": "caption_set", "source": "c.csv", "label_column": "c"}, ""),
        ({"kind": "pandas:DataFrame"}, "templates synonyms attributes contexts"),
    ],
)
def test_tasks_that_differ_in_words_that_no_prompt_has_share_their_images(prompts, reads):
    real = {"train": "/photos"}
    recipe = validate({"task": {**TASK, "real": real}, "prompts": prompts}, "test")
    others = {
        "templates": ["a sketch of a {}."],
        "synonyms": {TASK["class_names"][0]: ["another word"]},
        "attributes": {"colour": ["red"]},
        "contexts": ["on a table"],
    }
    for field, words in others.items():
        other = validate({"task": {**TASK, "real": real, field: words}, "prompts": prompts}, "test")
        assert (images_key(other) != images_key(recipe)) == (field in reads.split()), field


def test_imagenet_and_its_sketches_share_images_of_sentences():
    made = {
        kind: {
            images_key(validate({"task": task, "prompts": {"kind": kind}}, "test"))
            for task in ("imagenet", "imagenet-sketch")
        }
        for kind in ("seq2seq", "attributes")
    }
    assert len(made["seq2seq"]) == 1 and len(made["attributes"]) == 2


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    recipe = load_recipe(written(tmp_path, {"task": {**TASK, "real": {"test": "~/p"}}}))
    assert recipe.task.real.test == "/home/me/p"


@pytest.mark.parametrize("bad", ["~nobody-of-this-name/p", "a\0b", "x" * 5000])
def test_paths_that_cannot_be(tmp_path, bad):
    for data in (
        {"task": {**TASK, "real": {"test": bad}}},
        {"task": TASK, "generate": {"model": bad}},
        {"task": TASK, "generate": {"model": f"./{bad}"}},
    ):
        try:
            load_recipe(written(tmp_path, data))
        except FigmentError as error:
            assert len(str(error)) < 500


# ---- anything --------------------------------------------------------------------------------------------------------

FIELDS = sorted({name for part in parts_of(Recipe).values() for name in part.model_fields} | {"kind"})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(["clip", "blank", "attributes", "templates", "plugin", "a:b", "fashion", "a {}", "top_k", "a/b"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=5), st.integers()), inner, max_size=5),
    ),
    max_leaves=12,
)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(ANYTHING, st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=4))
        for name in Recipe.model_fields
        if name != "task"
    },
).map(lambda data: {"task": TASK, **data})


def refused(call, *arguments) -> Recipe | None:
    try:
        recipe = call(*arguments)
        assert recipe.to_yaml()
        return recipe
    except FigmentError as error:
        str(error).encode()  # it can be printed
        assert str(error)
        return None


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(st.one_of(ANYTHING, RECIPES))
def test_any_data_is_a_recipe_or_a_clear_error(data):
    recipe = refused(validate, data, "it")
    if recipe is not None:
        text = recipe.to_yaml()
        assert validate(yaml.safe_load(text), "it").to_yaml() == text


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECIPES)
def test_any_yaml_is_a_recipe_or_a_clear_error(tmp_path, data):
    recipe = refused(load_recipe, written(tmp_path, data))
    if recipe is not None:
        text = recipe.to_yaml()
        assert load_recipe(written(tmp_path, text)).to_yaml() == text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="task: clsnme[]{}-!&*?|>'\"%@`\n\t,#0123456789.~<=é\ud7ff", max_size=40))
def test_any_text_is_a_recipe_or_a_clear_error(tmp_path, text):
    refused(load_recipe, written(tmp_path, text))
    refused(load_recipe, written(tmp_path, {"task": TASK}), [text])


@pytest.mark.slow
def test_data_that_holds_itself(tmp_path):
    refused(load_recipe, written(tmp_path, "task: &t {class_names: *t, real: *t}"))
    refused(
        load_recipe, written(tmp_path, "task: {class_names: [a, b]}\nfilters: &f [{kind: 'a:b', options: {x: *f}}]")
    )
    refused(load_recipe, written(tmp_path, "a: " + "[" * 5000))


def test_a_task_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Task(class_names=["a", "b"]).name = "x"


# ---- so many images of each prompt -----------------------------------------------------------------------------------


def per_prompt(**generate: Any) -> Recipe:
    return validate({"task": TASK, "prompts": {"kind": "attributes", "per_class": 5}, "generate": generate}, "it")


def test_images_of_a_class_follow_from_those_of_a_prompt():
    own = per_prompt(images_per_prompt=4)
    assert own.generate.images_per_class == 20
    assert validate(yaml.safe_load(own.to_yaml()), "resolved") == own
    assert own.changed({"generate.images_per_prompt": 6}).generate.images_per_class == 30
    assert own.changed({"prompts.per_class": 7}).generate.images_per_class == 28
    other = own.changed({"generate.images_per_class": 9}).generate
    assert (other.images_per_class, other.images_per_prompt) == (9, None)
    assert per_prompt(images_per_class=9).changed({"generate.images_per_prompt": 2}).generate.images_per_class == 10


def test_how_many_images_a_prompt_has_is_in_no_fingerprint_but_by_the_order_of_classes():
    assert images_key(per_prompt(images_per_prompt=4)) == images_key(per_prompt(images_per_prompt=6))
    assert images_key(per_prompt(images_per_prompt=4)) != images_key(per_prompt(images_per_class=20))
    assert "images_per_prompt" not in identity(per_prompt(images_per_class=20).generate)
    captions = {"kind": "caption_set", "source": "c.csv", "per_class": 5}
    filters, train = [{"kind": "blank"}], {"kind": "simclr"}
    none = [
        validate({"task": TASK, "prompts": captions, "generate": g, "filters": filters, "train": train}, "it")
        for g in ({"images_per_prompt": 4}, {"images_per_class": 20})
    ]
    assert images_key(none[0]) == images_key(none[1]) and none[0].generate.images_per_class == 20


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"generate": {"images_per_prompt": 4, "images_per_class": 21}}, "give one of the two"),
        ({"generate": {"images_per_prompt": 4}, "prompts": {"kind": "templates"}}, "how many prompts there are at most"),
        ({"generate": {"images_per_prompt": 10**6}, "prompts": {"kind": "attributes", "per_class": 10**4}}, "lower one of them"),
        ({"generate": {"kind": "folder", "path": "x", "images_per_prompt": 2}, "prompts": {"kind": "of_images"}}, "how many prompts"),
        ({"generate": {"images_per_prompt": 0}}, "generate.images_per_prompt"),
    ],
)  # fmt: skip
def test_so_many_of_each_prompt_where_that_cannot_be(change: dict, told: str):
    assert told in mistake({"task": TASK, "prompts": {"kind": "attributes", "per_class": 5}, **change})
