"""Captions of real images: a tiny BLIP that was taught to say their colour, and untaught ones of other families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import (
    BertTokenizer,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

import tiny
from figment import shards
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.prompts.captions import Captions, varied_caption
from figment.recipe import validate
from figment.run import make_images, run_recipe
from figment.task import Task
from figment.types import Images

NAMES = ["red thing", "green thing", "blue thing"]
TASK = Task(class_names=NAMES, attributes={"age": ["old", "new"]}, contexts=["in June", "in May"])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny.captioner(tmp_path_factory.mktemp("models") / "captioner"))


@pytest.fixture(scope="module")
def images(photos) -> Images:
    return open_images(photos / "train", NAMES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_captions_are_different_say_their_class_and_know_their_image(model, images):
    prompts = Captions(images, model)(TASK, 10, rng())
    assert len({p.text for p in prompts}) == len({p.id for p in prompts}) == 30
    for p in prompts:
        assert NAMES[p.label] in p.text
        image = p.source.removeprefix("caption of ")
        assert image.startswith(NAMES[p.label].replace(" ", "_")) and p.group == f"image {image}"
    # Each image in turn: of 6 a class, 10 prompts come from all.
    assert len({p.group for p in prompts}) == 18


def test_captions_see_the_image(model, images):
    """Given the wrong class, they say so: what they say comes from the pixels."""
    wrong = open_images(Path(str(images.paths[0].parents[1])), NAMES)  # type: ignore[attr-defined]
    wrong.labels[:] = (wrong.labels + 1) % 3  # type: ignore[index]
    prompts = Captions(wrong, model, vary=False, max_tries=1)(TASK, 10, rng())
    right = [p for p in prompts if not p.text.startswith("a photo of") and p.source != "template 0"]
    assert not right


def test_a_caption_that_says_another_class_is_thrown_away(model, images, capsys):
    swapped = Task(class_names=[NAMES[1], NAMES[2], NAMES[0]])
    prompts = Captions(images, model)(swapped, 4, rng())
    assert "that say another class" in capsys.readouterr().out
    for p in prompts:
        assert not any(other in p.text for other in NAMES if other != swapped.class_names[p.label])


def test_a_caption_without_the_class_gets_it_in_front(model, images):
    prompts = Captions(images, model, prefix="one {} here")(TASK, 25, rng())
    prefixed = [p.text for p in prompts if "a man" in p.text and "varied" not in p.source]
    assert prefixed and all(f"one a {NAMES[0]} here, a man" in text for text in prefixed if NAMES[0] in text)
    otter = Task(class_names=["otter", "owl", "asp"])
    assert all(
        p.text.startswith(f"a photo of an {otter.class_names[p.label]}, a ")
        for p in Captions(images, model)(otter, 4, rng())
    )


def test_neither_the_batch_nor_other_images_change_a_caption(model, images):
    whole = Captions(images, model)(TASK, 8, rng())
    assert Captions(images, model, batch_size=3)(TASK, 8, rng()) == whole
    assert Captions(images, model)(TASK, 8, rng(1)) != whole
    reds = images.take(np.flatnonzero(images.labels == 0))
    alone = Captions(reds, model)(TASK, 8, rng())
    assert [p for p in alone if p.label == 0] == [p for p in whole if p.label == 0]


def test_a_class_without_images_gets_templates(model, images, capsys):
    reds = images.take(np.flatnonzero(images.labels == 0))
    prompts = Captions(reds, model)(TASK, 3, rng())
    assert [p.source for p in prompts if p.label] == ["template 0"] * 2
    assert "fewer than 3 for 2 of 3 classes (green thing 0, blue thing 0)" in capsys.readouterr().out


def test_few_captions_are_varied_with_the_tasks_words(model, images):
    few = images.take([0])
    sure = {"temperature": 1e-4, "max_tries": 1}  # the same caption every time
    task = TASK.model_copy(update={"class_names": [NAMES[int(few.labels[0])], "x"]})
    few.labels[:] = 0  # type: ignore[index]
    prompts = [p for p in Captions(few, model, **sure)(task, 8, rng()) if p.label == 0]
    first, *varied = prompts
    assert len({p.text for p in prompts}) == 8
    assert {p.source for p in varied} == {f"{first.source}, varied"} and {p.group for p in prompts} == {first.group}
    assert all(any(w in p.text for w in ("old", "new", "in June", "in May")) for p in varied)
    unvaried = Captions(few, model, vary=False, **sure)(task, 8, rng())
    assert [p.source for p in unvaried if p.label == 0] == [first.source, "template 0"]


def test_variation_keeps_the_grammar():
    task = Task(class_names=["owl", "cat"], attributes={"age": ["young"], "mood": ["angry"]}, contexts=["at night"])
    said = {varied_caption("An owl and a mouse", ["owl"], task, rng(i)) for i in range(50)}
    assert said == {
        f"{subject} and a mouse{context}"
        for subject in ("An owl", "A young owl", "An angry owl", "A young angry owl")
        for context in ("", " at night")
    }
    bare = Task(class_names=["owl", "cat"], attributes={"age": []})
    assert varied_caption("An owl", ["owl"], bare, rng()) == "An owl"


# ---- models ----------------------------------------------------------------------------------------------------------


def _words(folder: Path) -> int:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(40))]
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return len(words)


def git(folder: Path) -> Path:
    """Microsoft's GIT, the default, with random weights."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    vision = {**small, "image_size": 16, "patch_size": 8}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    GitForCausalLM(GitConfig(vision_config=vision, vocab_size=_words(folder), **small, **ids)).save_pretrained(folder)
    return folder


def vit_gpt2(folder: Path) -> Path:
    """A vision-encoder-decoder, such as ViT-GPT2, with random weights."""
    vit = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=16, patch_size=8
    )
    gpt2 = GPT2Config(vocab_size=_words(folder), n_embd=32, n_layer=1, n_head=4, n_positions=64)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vit, gpt2)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    VisionEncoderDecoderModel(config=config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", [git, vit_gpt2])
def test_captioners_of_other_families(family, images, tmp_path):
    (tmp_path / "m").mkdir()
    made = [Captions(images, str(family(tmp_path / "m")), batch_size=b, max_new_tokens=6) for b in (4, 16)]
    prompts, again = (writer(TASK, 5, rng()) for writer in made)
    assert prompts == again and len({p.text for p in prompts}) == 15
    assert all(p.text.startswith(f"a photo of a {NAMES[p.label]}, ") and "word" in p.text for p in prompts)


def test_a_model_that_captions_nothing(images, clip):
    with pytest.raises(FigmentError, match="cannot be opened by transformers .* as AutoModelForImageTextToText"):
        Captions(images, str(clip))(TASK, 2, rng())


# ---- the whole path --------------------------------------------------------------------------------------------------


def recipe(model: str, clip: Path, photos: Path, *splits: str):
    data = {
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in splits}},
        "prompts": {"kind": "captions", "model": model, "per_class": 4},
        "generate": {"kind": "procedural", "images_per_class": 8},
        "filters": [{"kind": "blank"}],
        "train": {"encoder": str(clip), "epochs": 1, "seeds": 1},
        "evaluate": {"real_all": False, "exchange_rate": False},
    }
    return validate(data, "test")


@pytest.mark.slow
def test_a_whole_run_captions_training_images_and_no_others(model, clip, photos, tmp_path):
    outcome = run_recipe(recipe(model, clip, photos, "train", "val", "test"), tmp_path / "run")
    assert "gain/synthetic" in outcome.results
    prompts = shards.prompts_in(tmp_path / "run" / "prompts")
    assert len(prompts) == 12 and all(p.source.startswith("caption of ") for p in prompts)
    # The captions are those of a run that has no other images than these.
    run_recipe(recipe(model, clip, photos, "train"), tmp_path / "train-only")
    only = shards.prompts_in(tmp_path / "train-only" / "prompts")
    assert only == prompts


def test_images_are_an_input_of_the_prompts(model, clip, photos, tmp_path):
    run_recipe(recipe(model, clip, photos, "train"), tmp_path / "run")
    other = recipe(model, clip, photos, "train").changed({"task.real.train": str(photos / "val")})
    with pytest.raises(FigmentError, match="writer was .* and is now"):
        run_recipe(other, tmp_path / "run")


def test_without_training_images_it_says_so_before_anything_is_made(model, clip, photos, tmp_path):
    with pytest.raises(FigmentError, match=r"no images to caption\. Set task\.real\.train"):
        run_recipe(recipe(model, clip, photos, "test"), tmp_path / "run")
    assert not (tmp_path / "run" / "prompts").exists()


def test_a_image_that_cannot_be_read_is_left_out(model, clip, photos, tmp_path):
    import shutil

    shutil.copytree(photos / "train", tmp_path / "train")
    (tmp_path / "train" / "red_thing" / "0.png").write_bytes(b"no image")
    run_recipe(recipe(model, clip, tmp_path, "train"), tmp_path / "run")
    prompts = shards.prompts_in(tmp_path / "run" / "prompts")
    assert len(prompts) == 12 and not any("red_thing/0.png" in p.source for p in prompts)


def test_only_captions_need_the_images_of_a_run(model, clip, photos, tmp_path):
    """A machine that only writes prompts may not have the real images."""
    away = {"task.real.test": str(tmp_path / "elsewhere"), "prompts": {"kind": "templates"}}
    own = recipe(model, clip, photos, "test").changed(away)
    make_images(own, tmp_path / "images-alone")
    assert len(shards.prompts_in(tmp_path / "images-alone" / "prompts")) == 3
    with pytest.raises(FigmentError, match="elsewhere does not exist"):
        run_recipe(own, tmp_path / "run")
