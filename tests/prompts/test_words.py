"""Articles, names inside sentences, and what is kept of what a model wrote."""

from __future__ import annotations

import pytest

from figment.errors import FigmentError
from figment.prompts.collect import Collected, finish
from figment.prompts.words import fill, find, mentions, tidy, with_article, without_article
from figment.task import Task

TASK = Task(class_names=["cat", "St. Bernard"], synonyms={"cat": ["kitten"]}, templates=["{}", "a {}.", "the {}"])


@pytest.mark.parametrize(
    "text",
    [
        *("an otter", "a cat", "a unicorn", "an umbrella", "a U.S. flag", "an F-16", "an X-ray", "a T-shirt"),
        *("an MRI scan", "an SUV", "a BMW", "an HTML page", "a NASA rocket", "a MINI Cooper", "an A320", "a UFO"),
        *("an hour", "an honour", "a ouija board", "a euphonium", "an R", "a U"),
        *("an hourglass", "a European mole", "an 8-ball", "a bus", "a lens", "a glass", "an iris", "a one-way sign"),
    ],
)
def test_articles_follow_the_sound(text):
    assert with_article(text.split(" ", 1)[1]) == text
    assert without_article(text) == text.split(" ", 1)[1]


@pytest.mark.parametrize(
    ("template", "words", "text"),
    [
        ("a photo of a {}.", "apple", "a photo of an apple."),
        ("a photo of an {}.", "pear", "a photo of a pear."),
        ("A {}, a object", "hourglass", "An hourglass, a object"),  # the words of a template are its author's
        ("{} a {{", "owl", "owl a {{"),
        ("a photo of the {}", "apple", "a photo of the apple"),
        ("a photo of data {}", "apple", "a photo of data apple"),
        ("a {}", "b {}", "a b {}"),
        ("a {}", r"\1 {0}", r"a \1 {0}"),
    ],
)
def test_a_template_takes_the_article_of_what_follows(template, words, text):
    assert fill(template, words) == text


@pytest.mark.parametrize("name", ["a Forest", "An owl", "the Thinker", "trousers", "ankle boots"])
def test_names_with_an_article_and_plurals_get_none(name):
    assert with_article(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A CAT on a mat", "cat"),
        ("the cat's tail", "cat"),
        ("two cats.", "cat"),
        ("st bernards in the snow", "St. Bernard"),
        ("a St.  Bernard, asleep", "St. Bernard"),
        ("soldiers of the US army", "U.S. Army"),
        ("a tshirt", "t-shirt"),
        ("an ankle-boot", "ankle boot"),
        ("puppies", "puppy"),
        ("firemen", "fireman"),
        ("humans", "human"),
        ("knives", "knife"),
        ("cliffs", "cliff"),
        ("boxes", "box"),
        ("a glove", "gloves"),
        ("one trouser", "trousers"),
        ("the forest at dawn", "a Forest"),
        ("一只猫在睡觉", "猫"),
        ("a {} b", "{}"),
        ("cafe\u0301s", "café"),
    ],
)
def test_a_name_is_found_however_it_is_written(text, name):
    assert mentions(tidy(text), [name])


@pytest.mark.parametrize(
    ("text", "name"),
    [("categories", "cat"), ("a tomcat", "cat"), ("a fox", "ox"), ("a bear", "beard"), ("", "cat"), ("a c.a.t.", "{}")],
)
def test_a_part_of_another_word_is_no_name(text, name):
    assert not mentions(text, [name])


def test_find_prefers_the_first_name():
    found = find("a kitten and a cat", ["cat", "kitten"])
    assert found is not None and found.span() == (15, 18)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("  A cat\n on a\tmat . ", "A cat on a mat"),
        ("in the U.S.", "in the U.S."),
        ("zero\0byte ...", "zero byte"),
        ("wait , what ?", "wait, what?"),
        ("a .50 note", "a .50 note"),
    ],
)
def test_tidy(text, tidied):
    assert tidy(text) == tidied


def test_collected_counts_what_it_throws_away_and_stops_at_n():
    one = Collected(TASK, 0, 3)
    for text in ["A cat.", "a CAT", "a kitten", "a dog", "  .", "cat " * 100, "a cat sits", "a cat runs", "a cat"]:
        one.add(text, "x")
    assert [text for text, _, _ in one.taken] == ["A cat", "a kitten", "a cat sits"] and one.missing == 0
    assert one.rejected == {"repeated": 1, "without the class name": 1, "empty": 1, "too long": 1}


def test_templates_fill_in_as_far_as_they_go(capsys):
    short, empty = Collected(TASK, 0, 4), Collected(TASK, 1, 2)
    short.add("a cat", "x", "g")  # which one of the templates says too
    prompts = finish([short, empty], "x", "Mend it.")
    assert [(p.text, p.source, p.group) for p in prompts] == [
        ("a cat", "x", "g"),
        ("cat", "template 0", "000-cat/00001"),
        ("the cat", "template 2", "000-cat/00002"),
        ("St. Bernard", "template 0", "001-st-bernard/00000"),
        ("a St. Bernard.", "template 1", "001-st-bernard/00001"),
    ]
    assert "fewer than 4 for 2 of 2 classes (cat 1, St. Bernard 0)" in capsys.readouterr().out


def test_nothing_at_all_is_an_error_with_advice():
    with pytest.raises(FigmentError, match=r"x wrote no sentence .*1 without the class name\)\. Mend it\."):
        one = Collected(TASK, 0, 4)
        one.add("a dog runs", "x")
        finish([one], "x", "Mend it.")
