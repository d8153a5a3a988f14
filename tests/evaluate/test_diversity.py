"""Within-class diversity against its definition and its own statistics; what compares class by class and cannot."""

from __future__ import annotations

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.evaluate.coverage import covered, within_classes
from figment.evaluate.diversity import diversity
from sets_of import pair

NAMES = ("cat", "dog", "owl")


def labels_of(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def by_definition(x: np.ndarray, labels: np.ndarray) -> float:
    classes = [x[labels == c].astype(float) for c in np.unique(labels)]
    return float(np.mean([np.mean([np.std(column, ddof=1) for column in own.T]) for own in classes]))


@pytest.mark.parametrize("counts", [(10, 10, 10), (3, 9, 30), (5,)])
def test_is_the_deviation_inside_of_classes(counts):
    labels = labels_of(*counts)
    real, generated = pair(len(labels), len(labels), 6, scale=0.5)
    found = diversity(real, generated, (labels, labels), NAMES, "x")
    assert found.value == pytest.approx(by_definition(generated, labels), rel=1e-9)
    assert found.details["of_real"] == pytest.approx(by_definition(real, labels), rel=1e-9)
    assert set(found.per_class) == set(NAMES[: len(counts)]) and found.ci[0] <= found.value <= found.ci[1]
    apart = generated + 100 * labels[:, None]  # classes that lie far apart are no more diverse inside
    assert diversity(real, apart, (labels, labels), NAMES, "x").value == pytest.approx(found.value, rel=1e-4)


@pytest.mark.parametrize("each", [3, 6, 30])
def test_intervals_hold_the_average_of_other_draws(each):
    labels = labels_of(each, each, each)
    n = len(labels)
    drawn = [diversity(*pair(n, n, 5, seed=seed), (labels, labels), NAMES, "x") for seed in range(40)]
    values = np.array([one.value for one in drawn])
    assert np.mean([one.ci[0] <= values.mean() <= one.ci[1] for one in drawn]) >= 0.9
    ratio = np.mean([one.details["standard_error"] for one in drawn]) / values.std()
    assert 0.75 < ratio < (1.35 if each == 30 else 1.7)  # with a handful rather too wide


def test_labels_that_are_mixed_up_look_right_together_and_wrong_in_each_class():
    labels = labels_of(40, 40, 40)
    real, generated = (x + 20 * labels[:, None] for x in pair(120, 120, 4, 0.0, 1.0))
    right = within_classes(real, generated, (labels, labels), NAMES, "x")
    wrong = within_classes(real, generated, (labels, np.roll(labels, 40)), NAMES, "x")
    assert right.value > 0.9 and wrong.value == 0 and set(right.per_class) == set(NAMES)
    assert right.ci[0] <= right.value <= right.ci[1] <= 1 and right.details["precision"]["cat"] > 0.8
    assert min(wrong.details["floor_real"], wrong.details["floor_generated"]) > 0.8 and wrong.ci[0] == 0 < wrong.ci[1]


@pytest.mark.parametrize(("n", "m"), [(300, 14), (14, 300)])
def test_floors_within_classes_are_of_the_size_of_the_number_beside_them(n, m):
    """Halves of images of one kind reach alike, however many more of the other there are."""
    real, generated = pair(3 * n, 3 * m, 16, 0.0, 1.0)
    details = within_classes(real, generated, (labels_of(n, n, n), labels_of(m, m, m)), NAMES, "x").details
    assert details["floor_n"] == 7
    assert details["floor_real"] == pytest.approx(details["floor_generated"], abs=0.1)
    assert details["at_floor_n"] == pytest.approx(details["floor_real"], abs=0.1)


def test_within_classes_are_precision_and_recall_of_each_class_alone():
    labels = labels_of(9, 20, 31)
    real, generated = pair(60, 60, 4)
    found = within_classes(real, generated, (labels, labels), NAMES, "x")
    alone = {name: covered(real[labels == c], generated[labels == c]) for c, name in enumerate(NAMES)}
    assert found.per_class == pytest.approx({name: one.f1 for name, one in alone.items()}, abs=1e-12)
    assert found.value == pytest.approx(np.mean([one.f1 for one in alone.values()]))
    assert found.details["recall"] == {name: one.recall for name, one in alone.items()}


@pytest.mark.parametrize(
    ("real_counts", "counts", "said"),
    [
        (
            (5, 5, 0),
            (5, 5, 5),
            "1 of 3 generated classes have no real images to be compared with: owl. Add real images",
        ),
        ((5, 5, 5), (5, 5, 1), "needs {fewest} real and {fewest} generated images of each; '{first}' has"),
        ((5, 1, 5), (5, 5, 5), "needs {fewest} real and {fewest} generated images of each; '{first}' has"),
    ],
)
@pytest.mark.parametrize(("measure", "fewest"), [(diversity, 3), (within_classes, 7)])
def test_classes_that_cannot_be_compared_are_named(measure, fewest, real_counts, counts, said):
    labels = labels_of(*real_counts), labels_of(*counts)
    real, generated = pair(len(labels[0]), len(labels[1]), 3)
    first = {3: NAMES[1 if real_counts[1] == 1 else 2], 7: "cat"}[fewest]
    with pytest.raises(FigmentError, match=said.format(fewest=fewest, first=first)):
        measure(real, generated, labels, NAMES, "x")


def test_a_class_that_was_not_generated_is_not_asked_for():
    labels = labels_of(9, 9, 9), labels_of(9, 0, 9)
    real, generated = pair(27, 18, 3)
    assert set(diversity(real, generated, labels, NAMES, "x").per_class) == {"cat", "owl"}
