"""What the verdict says of the demo itself, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from calibration.answers import learnt_from
from calibration.cases import Case, Drawn, filtered
from calibration.rows import Row
from calibration.verdicts import study
from calibration.world import World
from figment.evaluate.sentences import sentence
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, UNTUNED


def demo(case: Case, w: World) -> Iterator[Row]:
    """The images of the first run as they are, and all test images, each once."""
    features, labels = (a[: w.n_first] for a in w.of("generated"))
    kept = filtered(case, w, features, labels)
    y = w.of("test")[1]
    started = time.process_time()
    a = learnt_from(case, w, Drawn(features, labels, kept, labels[kept]), seed=0)
    said = study(a, y, w.n_classes, np.arange(len(y)))
    seconds = time.process_time() - started
    accuracies = {
        "own": float((a["own"] == y).mean()),
        UNTUNED: float((a["zero"] == y).mean()),
        BIAS_REMOVED: float((a["unbiased"][0] == y).mean()),
        PLACEBO: float((a["placebos"] == y).mean()),
    }
    yield {
        "n": len(y),
        "accuracies %": {name: round(100 * value, 1) for name, value in accuracies.items()},
        "images only %": round(100 * said.content.accuracy, 1),
        "word": said.judgement.word,
        "sentence": sentence(said.judgement, accuracies, said.differences, said.content, len(y)),
        "seconds of one core": round(seconds, 1),
    }
