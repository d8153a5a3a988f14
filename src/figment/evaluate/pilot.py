"""What a few images already tell: does the generator know the classes and the domain, and is there anything left to learn?

A cheap warning and no verdict: what is easy to recognise, or covers real images well, may still teach nothing. The words' thresholds are
those that told known tasks from unknown ones best: docs/pilot.md, measured by benchmarks/pilot.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from figment.evaluate.accuracy import accuracy, correctness, paired_difference, wilson
from figment.evaluate.content import Content
from figment.evaluate.coverage import FEWEST, QUANTILE, coverage, covered
from figment.evaluate.fidelity import frechet_distance, recognisability

Question = Literal["classes", "domain", "room", "test images"]
Word = Literal["known", "partly known", "unknown", "room", "at the ceiling", "cannot say", "planned"]

#: Of the way from guessing to always right, the shares of recognised images between which classes are partly known.
RECOGNISED = (0.3, 0.4)
#: Of what half of the real images cover of the other half, the coverage between which a domain is partly known.
COVERED = (0.15, 0.4)
A_LITTLE = 0.02  # of accuracy: with less to gain than this, words alone are at the ceiling
SPLITS = 5  # random halves of the real images, for what real images reach among themselves
TINY = 1e-9
SHOWN = 8  # classes that are named


@dataclass(frozen=True)
class Answer:
    """One question's answer: a word, a sentence that needs no other, and the numbers behind it, JSON-able."""

    question: Question
    word: Word
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def between(value: float, bounds: tuple[float, float]) -> Word:
    """Below both is unknown, above both known."""
    return "unknown" if value < bounds[0] else "partly known" if value < bounds[1] else "known"


def know_classes(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str], classifier: str) -> Answer:
    """Does the generator know these classes?

    Args:
        logits: float (n, N), of the generated images by the untuned classifier with its bias removed: a bias looks like
            classes that are not known.
        labels: int (n,), what was asked for.
    """
    found, chance = recognisability(logits, labels, class_names, classifier), 1 / len(class_names)
    word = between((found.value - chance) / (1 - chance), RECOGNISED)
    lowest = chance + RECOGNISED[0] * (1 - chance)
    told = found.details["classes"]
    lost = [name for name in found.per_class if told[name]["ci"][1] < lowest]
    lost.sort(key=lambda name: found.per_class[name])
    sentence = (
        f"{_percent(found.value, found.ci)} of {found.n:,} generated images are recognised as what they were asked for; guessing"
        f" gives {100 * chance:.3g} %."
    )
    if word == "unknown":
        sentence = (
            "The generator does not know these classes, or the classifier that looked does not know their names. "
            + sentence
        )
    if lost and word != "unknown":
        sentence += f" Surely not known: {_names(lost)}."
    numbers = {
        "recognised": found.value,
        "ci": list(found.ci),
        "n": found.n,
        "chance": chance,
        "classifier": classifier,
        "per_class": dict(found.per_class),
        "not_known": lost,
    }
    return Answer("classes", word, sentence, numbers)


def know_domain(
    generated: np.ndarray, real: np.ndarray, extractor: str, split: str, content: Content | None, seed: int = 0
) -> Answer:
    """Does it know this domain? Coverage and Fréchet distance beside what two halves of the real images reach at the same n.

    Args:
        generated, real: features, float (m, D) and (n, D), of the encoder ``extractor``.
        split: which real images these are, to be said.
        content: whether a classifier that learnt from the generated images without words knows the real ones; None where
            these have no labels. Nothing else tells labels that have nothing to do with the images.
    """
    n = min(len(generated), len(real) // 2)
    if n < FEWEST:
        few = (
            f"{2 * FEWEST} real images and {FEWEST} generated ones would tell whether the generator knows this domain;"
        )
        return Answer("domain", "cannot say", f"{few} there are {len(real):,} and {len(generated):,}.")
    own, density, *_ = coverage(real, generated, extractor, seed, most=n)
    among_real, ratio = _beside_halves(generated, real, n, np.random.default_rng(seed))
    word = between(own.value / max(among_real, 1 / n), COVERED)
    sentence = (
        f"Generated images lie near {_percent(own.value, own.ci)} of {n:,} real ones ({split}); as many other real ones near"
        f" {100 * among_real:.0f} %. Their Fréchet distance to the real ones is {ratio:.3g} times that between real ones."
    )
    if word == "unknown":
        sentence = f"The generator does not know this domain: what it makes does not look like your images. {sentence}"
    elif content is not None and not content.passed:
        word, said = ("unknown", OTHERS) if _is_wrong(content) else ("partly known", "")
        sentence = (
            f"{said}{sentence} A classifier that learnt from the generated images without words is right on"
            f" {100 * content.accuracy:.0f} % of the real ones, which is not told from guessing."
        )
    told = None
    if content is not None:
        told = {"accuracy": content.accuracy, "p": content.p, "passed": content.passed}
    numbers = {
        "coverage": own.value,
        "ci": list(own.ci),
        "coverage_among_real": among_real,
        "density": density.value,
        "frechet_ratio": ratio,
        "n": n,
        "k": own.details["k"],
        "extractor": extractor,
        "split": split,
        "content": told,
    }
    return Answer("domain", word, sentence, numbers)


OTHERS = (
    "The generator makes images like yours, and not of the classes that yours are called by: check first that the labels of the"
    " real images go with class_names. "
)


def _is_wrong(content: Content) -> bool:
    """Whether a classifier is surely right on less than half of the images, and not only too few images to tell."""
    return wilson(content.accuracy, content.independent, QUANTILE)[1] < 0.5


def _beside_halves(generated: np.ndarray, real: np.ndarray, n: int, rng: np.random.Generator) -> tuple[float, float]:
    """What n real images cover of n others, and the Fréchet distance to n generated ones as a multiple of that: means of a few halvings."""
    among, apart, here = [], [], []
    for _ in range(SPLITS):
        a, b = np.split(real[rng.permutation(len(real))[: 2 * n]], 2)
        among.append(covered(a, b).coverage)
        apart.append(frechet_distance(a, b))
        here.append(frechet_distance(a, generated[rng.permutation(len(generated))[:n]]))
    # Images that are all the same are at no distance from each other.
    return float(np.mean(among)), float(np.mean(here)) / max(float(np.mean(apart)), TINY)


def room_left(
    predictions: Mapping[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str], split: str
) -> Answer:
    """Are words alone at the ceiling already?

    Args:
        predictions: int (n,) each, of labelled real images that are not the test's: ``zero_shot``, ``bias_removed``, and of
            classifiers that learnt from others of these images, ``images_only`` and ``words_and_images``. The better of
            the last two counts, and is a little too good by that.
    """
    right = {name: correctness(one, labels) for name, one in predictions.items()}
    shares = {name: float(one.mean()) for name, one in right.items()}
    learnt = max(("images_only", "words_and_images"), key=lambda name: shares[name])
    gain = paired_difference(right["bias_removed"], right[learnt])
    low, high = gain.ci
    word: Word = "room" if low > 0 else "at the ceiling" if low > -A_LITTLE and high < A_LITTLE else "cannot say"
    sentence = (
        f"Without any training image {100 * shares['bias_removed']:.1f} % of {gain.n:,} real images are recognised"
        f" ({100 * shares['zero_shot']:.1f} % before the bias is removed); having learnt from real ones,"
        f" {100 * shares[learnt]:.1f} %: {100 * gain.value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})."
    )
    sentence += {
        "room": " So there is something to learn.",
        "at the ceiling": " So there is little that images could still teach.",
        "cannot say": " These are too few to learn from, or too few to tell: more labelled real images would say whether there is"
        " anything to learn.",
    }[word]
    ci = accuracy(predictions["bias_removed"], labels, class_names).ci
    numbers = {
        **shares,
        "gain": gain.value,
        "ci": list(gain.ci),
        "n": gain.n,
        "split": split,
        "bias_removed_ci": list(ci),
    }
    return Answer("room", word, sentence, numbers)


def _percent(share: float, ci: tuple[float, float]) -> str:
    return f"{100 * share:.0f} % ({100 * ci[0]:.0f} to {100 * ci[1]:.0f})"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
