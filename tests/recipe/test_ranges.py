"""Every number of a recipe has a range, what multiplies has one together, and a dry run of the greatest of all is quick."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import figment
from figment import limits
from figment.context import Context
from figment.errors import FigmentError
from figment.layout import Run
from figment.recipe import Recipe, load_recipe, validate
from figment.saving import PNG
from figment.stages import timing
from figment.stages.images import stage as images_stage
from figment.stages.images.stage import MOST_IMAGES, MOST_PIXELS, price_of
from figment.studies import table_forecast
from figment.studies.arms import forecast_arms
from figment.studies.table_forecast import forecast_table

CLASSES = {"class_names": ["red thing", "green thing"]}


# ---- every number has two ends ---------------------------------------------------------------------------------------


def numbers(schema: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each whole number and fraction of a JSON schema, by its place. Free JSON, as of a plug-in's options, has none."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield ".".join(place), schema
        for name, part in schema.items():
            if name != "default":
                yield from numbers(part, (*place, str(name)))
    elif isinstance(schema, list):
        for i, part in enumerate(schema):
            yield from numbers(part, (*place, str(i)))


def has_two_ends(number: dict[str, Any]) -> bool:
    return {"minimum", "exclusiveMinimum"} & number.keys() and {"maximum", "exclusiveMaximum"} & number.keys()


NUMBERS = dict(numbers(Recipe.model_json_schema()))


def test_every_number_has_a_least_and_a_greatest_value():
    assert [place for place, number in NUMBERS.items() if not has_two_ends(number)] == []
    assert len(NUMBERS) > 120


def test_a_number_without_an_end_is_found():
    assert dict(numbers({"a": [{"type": "integer", "minimum": 1}]})).keys() == {"a.0"}
    assert not has_two_ends({"type": "number", "minimum": 1}) and not has_two_ends({"type": "number", "maximum": 1})


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", 1e300, -1e300])
def test_no_number_is_beyond_all_bounds(value, tmp_path):
    """Of one field of each kind of settings; YAML can write infinity and NaN."""
    fields = [
        "train.unfrozen.learning_rate", "train.learning_rate", "train.weight_decay", "generate.guidance_scale",
        "generate.finetune.scale", "filters.0.minimum_std", "prices.gpu_hour",
    ]  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"task": CLASSES}))
    for field in fields:
        with pytest.raises(FigmentError, match=field.replace(".", r"\.")):
            load_recipe(tmp_path / "recipe.yaml", ["train.kind=clip_head", f"{field}={value}"])


# ---- what multiplies -------------------------------------------------------------------------------------------------

SMALL = {"IMAGES": 10, "PROMPTS": 10, "PIXELS": 1_000, "SHARD_PIXELS": 1_000, "RUNS": 6, "SHOWN": 100, "VARIANTS": 1}
TABLE = {"title": "t", "rows": {"a": {}, "b": {}}, "columns": {"x": {}, "y": {}}}
TOO_MUCH = {
    "class_names x generate.images_per_class: images are 12": {"generate": {"images_per_class": 6}},
    "class_names x prompts of each are 12": {"prompts": {"per_class": 6}, "generate": {"images_per_class": 1}},
    "height x width x batch_size: pixels are 1,152": {"generate": {"height": 24, "width": 24, "batch_size": 2, "images_per_class": 1, "shard_size": 1}},
    "height x width x shard_size: pixels are 1,200": {"generate": {"kind": "procedural", "height": 20, "width": 20, "shard_size": 3, "images_per_class": 1}},
    "image_size squared x batch_size: pixels are 1,024": {"train": {"kind": "network", "image_size": 16, "batch_size": 4}, "generate": {"images_per_class": 1, "shard_size": 1}},
    "image_size squared x batch_size: pixels are 4,096": {
        "train": {"kind": "network", "image_size": 16, "batch_size": 2, "pretrain": {"kind": "simclr", "batch_size": 16}},
        "task": {**CLASSES, "real": {"train": "photos"}},
        "generate": {"images_per_class": 1, "shard_size": 1},
    },
    "epochs x generated images: images shown are 120": {
        "train": {"kind": "clip_head", "epochs": 60},
        "generate": {"images_per_class": 1, "shard_size": 1},
    },
    "2 rows x 2 columns x 2 seeds are 8 runs": {"table": {**TABLE, "seeds": 2}, "generate": {"images_per_class": 1}},
}  # fmt: skip


@pytest.mark.parametrize("said", TOO_MUCH)
def test_what_multiplies_has_a_range_together(monkeypatch, said):
    changes = {"prompts": {"kind": "attributes", "per_class": 1}} | TOO_MUCH[said]
    changes["prompts"] = {"kind": "attributes", **changes["prompts"]}
    validate({"task": CLASSES, **changes}, "it")
    for name, most in SMALL.items():
        monkeypatch.setattr(limits, name, most)
    with pytest.raises(FigmentError, match=said):
        validate({"task": CLASSES, **changes}, "it")


def test_a_recipe_has_no_more_variants_arms_and_filters_than_can_be_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "VARIANTS", 1)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"task": CLASSES, "variants": {"a": {}, "b": {}}}))
    with pytest.raises(FigmentError, match="2 variants, and 1 are the most"):
        load_recipe(path)
    for part, many in (("arms", {str(i): {} for i in range(101)}), ("filters", [{"kind": "blank"}] * 51)):
        with pytest.raises(FigmentError, match=f"{part}: "):
            validate({"task": CLASSES, part: many}, "it")


# ---- a dry run -------------------------------------------------------------------------------------------------------

PROCEDURAL = {"kind": "procedural", "height": 8, "width": 8}


def base(clip: Path, photos: Path, tested: bool = True) -> dict[str, Any]:
    names = ["red_thing", "green_thing", "blue_thing"]
    return {
        "task": {"class_names": names, "real": {s: str(photos / s) for s in ("train", *["test"] * tested)}},
        "prompts": {"kind": "templates"},
        "generate": PROCEDURAL,
        "filters": [{"kind": "blank"}],
        "train": {"kind": "clip_head", "encoder": str(clip)},
        "few_shot": {"shots": 2},
    }


#: Parts of a recipe, each as one kind of settings has it, for the greatest value of each of its numbers in turn.
KINDS = {
    "AttributesSettings": {"prompts": {"kind": "attributes"}},
    "Seq2SeqSettings": {"prompts": {"kind": "seq2seq"}},
    "ChatSettings": {"prompts": {"kind": "chat", "base_url": "http://localhost:1/v1", "model": "m"}},
    "CaptionsSettings": {"prompts": {"kind": "captions"}},
    "ProceduralSettings": {"generate": PROCEDURAL},
    "DiffusersSettings": {"generate": {"model": "sd15"}},  # the fixture
    "ClipHeadSettings": {"train": {}},
    "NetworkSettings": {"train": {"kind": "network", "architecture": "small_cnn", "image_size": 8}},
    "StableRepSettings": {"train": {"kind": "stablerep", "backbone": "test_vit", "image_size": 32, "batch_size": 8}},
    "ImagesOnlySettings": {"train": {"kind": "images_only"}},
    "WordsAndImagesSettings": {"train": {"kind": "words_and_images"}},
    "Evaluate": {"evaluate": {}},
    "FewShot": {"few_shot": {}},
    "Prices": {"prices": {}},
}


def greatest(number: dict[str, Any]) -> Any:
    most = number.get("maximum", number.get("exclusiveMaximum"))
    return most if "maximum" in number else most - 1 if number["type"] == "integer" else most * 0.999


def _of(place: str, value: Any) -> Any:
    """A value of the field: of a list one, of a pair two."""
    return [value] * 2 if "prefixItems" in place else [value] if "items" in place else value


#: What other tests hold, since a dry run of it is one image, or two, as large as they can be.
ELSEWHERE = {"image_size", "crop_scale"}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often functions of figment's are called, and images are drawn: work, whatever machine does it."""
    work: Counter[str] = Counter()
    package = str(Path(figment.__file__).parent)

    def called(frame, *_):  # which returns nothing to trace inside of the function
        if frame.f_code.co_filename.startswith(package):
            work["calls"] += 1
            work["images"] += frame.f_code.co_name == "_draw" and "generate" in frame.f_code.co_filename

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield work
    finally:
        sys.settrace(before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_of_the_greatest_of_each_number_is_bounded(kind, clip, sd15, photos, tmp_path):
    own_numbers = {p: n for p, n in NUMBERS.items() if p.startswith(f"$defs.{kind}.properties.")}
    fields = {p.split(".")[3]: _of(p, greatest(n)) for p, n in own_numbers.items()}
    fields = {name: value for name, value in fields.items() if name not in ELSEWHERE}
    ((part, own),) = KINDS[kind].items()
    if own.get("model") == "sd15":
        own = {**own, "model": str(sd15)}
    for field, value in fields.items():
        data = base(clip, photos, tested=part not in ("prompts", "generate"))  # else trainings are timed too
        data[part] = {**(data.get(part, {}) if kind == "ClipHeadSettings" else {}), **own, field: value}
        try:
            recipe = validate(data, "it")
        except FigmentError as error:
            assert any(
                text in str(error)
                for text in ("at most", "less than", "must hold", "real_share: 1 learns from real images alone")
            ), (field, error)
            continue
        with counted() as work, suppress(FigmentError):  # such as a warm-up that is longer than the training
            forecast_arms(recipe, tmp_path / "out")
        print(f"{kind}.{field} = {value}: {dict(work)}")
        assert work["calls"] < 500_000 and work["images"] <= 1 + MOST_IMAGES, (field, work)
    assert fields and not (tmp_path / "out").exists()


class Large:
    """Images as large as can be, of no bytes."""

    batch_size = 1_000

    def __init__(self, side: int):
        self.side, self.made = side, []

    def __call__(self, prompts, seeds, init=None):
        self.made.append(len(prompts))
        return [np.broadcast_to(np.uint8(7), (self.side, self.side, 3)) for _ in prompts]


@pytest.mark.parametrize(("side", "made"), [(8, [1, MOST_IMAGES]), (100, [1, 5]), (1_000, [1, 1])])
def test_a_trial_batch_has_few_images_where_they_are_large(monkeypatch, side, made):
    assert MOST_PIXELS >= 1_024**2
    monkeypatch.setattr(images_stage, "MOST_PIXELS", 50_000)
    generator = Large(side)
    images_stage._time(generator, ["a"] * 1_000, PNG)
    assert generator.made == made


@pytest.mark.parametrize(("image_size", "n"), [(8, 16), (16, 4), (64, 2)])
def test_a_trial_training_has_few_images_where_they_are_large(monkeypatch, clip, photos, tmp_path, image_size, n):
    seen = []

    class Seen(timing.MemoryImages):
        def __init__(self, images, labels):
            seen.append(len(labels))
            super().__init__(images, labels)

    monkeypatch.setattr(timing, "MemoryImages", Seen)
    monkeypatch.setattr(timing, "PIXELS", 4 * 16**2)
    network = {"kind": "network", "architecture": "small_cnn", "image_size": image_size}
    recipe = validate({**base(clip, photos), "train": network, "few_shot": None}, "it")
    timing.seconds_of_training(Context(recipe, Run(tmp_path)), 100)
    assert seen == [n, n]


ROWS = {f"noise {n}": {"generate.noise": n} for n in range(4)} | {"more": {"generate.images_per_class": 9}}


def test_a_dry_run_of_a_table_times_few_kinds_of_generation(monkeypatch, clip, photos, tmp_path):
    timed = []
    monkeypatch.setattr(table_forecast, "MOST_TIMED", 3)
    monkeypatch.setattr(table_forecast, "price_of", lambda ctx: timed.append(ctx) or price_of(ctx))
    recipe = validate({**base(clip, photos), "table": {**TABLE, "rows": ROWS, "columns": {"x": {}}, "seeds": 2}}, "it")
    said = forecast_table(recipe, tmp_path / "out").text
    assert (
        "10 runs that share 10 sets of 4,854 images in all\ngenerating 4,854 images: about " in said and len(timed) == 3
    )


def test_a_dry_run_of_arms_that_share_images_tries_them_once(clip, photos, tmp_path):
    arms = {f"{n}": {"train.epochs": n} for n in range(1, 4)}
    with counted() as work:
        said = forecast_arms(validate({**base(clip, photos), "arms": arms}, "it"), tmp_path / "out")
    assert [one.costs["images"].text.startswith("uses the images of another run") for one in said.values()] == [
        True
    ] * 3 + [False]
    assert work["images"] <= 1 + MOST_IMAGES
