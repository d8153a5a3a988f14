"""Captions for concepts, by SynCLR's recipe, from a server of our own on loopback."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from chatting import Server, fails, says
from figment.errors import FigmentError
from figment.prompts.chat_model import ChatModel
from figment.prompts.check import check_prompts
from figment.prompts.name_lists import names_of
from figment.prompts.server import ChatServer
from figment.prompts.synclr import N_BACKGROUNDS, RELATIONS, SHARES, Bank, SynCLR, Wanted, instruction
from figment.prompts.synclr_examples import EXAMPLES
from figment.prompts.words import mentions
from figment.recipe import validate
from figment.task import Task

TASK = Task(class_names=["cat", "dog"], synonyms={"cat": ["kitten"]}, templates=["a photo of a {}."])
BANK = Bank([(3.0, ["heron", "teapot"]), (1.0, ["boat"])], places=["harbour"], textures=["woven"])


def answers(name: str, k: int, seed: int) -> str:
    if k == N_BACKGROUNDS:
        return json.dumps([f"in scene {i} of {name}" for i in range(k)])
    return f"A {name} in the picture number {seed}."


def synclr(server: Server, bank: Bank | None = None, cache=None, **options: Any) -> SynCLR:
    server.answer = server.answer if server.answer.__name__ != "captions" else answers
    asked = ChatServer(server.url, timeout=5, retries=3, wait=0.01)
    own = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 256}
    return SynCLR(ChatModel(asked, "tiny", own, parallel=4, cache=cache), bank, **options)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texts_asked(server: Server) -> list[str]:
    return [body["messages"][0]["content"] for body in server.asked]


def kinds(prompts) -> Counter[str]:
    return Counter(p.source.split()[1].rstrip(":") for p in prompts)


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_captions_of_the_tasks_classes_have_their_class(server):
    prompts = synclr(server)(TASK, 6, rng())
    check_prompts(prompts, TASK.class_names)
    assert Counter(p.label for p in prompts) == {0: 6, 1: 6}
    for p in prompts:
        assert mentions(p.text, [TASK.class_names[p.label]]) and p.group == p.id
        assert p.source.startswith("synclr ") and p.source.endswith(TASK.class_names[p.label])
    assert not {"place", "texture"} & set(kinds(prompts))  # which are of no class


def test_captions_of_a_bank_have_none_and_come_by_its_shares(server):
    prompts = synclr(server, BANK)(TASK, 150, rng())
    check_prompts(prompts, TASK.class_names, has_classes=False)
    assert len({p.text for p in prompts}) == 150
    told = Counter(p.source.rpartition(": ")[2] for p in prompts)
    of_concepts = told["heron"] + told["teapot"] + told["boat"]
    assert abs(told["boat"] / of_concepts - 1 / 4) < 0.13 and abs(told["heron"] / of_concepts - 3 / 8) < 0.13
    assert told["harbour"] == kinds(prompts)["place"] > 0


def test_kinds_are_asked_for_in_the_published_shares():
    """The paper's program: 91 % of concepts, of these 44, 45 and 11 % alone, with a background, with a relation; 8.8 % of places."""
    writer = SynCLR(ChatModel(ChatServer("http://127.0.0.1:1/v1"), "m"), BANK)
    one = type("One", (), {"name": ""})()
    drawn = Counter(writer._drawn(one, TASK, i, 0).kind for i in range(1_500))
    wanted = {"plain": 0.4004, "background": 0.4095, "relation": 0.1001, "place": 0.088, "texture": 0.002}
    assert sum(SHARES.values()) == pytest.approx(1) and dict(SHARES) == pytest.approx(wanted)
    for kind, share in wanted.items():
        assert drawn[kind] / 1_500 == pytest.approx(share, abs=4 * (share / 1_500) ** 0.5)


def test_what_there_is_nothing_for_is_shared_out(server):
    own = synclr(server, Bank([(1.0, ["boat"])], relations=()), shares={"plain": 0.5, "relation": 0.3, "place": 0.2})
    assert own.shares == {"plain": 0.5, "background": 0.0, "relation": 0.0, "place": 0.0, "texture": 0.0}
    assert kinds(own(TASK, 5, rng())) == {"plain": 5}


# ---- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_request_shows_three_examples_of_its_kind(kind):
    shown = set()
    for seed in range(40):
        text = instruction(Wanted(kind, "an old boat", ("boat",), seed, "at sea" if kind == "background" else ""))
        examples = [line for line in text.splitlines() if " => " in line]
        own = [f"{words} => {caption}" for words, caption in EXAMPLES[kind]]
        assert len(set(examples)) == 3 and set(examples) <= set(own)
        shown |= set(examples)
        assert "for: an old boat" + (", at sea" if kind == "background" else "") in text
        assert 'contains the words "old boat" literally' in text
    assert len(shown) == len(EXAMPLES[kind]) >= 6
    assert "literally" not in instruction(Wanted(kind, "boat", ("boat",), 0), require_name=False)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_examples_say_what_they_were_written_for(kind):
    for words, caption in EXAMPLES[kind]:
        concept, _, beside = words.partition(", ")
        assert mentions(caption, [concept]) and 8 <= len(caption.split()) <= 30
        if kind == "relation":
            assert beside in RELATIONS and beside in caption


def test_backgrounds_are_the_users_or_the_models_own(server):
    given = Bank(backgrounds=["on the moon", "under water"])
    synclr(server, given)(TASK, 10, rng())
    asked = texts_asked(server)
    assert not [t for t in asked if t.startswith("Name")]
    assert {t.partition("for: cat, ")[2].splitlines()[0] for t in asked if "for: cat, " in t} & {
        "on the moon",
        "under water",
    }
    server.asked.clear()
    synclr(server)(TASK, 10, rng())
    asked = texts_asked(server)
    lists = [t for t in asked if t.startswith("Name")]
    assert sorted(t.partition("this: ")[2].partition(".")[0] for t in lists) == ["cat", "dog"]  # once each
    assert any("for: cat, in scene" in t for t in asked)


def test_a_concept_without_backgrounds_is_asked_for_alone(server):
    server.answer = lambda name, k, seed: "No." if k == N_BACKGROUNDS else answers(name, k, seed)
    prompts = synclr(server, shares={"background": 1.0})(TASK, 3, rng())
    assert kinds(prompts) == {"plain": 6}


def test_relations_of_ones_own(server):
    synclr(server, Bank(relations=["atop"]), shares={"relation": 1.0})(TASK, 2, rng())
    assert all(", atop" in text for text in texts_asked(server))


# ---- the same again, and what goes wrong -----------------------------------------------------------------------------


def test_the_seed_decides_and_not_the_order_of_the_answers(server):
    first = synclr(server)(TASK, 5, rng())
    assert synclr(server)(TASK, 5, rng()) == first
    assert [p.text for p in synclr(server)(TASK, 5, rng(1))] != [p.text for p in first]
    few = synclr(server)(TASK, 2, rng())
    assert [p.text for p in few if p.label == 0] == [p.text for p in first if p.label == 0][:2]


def test_an_interrupted_run_asks_for_what_is_missing(server, tmp_path):
    whole = synclr(server)(TASK, 6, rng())
    n = len(server.asked)
    server.asked.clear()
    server.stumbles = [lambda handler: False] * 4 + [fails(401)]
    with pytest.raises(FigmentError, match="did not let us in"):
        synclr(server, cache=tmp_path)(TASK, 6, rng())
    kept = len(list(tmp_path.glob("*.json")))
    assert 0 < kept < n
    server.asked.clear()
    assert synclr(server, cache=tmp_path)(TASK, 6, rng()) == whole
    assert len(server.asked) == n - kept


def test_a_caption_has_to_say_its_concept_and_only_the_first_line_counts(server, capsys):
    server.answer = lambda name, k, seed: (
        answers(name, k, seed)
        if k > 1
        else f"A {'thing' if seed % 2 else name} of number {seed}.\nAnother {name} here."
    )
    prompts = synclr(server, BANK, shares={"plain": 1.0})(TASK, 10, rng())
    assert all(p.text.startswith(f"A {p.source.rpartition(': ')[2]} of number") for p in prompts)
    assert "without the class name" in capsys.readouterr().out
    free = synclr(server, BANK, shares={"plain": 1.0}, require_name=False)(TASK, 10, rng())
    assert any("thing" in p.text for p in free)


def test_few_captions_of_a_bank_are_said_and_no_template_is_added(server, capsys):
    server.answer = lambda name, k, seed: f"A {name} that is always the same."
    prompts = synclr(server, BANK, shares={"plain": 1.0})(TASK, 8, rng())
    assert len(prompts) == 3
    assert "fewer than 8: 3. Each makes more images" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(FigmentError, match="synclr wrote no sentence"):
        server.stumbles = [says("I cannot help with that.")] * 32
        synclr(server, BANK, shares={"plain": 1.0})(TASK, 8, rng())


# ---- recipes ---------------------------------------------------------------------------------------------------------


def recipe(tmp_path, **prompts):
    own = {"kind": "synclr", "base_url": "http://127.0.0.1:1/v1", "model": "m", **prompts}
    return validate({"task": {"class_names": ["cat", "dog"], "real": {"train": str(tmp_path)}}, "prompts": own,
                     "filters": [], "train": {"kind": "simclr", "backbone": "test_vit"}}, "test")  # fmt: skip


def test_names_come_from_tasks_and_files(tmp_path):
    (tmp_path / "names.txt").write_text("boat\n\n heron \nboat\n")
    assert names_of(str(tmp_path / "names.txt")) == ["boat", "heron"]
    assert len(names_of("dtd")) == 47
    (tmp_path / "empty.txt").write_text("\n")
    for where, said in (
        ("empty.txt", "holds no names. Write one a line"),
        ("gone.txt", "is no built-in task and no file"),
    ):
        with pytest.raises(FigmentError, match=said):
            names_of(str(tmp_path / where))


def test_a_recipe_makes_the_writer_and_its_bank_is_in_the_fingerprint(tmp_path):
    from figment.context import Context
    from figment.layout import Run

    names = tmp_path / "names.txt"

    def writer(**prompts) -> SynCLR:
        return Context(recipe(tmp_path, **prompts), Run(tmp_path / "run")).writer

    own = writer()
    assert own.bank == Bank() and own.shares["plain"] == 0.4004 and own.shares["place"] == 0
    names.write_text("boat\n")
    first = writer(concepts={str(names): 0.7, "food101": 0.3}, places="sun397", backgrounds=str(names))
    assert [(s, len(n)) for s, n in first.bank.concepts] == [(0.7, 1), (0.3, 101)] and len(first.bank.places) == 397
    names.write_text("ship\n")
    assert writer(concepts={str(names): 0.7, "food101": 0.3}, places="sun397").fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (
            {"places": "sun397"},
            "captions of places and textures are of none of the task's classes: give concepts as well",
        ),
        ({"shares": {"plain": 0, "background": 0, "relation": 0}}, "no concept would be written for"),
        (
            {"relations": [], "shares": {"plain": 0, "background": 0}, "concepts": {"imagenet": 1}, "places": "sun397"},
            "relations is empty, and shares ask for nothing else",
        ),
        ({"concepts": {"imagenet": 0}}, "greater than 0"),
    ],
)
def test_recipes_that_do_not_go_together(prompts, said, tmp_path):
    with pytest.raises(FigmentError, match=said):
        recipe(tmp_path, **prompts)
