"""Words to prompts: the texts themselves, how many there are, and ids that are safe as paths."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import yaml

from figment import shards
from figment.errors import FigmentError
from figment.prompts.attributes import Attributes
from figment.prompts.ids import prompt_id
from figment.prompts.templates import Templates
from figment.recipe import validate
from figment.recipe.unfingerprinted import identity
from figment.task import Task, load_task
from given_of import GivenOf


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


SMALL = Task(
    class_names=["shoe", "ankle boot"],
    attributes={"tone": ["dark", "old"], "cut": ["wide"]},
    contexts=["on a table"],
    synonyms={"shoe": ["sneaker"]},
)


# ---- strategy B ------------------------------------------------------------------------------------------------------


def test_templates_say_the_class_name_and_nothing_else():
    prompts = Templates(["a photo of a {}.", "{}"])(SMALL, 10, rng())
    assert [p.text for p in prompts] == ["a photo of a shoe.", "shoe", "a photo of an ankle boot.", "ankle boot"]
    assert [p.label for p in prompts] == [0, 0, 1, 1]
    assert [p.id for p in prompts] == [
        "000-shoe/00000",
        "000-shoe/00001",
        "001-ankle-boot/00000",
        "001-ankle-boot/00001",
    ]
    assert [p.group for p in prompts] == [p.id for p in prompts]


def test_a_table_of_a_paper_has_its_templates_to_the_letter():
    exact = Templates(["a photo of a {}."], articles="exact")(SMALL, 1, rng())
    assert [p.text for p in exact] == ["a photo of a shoe.", "a photo of a ankle boot."]


def test_prompts_that_were_recorded_before_there_were_articles_stay_valid():
    def settings(**changes):
        recipe = validate({"task": {"class_names": ["a", "b"]}, "prompts": {"kind": "templates", **changes}}, "it")
        return identity(recipe.prompts)

    assert settings() == settings(articles="fitting") == {"kind": "templates", "templates": None}
    assert settings(articles="exact")["articles"] == "exact"


def test_templates_default_to_the_tasks_and_stop_at_n():
    assert [p.text for p in Templates()(SMALL, 5, rng())] == ["a photo of a shoe.", "a photo of an ankle boot."]
    assert len(Templates(["{} 1", "{} 2", "{} 3"])(SMALL, 2, rng())) == 4


def test_braces_in_a_class_name_are_letters():
    task = Task(class_names=["{}", "{0.__class__}"])
    for writer in (Templates(["a {}"]), Attributes(["a {}"])):
        assert [p.text for p in writer(task, 1, rng())] == ["a {}", "a {0.__class__}"]


# ---- attributes ------------------------------------------------------------------------------------------------------


def possible(task: Task, name: str) -> set[str]:
    """Everything the grammar can say, written out."""
    out = set()
    for noun in [name, *task.synonyms.get(name, [])]:
        for tone in ["", "dark ", "old "]:
            for cut in ["", "wide "]:
                for context in ["", " on a table"]:
                    text = f"a photo of a {tone}{cut}{noun}{context}"
                    out.add(re.sub(r"\ba (?=[aeiou])", "an ", text))
    return out


def test_the_grammar_is_drawn_without_repeats_to_its_last_prompt():
    task = SMALL.model_copy(update={"synonyms": {"shoe": ["sneaker"], "ankle boot": ["boot"]}})
    prompts = Attributes()(task, 24, rng())
    for label, name in enumerate(task.class_names):
        assert {p.text for p in prompts if p.label == label} == possible(task, name)
    assert len({p.id for p in prompts}) == len(prompts) == 48


def test_the_seed_decides():
    texts = [[p.text for p in Attributes()(load_task("fashion"), 20, rng(s))] for s in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_fewer_prompts_are_the_first_of_more():
    few, more = (Attributes()(load_task("fashion"), n, rng(0)) for n in (5, 20))
    assert [p.text for p in few[:5]] == [p.text for p in more[:5]]


def test_every_kind_of_word_is_used_and_half_name_the_class():
    task = load_task("fashion")
    texts = [p.text for p in Attributes()(task, 100, rng())][:100]  # of the t-shirt
    for words in [*task.attributes.values(), task.contexts]:
        assert 0.25 < np.mean([any(w in t for w in words) for t in texts]) < 0.85
    assert 0.3 < np.mean(["t-shirt" in t for t in texts]) < 0.7


def test_synonyms_can_be_left_out():
    assert not any("sneaker" in p.text for p in Attributes(synonyms=False)(SMALL, 12, rng()))


def test_too_few_possible_prompts_are_an_error_with_their_number():
    with pytest.raises(FigmentError, match=r"only 12 different prompts for the class 'ankle boot', and 13 were"):
        Attributes()(SMALL, 13, rng())
    with pytest.raises(FigmentError, match=r"only 1 different .*prompts\.per_class to 1 or less"):
        Attributes()(Task(class_names=["a", "b"]), 2, rng())
    assert len(Attributes()(SMALL, 12, rng())) == 24


def test_class_names_are_all_a_recipe_needs():
    recipe = validate({"task": {"class_names": ["cat", "dog"]}}, "recipe")
    writer = recipe.prompts.build(GivenOf(recipe))
    assert [p.text for p in writer(recipe.task, recipe.prompts.n_prompts(8), rng())] == [
        "a photo of a cat",
        "a photo of a dog",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ankle boot", "a photo of an ankle boot"),
        ("shoe", "a photo of a shoe"),
        ("Airedale terrier", "a photo of an Airedale terrier"),
        ("orange", "a photo of an orange"),
        ("Siamese cat", "a photo of a Siamese cat"),
    ],
)
def test_articles(name, text):
    assert Attributes()(Task(class_names=[name, "x"]), 1, rng())[0].text == text


def test_the_article_goes_with_the_word_behind_it():
    task = Task(class_names=["ankle boot", "x"], attributes={"tone": ["dark"], "age": ["old"]})
    texts = {p.text for p in Attributes()(task, 4, rng()) if p.label == 0}
    assert texts == {
        "a photo of an ankle boot",
        "a photo of a dark ankle boot",
        "a photo of an old ankle boot",
        "a photo of a dark old ankle boot",
    }


def test_each_prompt_tells_the_attributes_it_asks_for():
    for prompt in Attributes()(SMALL, 10, rng()):
        said = dict(prompt.attributes)
        assert list(said) == ["tone", "cut", "context"]
        for word in ("dark", "old", "wide", "on a table"):
            assert (word in said.values()) == (f" {word}" in prompt.text)


def test_a_kind_called_context_is_the_tasks_own():
    task = Task(class_names=["a", "b"], attributes={"context": ["red"]}, contexts=["at sea"])
    assert {dict(p.attributes)["context"] for p in Attributes()(task, 4, rng())} == {"red", ""}


def test_a_context_follows_the_sentence_without_its_full_stop():
    task = Task(class_names=["cat", "dog"], contexts=["at sea"])
    assert {p.text for p in Attributes(["a {}."])(task, 2, rng()) if p.label == 0} == {"a cat.", "a cat at sea"}


def test_empty_lists_of_words_are_no_words():
    task = Task(class_names=["cat", "dog"], attributes={"tone": []}, synonyms={"cat": []})
    assert Attributes(["{}"])(task, 1, rng())[0].text == "cat"


# ---- ids -------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/passwd",
    "a/b",
    "a b",
    "a&b",
    "$(rm -rf /)",
    "猫",
    "犬",
    "-",
    "C",
    "C++",
    "x" * 500,
    "<b>",
    "con",
    "..",
]


@pytest.mark.parametrize("writer", [Templates(["a {}"]), Attributes(["a {}"])])
def test_hostile_class_names_give_safe_unique_ids(writer):
    prompts = writer(Task(class_names=HOSTILE), 1, rng())
    ids = [p.id for p in prompts]
    assert len(set(ids)) == len(HOSTILE)
    for id in ids:
        assert re.fullmatch(r"\d{3,}-[a-z0-9-]{1,40}/\d{5}", id) and len(PurePosixPath(id).parts) == 2
    assert all(
        p.text in (f"a {name}", f"an {name}") for p, name in zip(prompts, HOSTILE, strict=True)
    )  # as the user wrote it


def test_ids_of_many_classes_and_prompts_stay_unique():
    assert len({prompt_id(c, "x", i) for c in (0, 1, 10, 999, 1000, 21_000) for i in (0, 9, 99_999, 100_000)}) == 24


# ---- the page about them ---------------------------------------------------------------------------------------------


def test_the_recipes_of_the_page_hold():
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    kinds = []
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        task = {"class_names": ["cat", "dog"], "real": {"train": "photos"}}
        recipe = validate(
            {"task": task, "filters": [], "train": {"kind": "simclr"}, **yaml.safe_load(block)}, "docs/prompts.md"
        )
        kinds.append(recipe.prompts.kind)
    assert kinds == ["templates", "attributes", "seq2seq", "chat", "synclr", "caption_set", "captions"]


# ---- where the words come from ---------------------------------------------------------------------------------------


def test_writers_say_where_their_words_come_from():
    assert [p.source for p in Templates(["a {}", "the {}"])(SMALL, 2, rng())] == ["template 0", "template 1"] * 2
    assert {p.source for p in Attributes()(SMALL, 3, rng())} == {"attributes"}


def test_the_source_is_kept_and_shards_without_one_still_open():
    prompts = Attributes()(SMALL, 3, rng())
    table = shards.prompt_table(prompts, SMALL.class_names)
    assert shards.read_prompts(table) == prompts
    before = shards.read_prompts(table.drop_columns(["source"]))
    assert before == [replace(p, source="") for p in prompts]
