"""Classification accuracy score: what a network learns from images, generated ones say, tested on real ones.

Ravuri and Vinyals 2019; the headline measure of Azizi et al. 2023, who train a ResNet-50. `SMALL_CNN` is its scale model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from figment.evaluate.accuracy import accuracy
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.learners.network.small_cnn import SMALL_CNN
from figment.types import Images, Result


def classification_accuracy_score(
    train: Images,
    test: Images,
    class_names: Sequence[str],
    *,
    settings: NetworkSettings = SMALL_CNN,
    seeds: Sequence[int] = (0,),
) -> Result:
    """CAS: top-1 on the real images ``test`` after training on ``train`` alone, the mean over training seeds.

    As `figment.evaluate.accuracy.accuracy`; ``details`` also says how the networks were trained. Raises FigmentError for
    what `NetworkLearner` refuses, before anything is trained.
    """
    learner = NetworkLearner(settings, class_names)
    models = [learner.learn(train, None, seed) for seed in seeds]
    result = accuracy([m.logits(test) for m in models], test.labels, class_names, "cas", tuple(seeds))
    return replace(result, fingerprint=learner.fingerprint, details={**result.details, **models[0].facts})
