"""What is taken for captions in a model's answer, and what is not: its thoughts, its talk, and brackets in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from figment.prompts import answered
from figment.prompts.answered import captions_in, is_cut_off, parse_captions, shown

TWO = ["A cat on a mat.", "Two cats, asleep."]
DRAFT = json.dumps(["A cat that was only thought of.", "A second cat of that kind."])
ANSWER = json.dumps(TWO)


def completion(text: Any, finish_reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TWO),
        f"```json\n{json.dumps(TWO, indent=2)}\n```",
        f"Sure! Here they are:\n\n{json.dumps(TWO)}\n\nShall I write more of them?",
        json.dumps({"captions": TWO}),
        json.dumps([{"caption": TWO[0]}, {"caption": TWO[1]}]),
        "\n".join(map(json.dumps, TWO)),
        "\n".join(json.dumps({"text": t}) for t in TWO),
        f"Here are two captions of cats:\n1. {TWO[0]}\n2) {TWO[1]}\nLet me know if these fit.",
        f"- {TWO[0]}\n* {TWO[1]}",
        f"[1] {TWO[0]}\n[2] {TWO[1]}",
        f"1. **{TWO[0]}**\n2. “{TWO[1]}”",
        "\n".join(TWO),
        f"<think>A cat [on] a mat? 1. no no no</think>\n{json.dumps(TWO)}",
        f'["{TWO[0]}",\n"{TWO[1]}",',  # broken off, so no JSON
    ],
)
def test_captions_are_found_in_any_form(text):
    assert parse_captions(text) == TWO


@pytest.mark.parametrize(
    "text", ["", "   ", "Sure!", "[]", "{}", "null", "[1, 2, null]", "<think>a cat on a mat", "[" * 2_000]
)
def test_what_holds_no_caption_gives_none(text):
    assert parse_captions(text) == []


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, {"choices": None}, completion(None)])
def test_answers_of_another_shape_give_none(answer):
    assert captions_in(answer) == []


def test_the_last_caption_of_an_answer_that_was_cut_off_is_left_out():
    assert captions_in(completion(f'["{TWO[0]}", "{TWO[1]}", "A cat that walks', "length"))[:1] == TWO[:1]
    assert "A cat that walks" not in str(captions_in(completion(f"1. {TWO[0]}\n2. A cat that walks", "length")))
    assert captions_in(completion([{"type": "text", "text": json.dumps(TWO)}])) == TWO  # type: ignore[arg-type]


# ---- thoughts and talk -----------------------------------------------------------------------------------------------

THOUGHT = f"The user wants captions [two of them] of a cat. First try: {DRAFT} Good [enough]."
MARKS = [
    ("<think>", "</think>"),
    ("", "</think>"),  # the opening mark is in the model's template
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<Thought>", "</Thought>"),
    ("<seed:think>", "</seed:think>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ('<think time="3">', "</think>"),
    ("[THINK]", "[/THINK]"),
    ("", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
    ("analysisWell. ", "assistantfinal"),
    ("Here is my thought process: ", "Here is my response: "),
    ("<think>One.</think><think>", "</think>"),
    ("<think>One <think>", "</think> and two.</think>"),
]
FORMS = [ANSWER, f"```json\n{ANSWER}\n```", f"1. {TWO[0]}\n2. {TWO[1]}", "\n".join(TWO)]


@pytest.mark.parametrize("form", FORMS, ids=["array", "fence", "list", "lines"])
@pytest.mark.parametrize(("opening", "closing"), MARKS, ids=str)
def test_thoughts_are_no_captions_whatever_marks_they_stand_in(opening, closing, form):
    assert parse_captions(f"{opening}{THOUGHT}{closing}\n{form}") == TWO


@pytest.mark.parametrize("opening", [o for o, _ in MARKS if o], ids=str)
def test_thoughts_that_do_not_end_are_no_captions(opening):
    assert parse_captions(f"{opening}{THOUGHT}") == []


@pytest.mark.parametrize(
    "text",
    [
        f"Here are the captions [as you asked]:\n{ANSWER}",
        f"[Cats](https://example.org/cats) are these:\n{ANSWER}",
        f"See [1, 2] and {{this}}.\n```json\n{ANSWER}\n```",
        f"My notes [draft]:\n{DRAFT}\nThe final list:\n{ANSWER}",
        f"{ANSWER}\nI kept [all of] your wishes, {{as far as}} they went.",
        f"{ANSWER}\n<reasoning>They are plain [very plain] ones.</reasoning>",
        f"<answer>{ANSWER}</answer>",
        json.dumps({"reasoning": "The user wants two captions of a cat.", "captions": TWO}),
        json.dumps([{"caption": TWO[0], "explanation": "This is a very plain one."}, {"caption": TWO[1]}]),
        json.dumps({"thoughts": DRAFT, "1": TWO[0], "2": TWO[1]}),
        f'Captions [of cats]: ["{TWO[0]}", "{TWO[1]}",]',  # not quite JSON
        f'Captions [of cats]: ["{TWO[0]}", "{TWO[1]}", "A cat that wal',
        f'{{"reasoning": "The user wants two of them.", "1": "{TWO[0]}", "2": "{TWO[1]}", "3": "A ca',
        f"Okay, here are two cats.\n{TWO[0]}\n{TWO[1]}\nLet me know if these captions fit.",
        f"**Captions:**\n- {TWO[0]}\n- {TWO[1]}",
    ],
)
def test_talk_around_the_captions_and_brackets_in_it_are_none(text):
    assert parse_captions(text) == TWO


@pytest.mark.parametrize(
    "text",
    [
        "The user wants captions of a cat.\nEach must say the word.\nA cat on a mat would do.",
        "Okay, the user wants two captions.\nEach must say cat.\nA cat on a mat would do.",
        "1. The user wants a list of cats\n2. Each caption must say cat\n3. I will write eight",
        "I cannot help with cats on mats.",
        "As a language model I would rather not.",
        "[A cat on a mat, shown here](https://example.org/cat.png)",
        "['A cat on a mat.', 'Two cats, asleep.']",  # Python's, not JSON
        "Okay. Let me think of cats on mats first.",
    ],
)
def test_talk_alone_is_no_caption(text):
    assert parse_captions(text) == []


def test_only_the_end_of_an_endless_answer_is_looked_at(monkeypatch):
    monkeypatch.setattr(answered, "MOST_THOUGHT", 400)
    monkeypatch.setattr(answered, "MOST_SAID", 100)
    assert parse_captions(f"{DRAFT}<think>{THOUGHT * 3}</think>{ANSWER}") == TWO
    assert parse_captions(f"{DRAFT} {'Well. ' * 20} {ANSWER}") == TWO
    assert parse_captions(f"{ANSWER} {'.' * 120}") == []


def test_parts_of_an_answer_that_are_thoughts_are_passed_over():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "reasoning", "text": DRAFT}]
    assert captions_in(completion([*parts, {"type": "text", "text": ANSWER}])) == TWO
    assert captions_in(completion(parts)) == []


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_an_answer_that_was_cut_off_is_known_by_its_reason(reason):
    assert is_cut_off(completion(None, reason)) and captions_in(completion(None, reason)) == []
    assert not is_cut_off(completion(None)) and not is_cut_off({"error": "overloaded"})


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (completion("No.\n\x1b[31mNever.\x1b[0m"), "No. \ufffd[31mNever.\ufffd[0m"),
        (completion("x" * 999), "x" * 199 + "…"),
        ({"choices": [{"message": {"content": None, "refusal": "I would rather not."}}]}, "I would rather not."),
        ({"error": {"message": "overloaded"}}, '{"error": {"message": "overloaded"}}'),
    ],
)
def test_an_answer_is_shown_in_a_line(answer, line):
    assert shown(answer) == line
