"""Are the generated images what was asked for? The untrained classifier says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.types import Result


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.fidelity import recognisability

    assert trial.untrained is not None
    classifier = getattr(trial.recipe.train, "encoder", trial.learner.name)
    yield recognisability(trial.untrained.logits(trial.kept), trial.kept.labels, trial.class_names, classifier)


MEASURE = Measure(
    name="recognisability",
    explains='Share of the kept images that the untrained classifier calls by the class they were asked for ("CLIP accuracy"). A'
    " check on labels, not on use: what is easiest to recognise is not the best to learn from.",
    metrics=(
        Metric(
            "recognisability", "recognisability", what="of the kept images, by the untrained {classifier}; F1 {f1:.3g}"
        ),
    ),
    take=take,
    needs=frozenset({"untrained", "classes"}),
    oracle="scikit-learn's accuracy_score, and f1_score (average macro) in the details",
)
