"""What is suggested, each thing where its measure says so and not elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from figment.evaluate.content import Content
from figment.evaluate.kind import Difference, images_for
from figment.evaluate.levers import Measured, levers, roughly
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, UNTUNED, judge


def of(value: float, half: float = 0.005) -> Difference:
    return Difference(value, (value - half, value + half), 0.001 if value > half else 0.5, half / 2, half / 4, 0.05)


def measured(z: float, c: float, p: float, content: bool = True, n: int = 5_000, **facts) -> Measured:
    """Own 80 %, images alone 75 %."""
    gate = Content(True, 1e-4, 0.75, True) if content else Content(False, 0.4, 0.12, True)
    differences = {UNTUNED: of(z), BIAS_REMOVED: of(c), PLACEBO: of(p)}
    own = Measured(judge(differences, gate, n), differences, gate, n, 10, 0.8, gate.accuracy, of(0.05), 0.8 - c)
    return replace(own, **facts)


HELPS, NOTHING = (0.06, 0.02, 0.03), (-0.06, 0.02, 0.03)  # the second hurts for no reason that was measured


@pytest.mark.parametrize(
    "own, first",
    [
        (measured(0.06, 0.02, 0.03, content=False), "The generator does not show these classes: without words .* 12.0 %"),
        (measured(0.06, -0.01, 0.03), "Remove the untuned .* free: 81.0 % against 80.0 %.*words_and_images"),
        (measured(0.06, -0.01, 0.03, kind="words_and_images"), "Remove the untuned .* of this recipe.$"),
        (measured(0.06, 0.02, 0.0), "train.kind: words_and_images: the images hold the classes"),
        (measured(*NOTHING, images_only=0.85, over_images_only=of(-0.05)), "words_and_images: .* 85.0 %, more than"),
        (measured(*NOTHING, untuned_guesses=True), "The untuned classifier is no better than guessing"),
        (measured(*NOTHING, kept={"cat": 0.9, "dog": 0.1}), "rejected 90.0 % of the images of “dog”"),
        (measured(*NOTHING, guidance={"generate.guidance_scale": 7.5}), "A lower generate.guidance_scale: 7.5"),
        (
            measured(*NOTHING, guidance={"generate.stages.0.guidance_scale": 1.0, "generate.stages.1.guidance_scale": 4.0}),
            "A lower generate.stages.1.guidance_scale: 4",
        ),
        (measured(*NOTHING, real_images=9), r"holds 9 or more real images .*shots: 9"),
        (measured(*NOTHING, real_images=900), r"shots: 16"),
        (measured(0.001, 0.02, 0.03, n=200), "More test images: 200 show differences of 4.4 points or more from the untuned classifier. A difference of 1.0"),
        (measured(0.06, 0.02, 0.03, n=12), "More test images: 12 cannot decide"),
    ],
)  # fmt: skip
def test_the_first_suggestion(own, first):
    import re

    found = levers(own)
    assert 1 <= len(found) <= 2 and re.search(first, found[0]), found


def test_nothing_is_suggested_without_a_measure_that_says_so():
    assert levers(measured(*HELPS, guidance={"generate.guidance_scale": 7.5}, real_images=9)) == []
    assert levers(measured(*NOTHING, guidance={"generate.guidance_scale": 2.0}, kept={"cat": 0.6})) == []


def test_nothing_is_suggested_that_is_not_better():
    equal, unsure, perhaps = of(0.0), of(-0.001), of(-0.001, 0.02)
    for over, said in ((equal, False), (unsure, False), (perhaps, True), (of(-0.001, 0.0005), True)):
        own = measured(0.06, over.value, 0.03)
        differences = {**own.differences, BIAS_REMOVED: over}
        own = replace(own, differences=differences, judgement=judge(differences, own.content, own.n))
        assert any("Remove the untuned" in text for text in levers(own)) is said, over
    starting_from_it = replace(own, kind="words_and_images", differences={**own.differences, BIAS_REMOVED: perhaps})
    assert not any("Remove the untuned" in text for text in levers(starting_from_it))


def test_who_is_right_on_every_test_image_has_nothing_to_try_but_more_of_them():
    all_right = of(0.0, 1e-9)
    differences = dict.fromkeys((UNTUNED, BIAS_REMOVED, PLACEBO), all_right)
    facts = {"guidance": {"generate.guidance_scale": 7.5}, "real_images": 9, "kept": {"cat": 0.1}, "bias_removed": 1.0}
    for n, said in ((40, ["More test images: 40 show"]), (5_000, [])):
        own = replace(measured(0, 0, 0, n=n, **facts), own=1.0, differences=differences)
        own = replace(own, judgement=judge(differences, own.content, n))
        assert [text[: len("More test images: 40 show")] for text in levers(own)] == said


def test_enough_test_images_are_not_asked_to_be_more():
    """5,000 show half a point: a point takes fewer."""
    assert not any("More test images" in text for text in levers(measured(0.001, 0.02, 0.03)))


def test_the_number_of_test_images_is_that_of_the_rival_that_is_nearest():
    own = measured(0.02, 0.05, 0.06)
    wide = replace(own.differences[UNTUNED], ci=(-0.01, 0.05), image_se=0.015, set_se=0.001)
    differences = {**own.differences, UNTUNED: wide}
    own = replace(own, differences=differences, judgement=judge(differences, own.content, 200), n=200)
    wanted = images_for(0.02, wide.discordance, wide.set_se)
    assert wanted is not None and f"A difference of 2.0 points takes about {roughly(wanted):,}." in levers(own)[0]
    differences[UNTUNED] = replace(wide, set_se=0.02)
    assert levers(replace(own, differences=differences))[0].startswith(
        "More images of each class (generate.images_per_class)"
    )
    assert "takes about" not in levers(replace(own, differences=differences, n=12))[0]


def test_planned_numbers_have_two_digits():
    assert [roughly(n) for n in (7, 99, 123, 12_433, 987_654)] == [7, 99, 120, 12_000, 990_000]
