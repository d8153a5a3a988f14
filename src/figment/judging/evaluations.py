"""All evaluations, in the order in which they are listed."""

from __future__ import annotations

from figment.judging.aro import Aro
from figment.judging.detection import Detection
from figment.judging.evaluation import Evaluation
from figment.judging.fairface import FairFace
from figment.judging.few_shot import FewShot
from figment.judging.knn import Neighbours
from figment.judging.lbfgs import Lbfgs
from figment.judging.linear import Linear
from figment.judging.robustness import Robustness
from figment.judging.segmentation import Segmentation
from figment.judging.zero_shot import ZeroShot

EVALUATIONS: dict[str, type[Evaluation]] = {
    own.name: own
    for own in (Linear, Neighbours, FewShot, Lbfgs, ZeroShot, FairFace, Aro, Robustness, Detection, Segmentation)
}
