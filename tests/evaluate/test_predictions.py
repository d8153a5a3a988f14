"""The verdict on predictions of one's own: against the parts it is made of, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import figment
from figment.errors import FigmentError
from figment.evaluate.classes import balanced, classes_that_got_worse, disagreement, mean_over_classes
from figment.evaluate.content import content_gate
from figment.evaluate.kind import Difference, difference

RNG = np.random.default_rng(0)
N, N_CLASSES = 400, 8
LABELS = RNG.integers(0, N_CLASSES, N)


def right(share: float, *shape: int) -> np.ndarray:
    """Predictions that are right that often, int (*shape, n)."""
    wrong = (LABELS + RNG.integers(1, N_CLASSES, (*shape, N))) % N_CLASSES
    return np.where(RNG.random((*shape, N)) < share, LABELS, wrong)


OWN, UNTUNED, UNBIASED, PLACEBOS, ONLY = right(0.9, 3), right(0.6), right(0.65), right(0.62, 6), right(0.8)
RIVALS = {"zero_shot": UNTUNED, "bias_removed": UNBIASED}


def test_it_is_made_of_its_parts():
    found = figment.judge(LABELS, OWN, RIVALS, PLACEBOS, ONLY)
    own = (OWN == LABELS).mean(0)
    assert found.word == "helps" and found.sentence.startswith("The classifier is right on ")
    assert found.differences["top1/zero_shot"] == difference(own - (UNTUNED == LABELS))
    shuffles = PLACEBOS == LABELS
    assert found.differences["top1/placebo"] == difference(own - shuffles.mean(0), shuffles=shuffles)
    assert found.content == content_gate(ONLY, LABELS, N_CLASSES)
    assert found.worth == min(d.value for d in found.differences.values()) and found.ci == found.judgement.ci
    assert found.accuracies["own"] == pytest.approx(own.mean()) and not found.worse and not found.untuned_guesses
    assert found.over_images_only.value == pytest.approx(own.mean() - (ONLY == LABELS).mean())


def test_sets_drawn_again_make_it_a_claim_about_the_kind():
    again = {"own": right(0.9, 5), "placebo": right(0.62, 5), "bias_removed": right(0.65, 5)}
    found = figment.judge(LABELS, OWN, RIVALS, PLACEBOS, ONLY, resampled=again)
    sets = (again["own"] == LABELS).astype(float)
    expected = difference(
        (OWN == LABELS).mean(0) - (UNBIASED == LABELS), resampled=sets - (again["bias_removed"] == LABELS)
    )
    assert found.differences["top1/bias_removed"] == expected
    assert found.differences["top1/zero_shot"].set_se == pytest.approx(difference(sets[0], resampled=sets).set_se)


def test_without_rivals_the_baseline_is_guessing():
    found = figment.judge(LABELS, OWN[0], {}, PLACEBOS, ONLY)
    assert list(found.differences) == ["chance", "top1/placebo"] and found.over_classes is None
    assert found.accuracies["chance"] == 1 / N_CLASSES


def test_words_that_know_nothing_are_told():
    found = figment.judge(LABELS, OWN, {"zero_shot": right(0.1), "bias_removed": right(0.1)}, PLACEBOS, ONLY)
    assert found.untuned_guesses


@pytest.mark.parametrize(
    "change, message",
    [
        ({"own": OWN[:, :9]}, r"own is of shape \(3, 9\); a verdict needs int \(400,\)"),
        ({"own": OWN / 2}, "own holds something else than classes.*float64"),
        ({"rivals": {"zero_shots": UNTUNED}}, "no rival 'zero_shots'. Did you mean 'zero_shot'"),
        ({"rivals": {"zero_shot": UNTUNED}}, "bias_removed is needed"),
        ({"resampled": {"own": right(0.9, 5)}}, "needs own and placebo"),
        ({"class_names": ["a", "b"]}, "There are 2 class names, and class 7"),
        ({"labels": np.zeros(0, int)}, r"labels is of shape \(0,\); a verdict needs int \(n,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"labels": LABELS, "own": OWN, "rivals": RIVALS, "placebos": PLACEBOS, "images_only": ONLY}
    with pytest.raises(FigmentError, match=message):
        figment.judge(**{**given, **change})


# ---- class by class --------------------------------------------------------------------------------------------------


def test_a_class_that_got_worse_is_named_and_one_that_may_have_is_not():
    d = np.zeros(N)
    third, few = np.flatnonzero(LABELS == 3), np.flatnonzero(LABELS == 5)[:3]
    d[third[: len(third) // 2]], d[few] = -1.0, -1.0
    names = [f"class {c}" for c in range(N_CLASSES)]
    (found,) = classes_that_got_worse(d, LABELS, names)
    assert (found.name, found.n) == ("class 3", len(third)) and found.value == d[third].mean()
    assert found.ci == difference(d[third], level=0.025 / N_CLASSES).ci
    assert difference(d[third], level=0.005).ci[1] > difference(d[third]).ci[1]


def test_no_class_is_named_in_19_of_20_studies_where_none_got_worse():
    names, named = [str(c) for c in range(N_CLASSES)], 0
    for _ in range(400):
        d = RNG.choice([-1.0, 0.0, 1.0], N, p=[0.1, 0.8, 0.1])
        named += bool(classes_that_got_worse(d, LABELS, names))
    assert named <= 20, named  # .05 / 2 of 400 are 10: only one end is looked at


def test_the_mean_over_classes_is_that_of_a_loop_and_covers_it():
    """Beside a naive twin; and in studies with one large class the interval holds the truth."""
    labels = np.repeat([0, 1, 2], [300, 30, 12])
    truth, covered = np.array([-0.05, 0.1, 0.2]), 0
    for _ in range(300):
        d = np.where(RNG.random(len(labels)) < 0.6, 0.0, 1.0)
        d *= np.where(RNG.random(len(labels)) < (1 + truth[labels] / 0.4) / 2, 1, -1)
        found = mean_over_classes(d, labels)
        assert found.value == pytest.approx(np.mean([d[labels == c].mean() for c in range(3)]))
        covered += found.ci[0] <= truth.mean() <= found.ci[1]
    assert covered >= 0.92 * 300, covered
    assert balanced((labels == 0).astype(float), labels) == pytest.approx(1 / 3)
    resampled = np.where(labels == 2, 1.0, 0.0) * np.array([[0.0], [1.0], [0.0], [1.0]])
    with_sets = mean_over_classes(d, labels, resampled)
    noise = (
        12 * (1 / (3 * 12)) ** 2 * np.var([0, 1, 0, 1], ddof=1)
    )  # of twelve test images: the image part has it already
    assert with_sets.set_se**2 == pytest.approx(np.var([0, 1 / 3, 0, 1 / 3], ddof=1) - noise)
    assert with_sets.ci[1] - with_sets.ci[0] > found.ci[1] - found.ci[0]


def of(value: float, half: float) -> Difference:
    return Difference(value, (value - half, value + half), 0.5, half / 2, 0.0, 0.05)


@pytest.mark.parametrize(
    "all_images, over_classes, said",
    [
        ((-0.05, 0.01), (0.03, 0.01), "rises"),
        ((-0.05, 0.01), (0.03, 0.05), "rises"),
        ((0.05, 0.1), (-0.03, 0.01), "falls"),
        ((0.05, 0.1), (-0.03, 0.05), ""),
        ((0.05, 0.01), (0.03, 0.01), ""),
        ((0.0, 0.01), (0.03, 0.01), ""),
    ],
)
def test_when_the_mean_over_classes_says_the_opposite(all_images, over_classes, said):
    assert disagreement(of(*all_images), of(*over_classes)) == said


def test_small_types_of_integers_are_no_different():
    found = figment.judge(LABELS, OWN, RIVALS, PLACEBOS, ONLY)
    for kind in (np.int8, np.uint8, np.int32):
        small = [a.astype(kind) for a in (LABELS, OWN, PLACEBOS, ONLY)]
        rivals = {name: a.astype(kind) for name, a in RIVALS.items()}
        assert figment.judge(small[0], small[1], rivals, small[2], small[3]) == found
    assert figment.judge(LABELS.tolist(), OWN.tolist(), RIVALS, PLACEBOS.tolist(), ONLY.tolist()) == found


def test_the_baseline_comes_first_whatever_the_order():
    found = figment.judge(LABELS, OWN, dict(reversed(RIVALS.items())), PLACEBOS, ONLY)
    assert next(iter(found.differences)) == "top1/zero_shot"
    few = {"bias_removed": UNBIASED, "real_repeated": UNTUNED, "real_only": UNTUNED}
    order = ["top1/real_only", "top1/real_repeated", "top1/bias_removed", "top1/placebo"]
    assert list(figment.judge(LABELS, OWN, few, PLACEBOS, ONLY).differences) == order


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": np.full(N, 10**9)}, "own holds something else than classes"),
        ({"labels": LABELS - 1}, "labels holds something else"),
        ({"labels": ["cat"] * N}, "labels holds something else.*type <U3"),
        ({"labels": []}, "labels is of shape"),
        ({"own": [[1, 2], [3]]}, "own is of shape"),
        ({"rivals": None}, "rivals and resampled are mappings"),
        ({"rivals": {**RIVALS, "placebo": UNTUNED}}, "placebos are an argument of their own"),
        ({"rivals": {"real_repeated": UNTUNED}}, "real_only with real_repeated"),
        ({"images_only": np.stack([ONLY, ONLY])}, "images_only is one classifier"),
        ({"class_names": ["a"]}, "two classes or more"),
        ({"level": 0.5}, "level is what each side"),
        ({"resampled": {"own": OWN, "placebo": PLACEBOS}}, "as many rows of each"),
    ],
)
def test_what_is_refused_in_a_paragraph(change, message):
    given = {"labels": LABELS, "own": OWN, "rivals": RIVALS, "placebos": PLACEBOS, "images_only": ONLY} | change
    with pytest.raises(FigmentError, match=message):
        figment.judge(**given)


def test_few_groups_say_little_of_the_mean_over_classes_too():
    d, groups = np.where(np.arange(N) % 5 == 0, 1.0, 0.0), np.arange(N) % 3
    three, many = (mean_over_classes(d, LABELS, groups=g) for g in (groups, np.arange(N)))
    assert three.freedom <= 3 and np.subtract(*three.ci) < 1.4 * np.subtract(*many.ci)  # Student's with two degrees


def test_two_placebos_of_a_learner_without_words_do_not_make_luck_of_nothing_or_nothing_of_a_great_deal():
    """Their accuracies happen to be equal in one case and far apart in the other, which says little of how lucky a shuffle can be; what they
    confuse says it."""
    rng = np.random.default_rng(0)
    n, n_classes = 2_000, 10
    labels = np.arange(n) % n_classes

    def consistent(hits: int) -> np.ndarray:
        """Takes most images of a class for one class, right for ``hits`` classes of ten."""
        names = np.roll(np.arange(n_classes), 1)
        names[:hits] = np.arange(hits)
        return np.where(rng.random(n) < 0.6, names[labels], rng.integers(n_classes, size=n))

    own = np.where(rng.random(n) < 0.7, labels, rng.integers(n_classes, size=n))
    lucky, unlucky = consistent(2), consistent(0)
    apart = figment.judge(labels, own, {}, np.stack([lucky, unlucky]), own)
    assert apart.word == "helps"  # by Student's quantile of two accuracies it would have to be 90 points better
    alike = figment.judge(labels, lucky, {}, np.stack([unlucky, unlucky]), own)
    assert alike.differences["top1/placebo"].value > 0.1 and alike.word == "not told from a placebo"
