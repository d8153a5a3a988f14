"""What the class names alone are right on: as they are, and weakened."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.cases import RIGHT_LABELS
from calibration.rows import Row
from calibration.world import World
from figment.bias import bias_of


def words(w: World) -> Iterator[Row]:
    """The zero-shot classifier, and it with the bias removed that it shows on the generated images of the first run."""
    test, labels = w.of("test")
    seen = w.of("generated")[0][: w.n_first]
    for blur in sorted({case.blur for case in RIGHT_LABELS}):
        head = w.words(blur)
        logits = head.predict(test)
        unbiased = logits + bias_of(head.predict(seen))
        right = [round(100 * float((own.argmax(1) == labels).mean()), 1) for own in (logits, unbiased)]
        yield {"blur": blur, "zero-shot %": right[0], "bias removed %": right[1]}
