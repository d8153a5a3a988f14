"""What the page says of a run, made of its results."""

from __future__ import annotations

import pytest

from figment.report.answers import difference
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
