"""The verdict of a learner without words: a small network from scratch, against chance and placebos, no set drawn again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration.answers import Answers
from calibration.cases import drawn_rows
from calibration.null_images import null_images
from calibration.rows import Row, rate
from calibration.world import World
from figment.evaluate.placebo import spread_labels
from figment.evaluate.predictions import judge
from figment.images_in.relabelled import Relabelled
from figment.learners.clip_head.discriminant import discriminant
from figment.learners.network.network import NetworkLearner
from figment.learners.network.small_cnn import SMALL_CNN
from figment.types import Images

PLACEBOS = 2
#: The usual settings but for these, which make a training 10 s of one core in place of 4 minutes.
SETTINGS = SMALL_CNN.model_copy(update={"min_steps": 100, "batch_size": 32, "workers": 0})
TEST_IMAGES = 2_000  # a network takes longer to look at 10,000 than to be trained
KINDS = ("right labels", "shuffled labels", "stripes by class", "digits by class")


def network_verdicts(
    w: World, kind: str, n_sets: int, n_studies: int, sizes: Sequence[int], folder: Path
) -> Iterator[Row]:
    labels = w.test.labels[tested(w)]
    words: dict[int, Counter[str]] = {n: Counter() for n in sizes}
    gates, truth, a_set = Counter[int](), [], -(-n_studies // n_sets)
    for s in range(n_sets):
        a, rng = _answers_of(w, kind, s, folder), np.random.default_rng([s, 17])
        own, placebos = ((a[name] == labels).mean() for name in ("own", "placebos"))
        truth.append([own, own - placebos])
        for n in sizes:
            for _ in range(a_set):
                word, gate = _study(a, labels, w.n_classes, rng.integers(len(labels), size=n))
                words[n][word] += 1
                gates[n] += gate
    accuracy, over_placebo = (100 * np.mean(truth, axis=0)).round(2).tolist()
    for n in sizes:
        total = words[n].total()
        yield {
            "n": n,
            "studies": total,
            "sets": n_sets,
            "accuracy %": accuracy,
            "over the placebos, in points": over_placebo,
            "words": dict(words[n]),
            "helps": rate(words[n]["helps"], total),
            "gate": rate(gates[n], total),
        }


def tested(w: World) -> np.ndarray:
    """The test images that studies draw from, int (2,000,)."""
    return np.random.default_rng(0).choice(len(w.test), TEST_IMAGES, replace=False)


def _study(a: Answers, labels: np.ndarray, n_classes: int, chosen: np.ndarray) -> tuple[str, bool]:
    y = labels[chosen]
    own, placebos, only = (a[name][:, chosen].astype(np.int64) for name in ("own", "placebos", "only"))
    judged = judge(y, own, {}, placebos, only[0], class_names=[str(c) for c in range(n_classes)])
    return judged.word, judged.content.passed


def _answers_of(w: World, kind: str, seed: int, folder: Path) -> Answers:
    """``own`` and ``only`` uint8 (1, n), ``placebos`` uint8 (2, n). Shuffled labels are one more placebo of the right ones' set."""
    rng = np.random.default_rng([seed, 19])
    shuffled = kind == "shuffled labels"
    images: Images = w.generated if shuffled or kind == "right labels" else null_images(kind)
    rows = drawn_rows(images.labels, rng)
    labels = images.labels[rows]
    if images is not w.generated:
        labels = rng.permutation(w.n_classes)[labels]
    spread = [spread_labels(labels, rng) for _ in range(PLACEBOS + 1)]
    learnt = "right labels" if shuffled else kind
    placebos = [_taken(w, images, rows, spread[k], k, folder / learnt / f"{seed}-{k}.npy") for k in range(PLACEBOS)]
    own, k = (spread[-1], PLACEBOS) if shuffled else (labels, 0)
    of_own = _taken(w, images, rows, own, k, folder / kind / f"{seed}-own.npy")
    only = discriminant(w.features(images)[rows], labels, w.n_classes).predict(w.of("test")[0][tested(w)]).argmax(1)
    return {"own": of_own[None], "placebos": np.stack(placebos), "only": only[None]}


def _taken(w: World, images: Images, rows: np.ndarray, labels: np.ndarray, seed: int, path: Path) -> np.ndarray:
    """What a network takes the test images for: uint8 (n,), kept at ``path``."""
    if not path.is_file():
        learner = NetworkLearner(SETTINGS, w.class_names, device="cpu")
        model = learner.learn(Relabelled(images.take(rows), labels), None, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, model.logits(w.test.take(tested(w))).argmax(1).astype(np.uint8))
    return np.load(path)
