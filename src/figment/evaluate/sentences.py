"""The verdict in words that a stranger understands: one sentence for each, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping

from figment.evaluate.content import Content
from figment.evaluate.kind import Difference
from figment.evaluate.verdict import (
    BIAS_REMOVED,
    CHANCE,
    FEWEST,
    PLACEBO,
    REAL_ONLY,
    REAL_REPEATED,
    UNTUNED,
    Judgement,
    placebo_does_as_well,
)

#: What the recipe's classifier is compared with, as it stands in a sentence.
RIVALS = {
    UNTUNED: "the untuned classifier",
    BIAS_REMOVED: "the untuned classifier with its bias removed",
    PLACEBO: "a placebo (the same images with shuffled labels)",
    REAL_ONLY: "the real images alone",
    REAL_REPEATED: "the real images alone, seen in as many steps",
    CHANCE: "guessing",
}


def sentence(
    judgement: Judgement,
    accuracies: Mapping[str, float],
    differences: Mapping[str, Difference],
    content: Content,
    n: int,
) -> str:
    """``accuracies`` and ``differences`` by rival; ``accuracies["own"]`` is the recipe's, all in [0, 1]."""
    own = f"{100 * accuracies['own']:.1f} %"
    baseline, first = next(iter(differences.items()))
    gain = f"{100 * first.value:+.1f} points".replace("-", "−")
    if judgement.word == "cannot say":
        return f"There are {n} real test images: too few to say anything. Give {FEWEST} at the least, and a few hundred if you can."
    if judgement.word == "helps":
        return (
            f"With the generated images the classifier is right on {own} of the real test images: better than {_listed(differences)},"
            " and the images hold the classes."
        )
    if judgement.word == "hurts":
        return f"With the generated images the classifier is worse than {RIVALS[baseline]} ({gain}): {own} of the real test images."
    if judgement.word == "not told from a placebo":
        return f"Better than {RIVALS[baseline]} ({gain}), but {_of_placebo(accuracies, differences, content, n, own)}."
    if judgement.word == "bias removal does as much":
        does = "does it better" if differences[BIAS_REMOVED].ci[1] < 0 else "does as much"
        return (
            f"Better than {RIVALS[baseline]} ({gain}), but removing its bias {does}, without labels or tuning"
            f" ({_percent(accuracies[BIAS_REMOVED])} against {own})."
        )
    if judgement.word == "not told from bias removal":
        seen = 100 * differences[BIAS_REMOVED].smallest_visible(n)
        return (
            f"Better than {RIVALS[baseline]} ({gain}), but not told from it with its bias removed, without labels or tuning:"
            f" {_percent(accuracies[BIAS_REMOVED])} against {own}; the smallest difference that {n:,} test images could have shown is"
            f" about {seen:.1f} points."
        )
    weakest = baseline if first.ci[0] <= 0 else REAL_REPEATED
    seen = 100 * differences[weakest].smallest_visible(n)
    return (
        f"The test images do not show whether the generated images help: {own}, against {_percent(accuracies[weakest])} of"
        f" {RIVALS[weakest]}. The smallest effect that {n:,} of them could have shown is about {seen:.1f} points."
    )


def _of_placebo(
    accuracies: Mapping[str, float], differences: Mapping[str, Difference], content: Content, n: int, own: str
) -> str:
    placebo, of_placebo = differences[PLACEBO], _percent(accuracies[PLACEBO])
    if not content.passed:
        return (
            f"the images do not hold the classes: what is learnt from them without words is right on {_percent(content.accuracy)} of"
            " each real class, which chance explains"
        )
    if placebo_does_as_well(placebo, content):
        return f"the placebo does as well: the same images with shuffled labels reach {of_placebo}, against {own}"
    seen = 100 * placebo.smallest_visible(n)
    return (
        f"not told from a placebo: the same images with shuffled labels reach {of_placebo}, against {own}; the smallest difference"
        f" that {n:,} test images could have shown is about {seen:.1f} points"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(differences: Mapping[str, Difference]) -> str:
    *most, last = [
        f"{RIVALS[name]} ({100 * d.value:+.1f} points)".replace("(-", "(−") for name, d in differences.items()
    ]
    return ", ".join(most) + (" and " if most else "") + last
