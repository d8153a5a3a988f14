"""What all classifiers that a verdict rests on take the test images for, as `figment.measures.evidence` has them trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibration.cases import Case, Drawn, draw
from calibration.world import World, with_bias
from figment.bias import bias_of, shares_of
from figment.evaluate.placebo import resample, spread_labels
from figment.learners.clip_head.discriminant import discriminant
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.clip_head.tune import Chosen, tune_many

PLACEBOS, RESAMPLES = 6, 20

#: Predictions uint8 (k, n): ``own``, ``placebos``, ``sets`` drawn again and ``placebos of sets``; ``zero``; ``unbiased``, first for
#: the set itself; ``only``, the classifier without words.
Answers = Mapping[str, np.ndarray]


def answers_of(case: Case, w: World, seed: int, folder: Path) -> Answers:
    """Those of one set, kept in ``folder``: the trainings are nearly all of the time."""
    path = folder / case.name / f"{seed}.npz"
    if not path.is_file():
        found = learnt_from(case, w, draw(case, w, seed), seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{name: took.astype(np.uint8) for name, took in found.items()})
        partial.rename(path)
    with np.load(path) as stored:
        return dict(stored)


def learnt_from(case: Case, w: World, drawn: Drawn, seed: int) -> dict[str, np.ndarray]:
    """int (k, n) each."""
    rng = np.random.default_rng([seed, 7])
    chosen = _trainings(drawn, rng)
    test, words = w.of("test")[0], w.words(case.blur)
    zero, seen = words.predict(test), words.predict(drawn.features)
    shares = shares_of(drawn.labels, w.n_classes)
    made_again = [np.arange(len(seen)), *(resample(drawn.labels, rng) for _ in range(RESAMPLES))]
    own, placebos, sets, placebos_of_sets = np.split(
        _taken(case, w, drawn, chosen, seed), np.cumsum([1, PLACEBOS, RESAMPLES])
    )
    return {
        "own": own,
        "placebos": placebos,
        "sets": sets,
        "placebos of sets": placebos_of_sets,
        "zero": zero.argmax(1)[None],
        "unbiased": np.stack([(zero + bias_of(seen[rows], shares)).argmax(1) for rows in made_again]),
        "only": discriminant(drawn.features, drawn.labels, w.n_classes).predict(test).argmax(1)[None],
    }


def _trainings(drawn: Drawn, rng: np.random.Generator) -> list[Chosen]:
    """The set; its placebos; it drawn again, and a placebo of each of those."""
    kept, named = drawn.kept, drawn.named
    again = [resample(named, rng) for _ in range(RESAMPLES)]
    return [
        Chosen(kept, named),
        *(Chosen(kept, spread_labels(named, rng)) for _ in range(PLACEBOS)),
        *(Chosen(kept[r], named[r]) for r in again),
        *(Chosen(kept[r], spread_labels(named[r], rng)) for r in again),
    ]


def _taken(case: Case, w: World, drawn: Drawn, chosen: list[Chosen], seed: int) -> np.ndarray:
    """int (k, n): the start is that of the set, in its placebos and the sets drawn again as well."""
    words, test, n = w.words(case.blur), w.of("test")[0], w.n_classes
    if case.start == "words and images":
        zero, seen = words.predict(test), words.predict(drawn.features)
        learnt = [
            discriminant(drawn.features[c.rows], c.labels, n).predict(test)
            + zero
            + bias_of(seen[c.rows], shares_of(c.labels, n))
            for c in chosen
        ]
        return np.stack(learnt).argmax(2)
    start = with_bias(words, bias_of(words.predict(drawn.features))) if case.start == "bias removed" else words
    seeds = [0, *range(PLACEBOS), *range(RESAMPLES), *range(RESAMPLES)]
    tuned = tune_many(start, drawn.features, chosen, TuneSettings(), [100 * seed + s for s in seeds])
    return np.stack([t.head.predict(test).argmax(1) for t in tuned])
