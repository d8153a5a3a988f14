"""What the page says of a run, made of its results."""

from __future__ import annotations

import pytest

from figment.learners.clip_head.images_only import WEIGHT
from figment.report.answers import conclusion_of, difference
from figment.report.beside import weighed
from figment.types import Result

OWN = Result("top1/synthetic", 0.8, 100, (0.7, 0.9))
JUDGED = {"differences": {"top1/zero_shot": {"ci": [-0.1, 0.3]}, "top1/real_only": {"ci": [-0.2, 0.4]}}}


@pytest.mark.parametrize(
    ("baseline", "gain", "wide"),
    [("top1/zero_shot", "gain/synthetic", (-0.1, 0.3)), ("top1/real_only", "gain/over_real_only", (-0.2, 0.4))],
)
def test_a_gain_has_the_interval_of_what_the_verdict_claims(baseline, gain, wide):
    """Not that of these generated images alone, beside a verdict on all that the recipe would make."""
    of_this_set = Result(gain, 0.1, 100, (0.05, 0.15))
    results = {r.metric: r for r in (OWN, Result(baseline, 0.7, 100, (0.6, 0.8)), of_this_set)}
    assert difference(results, OWN.metric) == of_this_set  # nothing was judged
    found = difference({**results, "worth": Result("worth", 0.1, 100, (-0.2, 0.4), details=JUDGED)}, OWN.metric)
    assert found is not None and found.value == 0.1 and found.ci == wide


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (1.0, "a generated image weighs as much as a photograph"),
        (0.03, "a generated image weighs 0.03 of a photograph"),
        (0.0, "generated images weigh nothing"),
    ],
)
def test_the_weight_of_a_generated_image_is_told_beside_the_verdict(weight, said):
    own = Result("top1/synthetic", 0.8, 100, (0.7, 0.9), details={WEIGHT: weight})
    notes = conclusion_of({own.metric: own}, 10).notes
    assert weighed(own.details) == said
    assert [said in note for note in notes] == [True] * (weight < 1)  # as much as a photograph is no news
    assert conclusion_of({OWN.metric: OWN}, 10).notes == []
