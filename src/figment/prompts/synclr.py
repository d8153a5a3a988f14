"""Captions for concepts, as SynCLR has them written (Tian et al. 2023, arXiv 2312.17742, section 3.1).

A language model is shown three captions that others wrote for other concepts, and writes one for this one: for the concept alone,
with a background that suits it, or with something beside it; and, where a whole bank of concepts is asked for, of places and textures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from figment import records
from figment.progress import progress
from figment.prompts.answered import captions_in
from figment.prompts.chat_model import ChatModel
from figment.prompts.collect import Collected, finish
from figment.prompts.synclr_examples import EXAMPLES
from figment.prompts.words import without_article
from figment.records import fingerprint
from figment.task import Task
from figment.types import Prompt

Kind = Literal["plain", "background", "relation", "place", "texture"]
#: How often each kind is asked for, as the authors' program has it: 91 % of concepts (44, 45 and 11 % of these), 8.8 % of places.
SHARES: Mapping[str, float] = {
    "plain": 0.91 * 0.44,
    "background": 0.91 * 0.45,
    "relation": 0.91 * 0.11,
    "place": 0.088,
    "texture": 0.002,
}
RELATIONS = (
    "next to", "behind", "in front of", "on top of", "underneath", "inside", "near", "surrounded by", "leaning against", "held by",
)  # fmt: skip
N_EXAMPLES, N_BACKGROUNDS = 3, 10
ROUND = 1_000  # requests of a class that are held at a time


@dataclass(frozen=True)
class Bank:
    """What captions are written for.

    Args:
        concepts: (share, names) of each source of them; each name of a source is as likely as another. Empty = the task's classes,
            and each caption is then of its class.
        places, textures: of no class, so for concepts alone; kinds that have none give their share to the others.
        backgrounds: phrases such as ``on a wooden table``, for any concept; empty = the model is asked for ten that suit each.
        relations: phrases such as ``next to``.
    """

    concepts: Sequence[tuple[float, Sequence[str]]] = ()
    places: Sequence[str] = ()
    textures: Sequence[str] = ()
    backgrounds: Sequence[str] = ()
    relations: Sequence[str] = RELATIONS

    @property
    def fingerprint(self) -> str:
        """Of all words in it."""
        own = [
            list(map(list, self.concepts)),
            *map(list, (self.places, self.textures, self.backgrounds, self.relations)),
        ]
        return records.fingerprint(own)


@dataclass(frozen=True)
class Wanted:
    """One caption to be written. ``beside`` is a background or a relation; empty for the other kinds."""

    kind: Kind
    concept: str
    names: tuple[str, ...]  # words for the concept, one of which the caption has to say
    seed: int
    beside: str = ""


class SynCLR:
    """``n`` different captions of each class, or ``n`` in all of a bank's concepts, one a request.

    Of ``shares`` those of kinds that there is nothing for are shared out. A caption that does not say its concept is thrown away,
    unless ``require_name`` is false. ``max_tries`` x ``n`` requests are made for each class at most; templates then fill in. Request
    i depends on the seed, the class and i alone, so with the same answers the captions are the same. Raises FigmentError for a
    server that cannot be used, see :class:`figment.prompts.server.ChatServer`, and where there is no caption at all.
    """

    def __init__(
        self,
        model: ChatModel,
        bank: Bank | None = None,
        shares: Mapping[str, float] = SHARES,
        *,
        max_tries: int = 4,
        require_name: bool = True,
    ):
        self.model, self.bank = model, bank or Bank()
        self.max_tries, self.require_name = max_tries, require_name
        self.shares = {kind: shares.get(kind, 0.0) if self._has(kind) else 0.0 for kind in get_args(Kind)}

    @property
    def fingerprint(self) -> str:
        """Of the bank; the settings are the recipe's."""
        return self.bank.fingerprint

    def _has(self, kind: Kind) -> bool:
        there = {"place": self.bank.places, "texture": self.bank.textures, "relation": self.bank.relations}
        return bool(there.get(kind, True))

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        seed = int(rng.integers(2**31))
        labels = (-1,) if self.bank.concepts else range(len(task.class_names))
        collected = [Collected(task, label, n, self.require_name) for label in labels]
        asked, useless = [0] * len(collected), list[dict[str, Any]]()
        suiting: dict[str, list[str]] = {}  # concept -> its backgrounds, as the model says
        with progress("ask", n * len(collected), "requests") as advance:
            while requests := list(self._requests(collected, asked, task, seed)):
                wanted = self._with_backgrounds([w for _, w in requests], suiting)
                bodies = [self.model.body(instruction(w, self.require_name), w.seed) for w in wanted]
                # All answers of a round are looked at in the order of the requests, not that of their arrival.
                for (i, _), w, answer in zip(requests, wanted, self.model.ask(bodies, advance), strict=True):
                    asked[i] += 1
                    captions = captions_in(answer)
                    useless += [] if captions else [answer]
                    for caption in captions[:1]:
                        collected[i].add(caption, f"synclr {w.kind}: {w.concept}", names=w.names)
        advice = "Try the model by hand, choose another prompts.model, or set prompts.require_name: false."
        return finish(collected, "synclr", advice, self.model.instead(useless, sum(asked)))

    def _requests(
        self, collected: Sequence[Collected], asked: Sequence[int], task: Task, seed: int
    ) -> Iterator[tuple[int, Wanted]]:
        """The next round: the place of a class in ``collected``, and what is wanted, if all answers are good."""
        for i, one in enumerate(collected):
            left = self.max_tries * one.n - asked[i]
            for number in range(asked[i], asked[i] + min(one.missing, left, ROUND)):
                yield i, self._drawn(one, task, number, seed)

    def _drawn(self, one: Collected, task: Task, number: int, seed: int) -> Wanted:
        """What a request asks for: its number decides."""
        own = int(fingerprint([seed, one.name, number]), 16) % 2**31
        rng = np.random.default_rng(own)
        kinds, shares = zip(*self.shares.items(), strict=True)
        kind: Kind = kinds[int(rng.choice(len(kinds), p=np.array(shares) / sum(shares)))]
        if kind in ("place", "texture"):
            among: Sequence[str] = self.bank.places if kind == "place" else self.bank.textures
        elif self.bank.concepts:
            weights = np.array([share for share, _ in self.bank.concepts])
            among = self.bank.concepts[int(rng.choice(len(weights), p=weights / weights.sum()))][1]
        else:
            among = [one.name]
        concept = among[int(rng.integers(len(among)))]
        names = (concept, *(task.synonyms.get(concept, ()) if concept == one.name else ()))
        beside = self.bank.relations if kind == "relation" else self.bank.backgrounds if kind == "background" else ()
        return Wanted(kind, concept, names, own, beside[int(rng.integers(len(beside)))] if beside else "")

    def _with_backgrounds(self, wanted: Sequence[Wanted], suiting: dict[str, list[str]]) -> list[Wanted]:
        """The model's own backgrounds where none are given. A concept that it names none for is asked for alone."""
        lacking = dict.fromkeys(w.concept for w in wanted if w.kind == "background" and not w.beside)
        new = [concept for concept in lacking if concept not in suiting]
        bodies = [self.model.body(backgrounds_wanted(c), int(fingerprint(["backgrounds", c]), 16) % 2**31) for c in new]
        for concept, answer in zip(new, self.model.ask(bodies, lambda n: None), strict=True):
            suiting[concept] = captions_in(answer)
        return [w if w.kind != "background" or w.beside else _suited(w, suiting[w.concept]) for w in wanted]


def _suited(w: Wanted, backgrounds: Sequence[str]) -> Wanted:
    if not backgrounds:
        return replace(w, kind="plain")
    return replace(w, beside=backgrounds[w.seed % len(backgrounds)])


# ---- what is asked ---------------------------------------------------------------------------------------------------


def instruction(wanted: Wanted, require_name: bool = True) -> str:
    """The text of one request: three examples of its kind, and what to write one for."""
    examples = EXAMPLES[wanted.kind]
    chosen = np.random.default_rng(wanted.seed).permutation(len(examples))[:N_EXAMPLES]
    says = f', contains the words "{without_article(wanted.concept)}" literally,' if require_name else ""
    return "\n".join(
        [
            "Write 1 caption of a photograph. These captions were written for what stands before them:",
            *(f"{examples[i][0]} => {examples[i][1]}" for i in chosen),
            f"The new one is for: {', '.join(filter(None, (wanted.concept, wanted.beside)))}",
            f"It is one English sentence of 10 to 30 words{says} and describes one plausible scene, and only what can be seen in it.",
            "Answer with the caption and nothing else.",
        ]
    )


def backgrounds_wanted(concept: str) -> str:
    """The text of a request for backgrounds that suit a concept."""
    return "\n".join(
        [
            f"Name {N_BACKGROUNDS} different backgrounds in which one might really photograph this: {concept}.",
            "Each is a phrase of three to eight words that could end a caption, such as: on a wet city street.",
            "Answer with a JSON array of strings and nothing else.",
        ]
    )
