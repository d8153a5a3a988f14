"""Is a test image also among what was learnt from, or nearly so? And does it tell the class whether an image is generated?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.evaluate.leaks import Near
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

SAME = 0.999  # equal pixels have at least this cosine, up to the rounding of half precision
SHOWN = 10  # pairs in the details

#: Metric -> what the test images are compared with.
WITH = {"leaks/train": "real training", "leaks/val": "validation", "leaks/generated": "generated"}


def names(recipe: Recipe) -> list[str]:
    """As far as the recipe tells: training images that nothing reads are not compared."""
    real, few = recipe.task.real.places, recipe.few_shot is not None
    there = {
        "leaks/test": True,
        "leaks/train": "train" in real,
        "leaks/val": "val" in real,
        "leaks/generated": True,
        "leaks/source": few,
    }
    return [name for name, is_there in there.items() if is_there]


def take(trial: Trial) -> Iterator[Result]:
    if trial.leaks is not None:
        said = [*trial.leaks.serious, *trial.leaks.others]
        yield _share("leaks/test", trial.leaks.twice, len(trial.real_test), caveats=said)
    others = {
        "leaks/train": trial.shots if trial.train is None else trial.train,
        "leaks/val": trial.val,
        "leaks/generated": trial.kept,
    }
    for metric, images in others.items():
        if images is not None and len(images) and len(trial.real_test) > 1:
            yield _near(trial, metric, images)
    if trial.shots is not None and trial.recipe.prompts.has_classes:
        yield _source(trial, trial.shots)


def _near(trial: Trial, metric: str, others: Images) -> Result:
    """Test images that are among ``others``, or as near to one as copies are.

    Of two real splits the larger one says how near different photographs come. Of generated images the test images say it: a
    generator that repeats itself must not raise its own limit.
    """
    from figment.evaluate.leaks import near_copies

    features, test = trial.features(None), trial.real_test
    ours, theirs = features(test), features(others)
    turned = metric == "leaks/generated" or len(theirs) < len(ours)  # then the others are the queries
    found = near_copies(*((theirs, ours) if turned else (ours, theirs)), seed=trial.recipe.seed)
    pairs = found.pairs[:, ::-1] if turned else found.pairs  # (k, 2): test, other
    same = _same_pixels(test, others, pairs[found.cosine > SAME])
    exact, n = len(set(pairs[found.cosine > SAME][same, 0].tolist())), len(test)
    near = len(set(pairs[:, 0].tolist())) - exact
    ids = [(test.ids[i], others.ids[j], float(c)) for (i, j), c in zip(pairs[:SHOWN], found.cosine, strict=False)]
    told = {
        "exact": exact,
        "near": near,
        "by_chance": found.by_chance,
        "p": found.p,
        "limit": found.limit,
        "pairs": ids,
        "nearest": f"; the nearest: {ids[0][0]} and {ids[0][1]}" if ids else "",
    }
    return _share(metric, exact + near, n, caveats=_caveats(WITH[metric], exact, near, found), **told)


def _same_pixels(test: Images, others: Images, pairs: np.ndarray) -> np.ndarray:
    """Which pairs, int (k, 2), have the very same pixels: bool (k,)."""
    from figment.images_in import pixel_hash

    return np.array([pixel_hash(test.load([i])[0]) == pixel_hash(others.load([j])[0]) for i, j in pairs.tolist()], bool)


def _caveats(what: str, exact: int, near: int, found: Near) -> list[str]:
    if not exact and not found.surely:
        return []
    nearly = f"{near:,} nearly so, where about {found.by_chance:.1f} would be by chance" if near else ""
    counts = " and ".join([f"{exact:,} the same"] * bool(exact) + [nearly] * bool(nearly))
    copies = (
        "the filter memorised takes copies out" if what == "generated" else "look at them before you trust the accuracy"
    )
    return [f"Test images that are among the {what} images: {counts}. The numbers may be too good; {copies}."]


def _source(trial: Trial, shots: Images) -> Result:
    from figment.evaluate.leaks import shortcut_sentence, source_shortcut
    from figment.types import Result

    n = len(trial.class_names)
    found = source_shortcut(*(np.bincount(images.labels, minlength=n) for images in (trial.kept, shots)))
    name = trial.class_names[found.label]
    told: dict[str, Any] = {
        "class_name": name,
        "share": 100 * found.share,
        "others": 100 * found.share_of_others,
        "p": found.p,
        "caveats": [shortcut_sentence(found, name)] if found.is_one else [],
    }
    return Result("leaks/source", found.ratio, len(trial.kept) + len(shots), found.ci, details=told)


def _share(metric: str, k: int, n: int, **details: Any) -> Result:
    from figment.evaluate.accuracy import wilson
    from figment.types import Result

    told: Mapping[str, Any] = {"count": k, **details}
    return Result(metric, k / n, n, wilson(k / n, n, 1.96), details=told)


NEARLY = "{exact:,} the same, {near:,} nearly so, where about {by_chance:.1f} pairs would be by chance{nearest}"

MEASURE = Measure(
    name="leaks",
    explains="Test images that are the same as what was learnt from, or nearly so: nearer, to the recipe's encoder, than 999 of 1,000 of"
    " the larger set's own images are to one another (of generated images: than 999 of 1,000 test images are). Some are by chance,"
    " and the count says how many; features find copies that were encoded again, not those that look different to the"
    " encoder. Test images that are there twice. With few_shot, by how much the odds of being generated differ for"
    " the class where they differ most (1: not at all). `evaluate.leaks: false` switches all of it off.",
    metrics=(
        Metric(
            "leaks/test", "test images that are there twice", what="{count:,} of them", lower_is_better=True, quiet=True
        ),
        *(
            Metric(
                name,
                f"test images with a near copy among the {what} images, some by chance",
                what=NEARLY,
                lower_is_better=True,
                quiet=True,
            )
            for name, what in WITH.items()
        ),
        Metric(
            "leaks/source",
            "odds of being generated, class against others",
            "plain",
            what="{class_name}: {share:.1f} % generated, the others {others:.1f} %",
        ),
    ),
    take=take,
    needs=frozenset({"test"}),
    asked=lambda recipe: recipe.evaluate.leaks is not False,
    names=names,
)
