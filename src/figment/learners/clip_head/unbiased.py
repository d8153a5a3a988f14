"""The zero-shot head without its bias: what words alone can do, and where tuning starts.

Tuning from there leaves what removes the bias out of what images have to teach. On the starter it ends .9 to 1.4 points higher than from the
zero-shot head itself: docs/results/learners.md.
"""

from __future__ import annotations

import numpy as np

from figment.bias import bias_shown
from figment.learners.clip_head.head import Head

Labelled = tuple[np.ndarray, np.ndarray]  # features float (m, D) of images, and their labels int (m,)


def unbiased(
    head: Head, synthetic: Labelled | None, real: Labelled | None, unlabelled: np.ndarray | None = None
) -> Head:
    """``head`` with its bias removed, as `figment.bias.bias_shown` finds it in the images of a training, or in features float (m, D)
    of unlabelled ones."""
    return head.shifted(bias_shown(synthetic, real, unlabelled, logits=head.predict))
