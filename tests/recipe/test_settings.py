"""Settings build their objects, say what these look at, and what of them belongs to no fingerprint."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from figment.errors import FigmentError
from figment.recipe import Recipe, validate
from figment.recipe.mistakes import models_in
from figment.recipe.unfingerprinted import UNFINGERPRINTED, identity

TASK = {"class_names": ["cat", "dog"]}


def recipe(**parts) -> Recipe:
    return validate({"task": TASK, **parts}, "it")


# ---- what they build -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({"kind": "blank"}, set()),
        ({"kind": "clip"}, set()),
        ({"kind": "real"}, {"train"}),
        ({"kind": "centroid"}, set()),
        ({"kind": "centroid", "of": "real"}, {"train"}),
        ({"kind": "memorised"}, {"train", "test"}),
        ({"kind": "a.b:C"}, set()),
    ],
)
def test_filters_say_which_real_images_they_look_at(settings, needs):
    assert recipe(filters=[settings]).filters[0].needs == needs


@pytest.mark.parametrize(
    ("prompts", "n"),
    [
        ({"kind": "attributes"}, 50),
        ({"kind": "attributes", "per_class": 7}, 7),
        ({"kind": "seq2seq", "per_class": 7}, 7),
        ({"kind": "captions", "per_class": 7}, 7),
        ({"kind": "chat", "base_url": "http://localhost/v1", "model": "m", "per_class": 7}, 7),
    ],
)
def test_more_images_do_not_change_the_prompts(prompts, n):
    assert {recipe(prompts=prompts).prompts.n_prompts(images) for images in (3, 40, 400)} == {n}


def test_a_plugin_is_asked_for_a_prompt_an_image_and_templates_for_all_of_them():
    assert recipe(prompts={"kind": "a.b:C"}).prompts.n_prompts(30) == 30
    own = recipe(prompts={"kind": "templates", "templates": ["{} 1", "{} 2", "{} 3"]})
    given = SimpleNamespace(task=own.task)
    assert len(own.prompts.build(given)(own.task, own.prompts.n_prompts(2), None)) == 6


def test_guidance_is_resolved_for_the_shots_there_are():
    own = recipe(few_shot={"shots": 16}, generate={"real_guidance": {}})
    t_star = {n: own.generate.build(SimpleNamespace(shots_per_class=n)).real_guidance.t_star for n in (1, 16)}
    assert t_star == {1: 50, 16: 15}
    assert own.generate.guided and not own.generate.finetunes


def test_finetuning_needs_real_images():
    own = recipe(generate={"finetune": {}})
    given = SimpleNamespace(real=lambda split: None, task=own.task, seed=0, shots_per_class=None)
    assert own.generate.finetunes
    with pytest.raises(FigmentError, match=r"generate\.finetune tunes the generator on real training images"):
        own.generate.finetuning(given, own.generate.build(given), None)
    assert recipe(generate={"kind": "procedural"}).generate.finetuning(given, None, None) is None


# ---- learners --------------------------------------------------------------------------------------------------------


def test_words_and_images_are_what_a_recipe_trains_that_names_no_kind():
    assert recipe().train == recipe(train={}).train == recipe(train={"kind": "words_and_images"}).train
    assert recipe(train={"seeds": 2}).train.kind == "words_and_images"
    assert recipe(train={"seeds": 2}).evaluate.exchange_rate


def test_other_learners_know_no_head_and_measure_no_exchange_rate_unless_asked():
    own = recipe(train={"kind": "a.b:C", "seeds": 2}, seed=1)
    assert own.training_seeds == (2, 3) and own.train.select == "last" and own.train.images_per_class is None
    assert not own.evaluate.exchange_rate and recipe().evaluate.exchange_rate
    assert recipe(train={"kind": "a.b:C"}, evaluate={"exchange_rate": True}).evaluate.exchange_rate
    assert validate(own.model_dump(mode="json"), "it") == own


def test_filters_look_with_the_recipes_encoder_or_that_of_the_head():
    assert recipe().encoder_name == recipe(train={"kind": "a.b:C"}).encoder_name == "starter/clip"
    assert recipe(train={"encoder": "x/y"}).encoder_name == "x/y"
    assert recipe(train={"encoder": "x/y"}, encoder="o/p").encoder_name == "o/p"


def test_another_kind_starts_from_its_own_defaults():
    own = recipe(train={"epochs": 3, "seeds": 5}, generate={"guidance_scale": 3.0, "images_per_class": 9})
    changed = own.changed({"train.kind": "a.b:C", "generate.kind": "procedural", "evaluate.exchange_rate": False})
    assert changed.train.kind == "a.b:C" and changed.train.seeds == 5
    assert changed.generate.kind == "procedural" and changed.generate.images_per_class == 9
    assert own.changed({"train.kind": "clip_head"}) == own


def test_measures_are_known_by_name():
    assert recipe(evaluate={"measures": ["frechet", "frechet"]}).evaluate.measures == ["frechet"]
    with pytest.raises(
        FigmentError, match=r"evaluate\.measures: there is no measure 'frechett'. Did you mean 'frechet'"
    ):
        recipe(evaluate={"measures": ["frechett"]})


# ---- fingerprints ----------------------------------------------------------------------------------------------------


def test_every_field_of_the_table_is_one_of_a_recipe():
    for field, reason in UNFINGERPRINTED.items():
        part, *names = field.split(".")
        models = models_in(Recipe.model_fields[part].annotation)
        for name in names:
            assert (part, name) == ("train", "workers") or any(name in m.model_fields for m in models), field
            models = [n for m in models if name in m.model_fields for n in models_in(m.model_fields[name].annotation)]
        assert reason


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"generate.device": "cpu"}, False),
        ({"generate.batch_size": 3}, False),
        ({"generate.finetune.gradient_checkpointing": True}, False),
        ({"generate.finetune.rank": 3}, True),
        ({"generate.guidance_scale": 3.0}, True),
        ({"train.batch_size": 3}, True),  # images a step, here
        ({"train.allow_pickle": True}, False),
        ({"task.name": "x"}, False),
        ({"task.templates": ["{}"]}, True),
        ({"prompts.per_class": 3}, True),
        ({"filters.0.minimum_std": 3.0}, True),
    ],
)
def test_what_belongs_to_a_fingerprint(change, counts):
    own = recipe(generate={"finetune": {}}, few_shot={}, train={"kind": "clip_head"})
    changed = own.changed(change)
    part = next(iter(change)).partition(".")[0]
    a, b = (getattr(r, part) for r in (own, changed))
    a, b = (a[0], b[0]) if isinstance(a, list) else (a, b)
    assert (identity(a) != identity(b)) == counts


def test_more_may_be_left_out_as_a_set_can_grow():
    own = recipe()
    assert "images_per_class" in identity(own.generate)
    left = identity(own.generate, without=("images_per_class", "shard_size"))
    assert left == identity(own.changed({"generate.images_per_class": 7}).generate, ("images_per_class", "shard_size"))
    with pytest.raises(TypeError, match="no part of a recipe"):
        identity(own)


@pytest.mark.parametrize(
    ("images", "own", "size"),
    [
        (400_000, {"height": 64, "width": 64}, 256),  # 800,000 of two classes
        (500_000, {"height": 64, "width": 64}, 4_096),
        (500_000, {"height": 64, "width": 64, "shard_size": 300}, 300),
        (500_000, {"height": 1024, "width": 1024, "save_size": 256}, 1_024),
        (500_000, {"height": 1024, "width": 1024, "save_size": 256, "format": "jpeg"}, 4_096),
        (500_000, {"height": 1024, "width": 1024}, 256),
        (500_000, {}, 256),  # of 32 pixels, for all that the recipe says
    ],
)
def test_a_million_small_images_lie_in_larger_files(images, own, size):
    generate = {"kind": "diffusers", "images_per_class": images, **own}
    made = validate({"task": {"class_names": ["a", "b"]}, "generate": generate}, "it")
    assert made.generate.shard_size == size
    assert made.changed({"seed": 3}).generate.shard_size == size
