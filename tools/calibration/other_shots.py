"""Few real images: how often an interval holds the truth of other choices of them, with and without such choices in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calibration.cases import WORDS_AND_IMAGES, drawn_rows
from calibration.rows import Row, rate
from calibration.world import World
from figment.evaluate.kind import difference
from figment.evaluate.placebo import resample
from figment.learners.clip_head.words_and_images import WordsAndImagesLearner
from figment.shots import draw_shots
from figment.types import Images

DRAWS = 10  # of real images and sets, in each study


def other_shots(w: World, k: int, n_choices: int, n_studies: int, sizes: Sequence[int]) -> Iterator[Row]:
    """A choice is a set and k photographs a class; a study is a choice and n test images. The difference is that of the recipe's
    classifier to the one of the photographs alone; its truth is the mean over all choices."""
    labels = w.of("test")[1]
    found = [_differences(w, k, choice) for choice in range(n_choices)]
    truth = float(np.mean([own.mean() for own, _, _ in found]))
    for n in sizes:
        rng = np.random.default_rng([n, k, 47])
        holds, holds_these, helps, hurts = 0, 0, 0, 0
        for s in range(n_studies):
            chosen = rng.integers(len(labels), size=n)
            own, others, sets = (d[..., chosen] for d in found[s % n_choices])
            of_others, of_these = difference(own, resampled=others), difference(own, resampled=sets)
            holds += of_others.ci[0] <= truth <= of_others.ci[1]
            holds_these += of_these.ci[0] <= truth <= of_these.ci[1]
            helps += of_others.ci[0] > 0
            hurts += of_others.ci[1] < 0
        yield {
            "n": n,
            "learner": WORDS_AND_IMAGES.start,
            "shots": k,
            "choices": n_choices,
            "truth": round(100 * truth, 2),
            "holds other choices": rate(holds, n_studies),
            "holds them without such in it": rate(holds_these, n_studies),
            "better": rate(helps, n_studies),
            "worse": rate(hurts, n_studies),
        }


def _differences(w: World, k: int, choice: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one choice, float (m,); with other photographs and the set drawn again, (B, m); and with the set drawn again alone."""
    rng = np.random.default_rng([choice, k, 53])
    learner = WordsAndImagesLearner(w.features, w.class_names, w.task.templates)
    labels = w.of("test")[1]

    def right(made: Images | None, shots: Images) -> np.ndarray:
        return (learner.learn(made, shots, 0).logits(w.test).argmax(1) == labels).astype(np.float64)

    def photographs() -> Images:
        return w.pool.take(draw_shots(w.pool.labels, k, int(rng.integers(2**31))))

    made, shots = w.generated.take(drawn_rows(w.generated.labels, rng)), photographs()
    again = [made.take(resample(made.labels, rng)) for _ in range(DRAWS)]
    alone = right(None, shots)
    others = [right(one, other) - right(None, other) for one, other in ((one, photographs()) for one in again)]
    return right(made, shots) - alone, np.stack(others), np.stack([right(one, shots) - alone for one in again])
