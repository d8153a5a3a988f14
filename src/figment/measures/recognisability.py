"""Are the generated images what was asked for? The untrained classifier says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.types import Result


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.fidelity import recognisability

    assert trial.untrained is not None
    found = recognisability(
        trial.untrained.logits(trial.kept), trial.kept.labels, trial.class_names, trial.learner.name
    )
    yield replace(found, metric=MEASURE.name)


MEASURE = Measure(
    name="recognisability",
    explains='Share of the kept images that the untrained classifier calls by the class they were asked for ("CLIP accuracy"). A'
    " check on labels, not on use: what is easiest to recognise is not the best to learn from.",
    metrics=(Metric("recognisability", "recognisability", what="of the kept images, by the untrained classifier"),),
    take=take,
    needs=frozenset({"untrained"}),
)
