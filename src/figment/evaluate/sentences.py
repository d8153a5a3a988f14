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
    PLACEBO: "a placebo with shuffled labels",
    REAL_ONLY: "real images alone",
    REAL_REPEATED: "real images alone in as many steps",
    CHANCE: "guessing",
}
FEW_CLASSES = "with so few a chance likeness cannot be excluded"


def sentence(
    judgement: Judgement,
    accuracies: Mapping[str, float],
    differences: Mapping[str, Difference],
    content: Content,
    n: int,
) -> str:
    """``accuracies`` and ``differences`` by rival; ``accuracies["own"]`` is the recipe's, all in [0, 1]."""
    own = percent(accuracies["own"])
    baseline, first = next(iter(differences.items()))
    better = f"Better than {RIVALS[baseline]} ({_gain(first.value)})"
    if judgement.word == "cannot say":
        return f"{too_few(n)}. Give {FEWEST} at the least, and a few hundred if you can."
    if judgement.word == "helps":
        held = "The images hold the classes" + ("" if content.by_permutation else f", though {FEW_CLASSES}")
        return f"The classifier is right on {own} of the real test images: better than {_listed(differences)}. {held}."
    if judgement.word == "hurts":
        return (
            f"With the generated images the classifier is worse than {RIVALS[baseline]} ({_gain(first.value)}): it is right on"
            f" {own} of the real test images."
        )
    if judgement.word == "not told from a placebo":
        return f"{better}, but {_of_placebo(accuracies, differences, content, n, own)}."
    if judgement.word == "bias removal does as much":
        does = "does better" if differences[BIAS_REMOVED].ci[1] < 0 else "does as much"
        what = "removing its bias" if baseline == UNTUNED else RIVALS[BIAS_REMOVED]
        return f"{better}, but {what} {does}, without labels or tuning ({percent(accuracies[BIAS_REMOVED])} against {own})."
    if judgement.word == "not told from bias removal":
        it = "it with its bias removed" if baseline == UNTUNED else RIVALS[BIAS_REMOVED]
        return (
            f"{better}, but not told from {it}, which takes neither labels nor tuning: {own} against"
            f" {percent(accuracies[BIAS_REMOVED])}. {_smallest(differences[BIAS_REMOVED], n)}."
        )
    weakest = baseline if first.ci[0] <= 0 else REAL_REPEATED
    return (
        f"The test images do not show whether the generated images help: accuracy is {own} with them and"
        f" {percent(accuracies[weakest])} with {RIVALS[weakest]}. {_smallest(differences[weakest], n)}."
    )


def too_few(n: int) -> str:
    """Of fewer than `FEWEST` test images, without a full stop."""
    return f"There {'is 1 real test image' if n == 1 else f'are {n} real test images'}: too few to say anything"


def _of_placebo(
    accuracies: Mapping[str, float], differences: Mapping[str, Difference], content: Content, n: int, own: str
) -> str:
    placebo, of_placebo = differences[PLACEBO], percent(accuracies[PLACEBO])
    if not content.passed:
        return (
            "the images do not hold the classes: what is learnt from them without words is right on"
            f" {percent(content.accuracy)} of a real class on average, which chance explains"
        )
    if placebo_does_as_well(placebo, content):
        does = "does better" if placebo.ci[1] < 0 else "does as well"
        return f"a placebo {does}: the same images with shuffled labels reach {of_placebo}, against {own}"
    return (
        f"not told from a placebo: the same images with shuffled labels reach {of_placebo}, against {own}."
        f" {_smallest(placebo, n)}"
    )


def _smallest(d: Difference, n: int) -> str:
    seen = max(0.1, 100 * d.smallest_visible(n))
    return f"The smallest difference that {n:,} test images could have shown is about {seen:.1f} points"


def percent(share: float) -> str:
    """0.784 -> ``78.4 %``."""
    return f"{100 * share:.1f} %"


def signed(difference: float) -> str:
    """A difference of two shares, in percentage points, always with its sign: 0.043 -> ``+4.3``; 0 has none."""
    tenths = round(100 * difference, 1)
    return f"{tenths:+.1f}".replace("-", "−") if tenths else "0.0"


def _gain(difference: float) -> str:
    return f"{_short(difference)} points"


def _short(difference: float) -> str:
    return signed(difference) if signed(difference) != "0.0" else "under 0.1"


def _listed(differences: Mapping[str, Difference]) -> str:
    names = {**RIVALS, REAL_REPEATED: "the same in as many steps", PLACEBO: "a placebo"}
    if UNTUNED in differences:
        names[BIAS_REMOVED] = "the same with its bias removed"
    (first, gain), *others = [(names[name], d.value) for name, d in differences.items()]
    *most, last = [f"{first} ({_gain(gain)})", *(f"{name} ({_short(value)})" for name, value in others)]
    return ", ".join(most) + (" and " if most else "") + last
