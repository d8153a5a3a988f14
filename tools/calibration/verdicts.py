"""The word that studies of one kind of set come to, and how often the three intervals hold the truth of the kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.answers import Answers, answers_of
from calibration.cases import Case
from calibration.rows import Row, rate
from calibration.world import World
from figment.evaluate.content import Content, content_gate
from figment.evaluate.kind import Difference, difference
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, UNTUNED, Judgement, judge

RIVALS = (UNTUNED, BIAS_REMOVED, PLACEBO)


@dataclass(frozen=True)
class Study:
    judgement: Judgement
    differences: dict[str, Difference]
    content: Content


def study(a: Answers, labels: np.ndarray, n_classes: int, chosen: np.ndarray) -> Study:
    """What is said with the test images ``chosen``, int (n,), some of them more than once perhaps."""
    y = labels[chosen]
    right = {name: (took[:, chosen] == y).astype(np.float32) for name, took in a.items()}
    own, sets = right["own"][0], right["sets"]
    differences = {
        UNTUNED: difference(own - right["zero"][0], resampled=sets - right["zero"]),
        BIAS_REMOVED: difference(own - right["unbiased"][0], resampled=sets - right["unbiased"][1:]),
        PLACEBO: difference(own - right["placebos"].mean(0), resampled=sets - right["placebos of sets"]),
    }
    content = content_gate(a["only"][0, chosen].astype(np.int64), y, n_classes)
    return Study(judge(differences, content, len(chosen)), differences, content)


def truths(a: Answers, labels: np.ndarray) -> list[float]:
    """D1, D2, D3 of one set over all test images there are."""
    own = (a["own"] == labels).mean()
    rivals = a["zero"], a["unbiased"][:1], a["placebos"]
    return [float(own - (rival == labels).mean()) for rival in rivals]


def verdicts(case: Case, w: World, n_sets: int, n_studies: int, sizes: Sequence[int], folder: Path) -> Iterator[Row]:
    """A row a number of test images. The truth of the kind is the mean over all sets, so it holds the study's own a little."""
    labels = w.of("test")[1]
    truth = np.mean([truths(answers_of(case, w, s, folder), labels) for s in range(n_sets)], axis=0)
    words: dict[int, Counter[str]] = {n: Counter() for n in sizes}
    gates, helping = Counter[int](), Counter[int]()
    held, above, widths = ({n: np.zeros(len(RIVALS)) for n in sizes} for _ in range(3))
    a_set = -(-n_studies // n_sets)
    for s in range(n_sets):
        a, rng = answers_of(case, w, s, folder), np.random.default_rng([s, 13])
        for n in sizes:
            here = Counter[str]()
            for _ in range(a_set):
                found = study(a, labels, w.n_classes, rng.integers(len(labels), size=n))
                here[found.judgement.word] += 1
                gates[n] += found.content.passed
                low, high = np.array([found.differences[rival].ci for rival in RIVALS]).T
                held[n] += (low <= truth) & (truth <= high)
                above[n] += low > truth
                widths[n] += high - low
            words[n] += here
            helping[n] += here["helps"] > 0
    for n in sizes:
        total = words[n].total()
        yield {
            "n": n,
            "studies": total,
            "sets": n_sets,
            "truth in points": [round(100 * float(t), 2) for t in truth],
            "words": dict(words[n]),
            "helps": rate(words[n]["helps"], total),
            "sets with a helps": helping[n],
            "gate": rate(gates[n], total),
            "holds the kind": [rate(int(k), total) for k in held[n]],
            "too high %": [round(100 * k / total, 1) for k in above[n]],
            "width in points": [round(100 * float(k) / total, 2) for k in widths[n]],
        }
