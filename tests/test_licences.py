"""What may be done with images, by what a generator says of itself and by the table of those that are well known."""

from __future__ import annotations

import pytest

from figment.generate.diffusers import DiffusersGenerator
from figment.licences import GENERATORS, LICENCES, licence_of, uses


def test_what_a_card_states_comes_before_the_table():
    by_table = {"model": "black-forest-labs/FLUX.1-dev@main", "licence": None}
    assert licence_of(by_table) == "flux-1-dev-non-commercial-license" and "not to train a model" in uses(by_table)[0]
    assert (
        licence_of({**by_table, "licence": "MIT"}) == "MIT" and "MIT License" in uses({**by_table, "licence": "MIT"})[0]
    )


@pytest.mark.slow
def test_the_starters_one_card_is_found():
    """It lies above the pipeline's folder, beside all of its models."""
    assert licence_of(DiffusersGenerator(model="starter").describe()) == "apache-2.0"


def test_a_vague_tag_does_not_silence_the_table():
    assert licence_of({"model": "stabilityai/stable-diffusion-xl-base-1.0", "licence": "other"}) == "openrail++"
    assert licence_of({"model": "models/mine", "licence": "other"}) == "other"


@pytest.mark.parametrize("made_by", [{}, {"model": "models/mine"}, {"model": "x", "licence": "not stated"}])
def test_where_nobody_stated_anything_that_is_said(made_by):
    assert licence_of(made_by) == "nobody stated one"
    assert uses(made_by) == [
        "Nobody stated what may be done with these images: the licence of the generator is not known. Ask whoever made it."
    ]


def test_a_licence_that_figment_does_not_know_is_to_be_read():
    (line,) = uses({"model": "x", "licence": "[mine](http://a) 1.0"})
    assert (
        "not known to figment" in line and "mine" not in line
    )  # what a card says stands, escaped, beside the generator


def test_each_stage_of_a_cascade_and_merged_loras_count():
    stages = [
        {"model": "DeepFloyd/IF-I-M-v1.0", "licence": None},
        {"model": "stabilityai/stable-diffusion-x4-upscaler"},
    ]
    made_by = {"model": "both", "stages": [*stages, {**stages[0], "loras": [["0f", 1.0]]}]}
    assert licence_of(made_by) == "deepfloyd-if-license, openrail++"
    lines = uses(made_by)
    assert len(lines) == 3 and "non-commercial research" in lines[0] and "LoRA" in lines[2]


def test_every_generator_of_the_table_has_a_licence_that_names_its_text():
    assert set(GENERATORS.values()) <= LICENCES.keys() and all(tag == tag.lower() for tag in LICENCES)
    assert all(one.text.startswith("https://") for tag, one in LICENCES.items() if not tag.startswith("no model"))
