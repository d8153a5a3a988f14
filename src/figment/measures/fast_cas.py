"""What a linear classifier learns from the kept images on frozen features: seconds, where a network takes hours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.measure import Measure, Metric
from figment.types import Training

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.types import Result


def take(trial: Trial) -> Iterator[Result]:
    found = trial.predictions("fast CAS", [Training(trial.kept, None, 0)], trial.images_only)
    told = {"images": len(trial.kept), "learner": trial.images_only.fingerprint, "encoder": trial.encoder_name}
    yield trial.accuracy("top1/frozen", found, seeds=(), **told)


MEASURE = Measure(
    name="fast_cas",
    explains="The classification accuracy score in seconds: a linear classifier (shrunk linear discriminant analysis, in closed form) on"
    " the recipe's encoder's frozen features of the kept images alone, tested on real ones. A sweep says how closely it follows the"
    " score of a network over the settings that were tried; the encoder has seen other images before, so the numbers themselves differ.",
    metrics=(
        Metric("top1/frozen", "fast CAS", what="linear on frozen features, {images:,} generated images, {encoder}"),
    ),
    take=take,
    needs=frozenset({"test", "classes"}),
)
