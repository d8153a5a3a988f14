"""What several runs teach together, in two sentences: images alone, plain and rich, and images beside a few real ones.

Each run has a verdict of its own, which says whether it helps. What lies between them (did the richer one pay, and what is left to gain
once there are photographs) is for the reader to find, unless somebody says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from figment.evaluate.kind import Difference
from figment.evaluate.sentences import percent, signed
from figment.evaluate.verdict import CANNOT_SAY, Word


@dataclass(frozen=True)
class Rung:
    """One run: its name, its accuracy in [0, 1], and the word on it among all of them."""

    name: str
    accuracy: float
    word: Word


@dataclass(frozen=True)
class Ladder:
    """``alone`` are runs that learn from generated images alone, one or two, the plainer first; ``step`` is by how much the second is
    better. ``mixed`` has ``shots`` real images of each class (None: numbers of their own) besides, which alone reach ``shots_alone``, and
    ``added`` is the difference. ``all_real`` is the accuracy of all real images; None: not measured."""

    alone: Sequence[Rung]
    step: Difference | None
    mixed: Rung
    shots: int | None
    shots_alone: float
    added: Difference
    all_real: float | None = None


def lesson(ladder: Ladder) -> str:
    """Two sentences; none where there are too few test images for any."""
    if any(rung.word == CANNOT_SAY for rung in (*ladder.alone, ladder.mixed)):
        return ""
    return f"{_of_images_alone(ladder)} {_of_both(ladder)}"


def _of_images_alone(ladder: Ladder) -> str:
    plain, rich = ladder.alone[0], ladder.alone[-1]
    helping = [f"“{rung.name}”" for rung in ladder.alone if rung.word == "helps"]
    beats, rivals = "beats", "every rival that uses none of its images' content"
    if ladder.step is None:
        does = beats if helping else "does not beat"
        verdict = "" if helping else f" (verdict: {plain.word})"
        return (
            f"Without real images “{plain.name}” is right on {percent(plain.accuracy)}, and {does} {rivals}{verdict}."
        )
    low, high = ladder.step.ci
    from_to = f"{percent(plain.accuracy)} to {percent(rich.accuracy)}"
    if low > 0:
        said = f"“{rich.name}” gains {_size(ladder.step)} over “{plain.name}”, from {from_to}"
    elif high < 0:
        said = f"“{rich.name}” loses {_size(ladder.step)} against “{plain.name}”, from {from_to}"
    else:
        both = f"{percent(rich.accuracy)} and {percent(plain.accuracy)}"
        said = f"“{rich.name}” and “{plain.name}” cannot be told apart ({both})"
    if not helping:
        return f"Without real images {said}; neither {beats} {rivals} (verdict on “{rich.name}”: {rich.word})."
    who = f"only {helping[0]}" if len(helping) == 1 else "each of the two"
    return f"Without real images {said}; {who} {beats} {rivals}."


def _of_both(ladder: Ladder) -> str:
    mixed, (low, high) = ladder.mixed, ladder.added.ci
    few = (
        "the few real images"
        if ladder.shots is None
        else f"{ladder.shots:,} real image{'s' * (ladder.shots != 1)} a class"
    )
    if low > 0:
        said = f"generated ones add {_size(ladder.added)}"
        if mixed.word != "helps":
            said += f", but not surely by what they show (verdict: {mixed.word})"
    elif high < 0:
        said = f"generated ones cost {_size(ladder.added)}"
    else:
        said = "nothing shows that generated ones change that" + f" ({_signed(ladder.added)})"
    rest = "" if ladder.all_real is None else f"; all real images reach {percent(ladder.all_real)}"
    return f"Alone, {few} reach{'es' * (ladder.shots == 1)} {percent(ladder.shots_alone)}, and {said}{rest}."


def _size(d: Difference) -> str:
    """A difference whose sign the sentence tells: ``4.3 points (2.9 to 5.7)``."""
    value, *ends = (signed(abs(x)).lstrip("+") for x in (d.value, *sorted(d.ci, key=abs)))
    return f"{value if value != '0.0' else 'under 0.1'} points ({ends[0]} to {ends[1]})"


def _signed(d: Difference) -> str:
    return f"{signed(d.value)} points, {signed(d.ci[0])} to {signed(d.ci[1])}"
