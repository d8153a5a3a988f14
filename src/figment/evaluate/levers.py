"""What to try next, after any verdict but *helps*: from what the run itself measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from figment.evaluate.content import Content
from figment.evaluate.kind import LEVEL, Difference, images_for
from figment.evaluate.sentences import RIVALS, percent
from figment.evaluate.verdict import A_POINT, BIAS_REMOVED, FEWEST, Judgement

MOST = 2  # suggestions: more would be a list of everything
MANY_REJECTED = 0.5  # of a class's images
HIGH_GUIDANCE = 3.0  # above it images of one prompt look alike, and training gains from variety


@dataclass(frozen=True)
class Measured:
    """What a run knows of itself.

    ``own`` and ``images_only`` are accuracies in [0, 1], of the recipe's classifier and of the learner without words; ``over_images_only`` is the
    paired difference of the two. ``kept`` has the share of each class's images that the filters kept. ``real_images`` counts the
    real images a class that the recipe names and does not learn from. ``guidance`` has each scale that the images were guided with, by its
    field of the recipe.
    """

    judgement: Judgement
    differences: Mapping[str, Difference]
    content: Content
    n: int
    n_classes: int
    own: float
    images_only: float
    over_images_only: Difference
    bias_removed: float | None = None
    untuned_guesses: bool = False
    kept: Mapping[str, float] = field(default_factory=dict)
    kind: str = "clip_head"
    guidance: Mapping[str, float] = field(default_factory=dict)
    real_images: int = 0


def levers(m: Measured) -> list[str]:
    """One or two things to try, the likeliest first, each a sentence with the number it rests on. None where the images help, where
    nothing is left to gain, or where nothing that was measured points anywhere."""
    return [] if m.judgement.word == "helps" else list(_rules(m))[:MOST]


def _rules(m: Measured) -> Iterator[str]:
    if m.n < FEWEST:  # nothing is known then
        effect, wanted = _wanted(m)
        takes = "" if wanted is None else f" {_takes(effect, wanted)}"
        yield f"More test images: {m.n} cannot decide anything.{takes}"
        return
    if m.own == 1:  # whatever is tried, these test images show no gain
        yield from _of_test_images(m)
        return
    if m.content.p > LEVEL:
        yield (
            f"The generator does not show these classes: without words the images teach {percent(m.content.accuracy)} of a class on"
            f" average, and guessing is {percent(1 / m.n_classes)}. Look at the images; try other prompts (prompts.kind: captions,"
            " synonyms, attributes) or another generator."
        )
    if m.untuned_guesses and m.kind != "images_only":
        better = (
            f", or train.kind: images_only, which reaches {percent(m.images_only)} here"
            if m.images_only > m.own
            else ""
        )
        yield (
            "The untuned classifier is no better than guessing, so its words only mislead: name the classes otherwise"
            f" (task.templates), take another CLIP{better}."
        )
    wants_both = m.kind not in ("words_and_images", "images_only") and m.content.passed and not m.untuned_guesses
    if m.bias_removed is not None and _may_be_worse(m, BIAS_REMOVED) and not m.untuned_guesses:
        both = " Then try train.kind: words_and_images, which starts from it." if wants_both else ""
        yield (
            f"Remove the untuned classifier's bias, which is free: {percent(m.bias_removed)} against {percent(m.own)} of this recipe."
            f"{both}"
        )
    elif wants_both and m.over_images_only.ci[1] < 0:
        yield (
            f"train.kind: words_and_images: without words the images alone reach {percent(m.images_only)}, more than the"
            f" {percent(m.own)} of this recipe, so its training loses what they hold."
        )
    elif wants_both and m.judgement.word == "not told from a placebo":
        yield (
            f"train.kind: words_and_images: the images hold the classes ({percent(m.content.accuracy)} without words), and this"
            " training does not use it."
        )
    if m.kept and min(m.kept.values()) < MANY_REJECTED:
        name, share = min(m.kept.items(), key=lambda pair: pair[1])
        yield (
            f"The filters rejected {percent(1 - share)} of the images of “{_short(name)}”: give that class synonyms or attributes"
            " that show it (task.synonyms, task.attributes), or a milder filter."
        )
    yield from _of_test_images(m)
    name, scale = max(m.guidance.items(), key=lambda pair: pair[1], default=("", 0.0))
    if scale > HIGH_GUIDANCE:
        yield f"A lower {name}: {scale:g} makes images alike, and training gains from variety (2 is the default)."
    if m.real_images:
        there = "a real image" if m.real_images == 1 else f"{m.real_images:,} or more real images"
        yield (
            f"task.real.train holds {there} of every class: learn from some as well (few_shot: {{shots: {min(16, m.real_images)}}})."
        )


def _may_be_worse(m: Measured, rival: str) -> bool:
    """Whether the recipe is worse than a rival, for sure or perhaps by a point; not where the two are as good as equal. Words and images
    start from the classifier without its bias, so there only what is sure is a reason to go back to it."""
    own = m.differences[rival]
    return own.value < 0 and (own.ci[1] < 0 or (own.ci[0] <= -A_POINT and m.kind != "words_and_images"))


def _of_test_images(m: Measured) -> Iterator[str]:
    """More of them, where they are too few to decide; or more generated images, where the sets of the recipe differ too much for any
    number of test images."""
    low, high = m.judgement.ci
    seen = m.differences[m.judgement.rival].smallest_visible(m.n)
    effect, wanted = _wanted(m)
    if not low <= 0 <= high or seen <= abs(m.judgement.worth):
        return
    rival = RIVALS[m.judgement.rival]
    if wanted is None:
        yield (
            f"More images of each class (generate.images_per_class): sets of this recipe differ so much among themselves that no"
            f" number of test images shows a difference of {100 * effect:.1f} points from {rival}."
        )
    elif wanted > m.n:
        yield f"More test images: {m.n:,} show differences of {100 * seen:.1f} points or more from {rival}. {_takes(effect, wanted)}"


def _wanted(m: Measured) -> tuple[float, int | None]:
    """The effect that was measured, or a point where it was smaller, and how many test images it takes; None: no number shows it."""
    effect = max(A_POINT, abs(m.judgement.worth))
    closest = m.differences[m.judgement.rival]
    discordance = max(closest.discordance, fewest_discordant(m.n)) * closest.design
    return effect, images_for(effect, discordance, closest.set_se, closest.level)


def _takes(effect: float, wanted: int) -> str:
    return f"A difference of {100 * effect:.1f} points takes about {roughly(max(wanted, FEWEST)):,}."


def fewest_discordant(n: int) -> float:
    """How often two classifiers may differ that agreed on n test images: agreement on few of them is no promise."""
    return 2 / max(1, n)


def roughly(count: int) -> int:
    """A planned number with two digits that count: 12,433 -> 12,000."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return round(count / unit) * unit


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"
