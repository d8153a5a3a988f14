"""Every method by its name in a recipe."""

from __future__ import annotations

from figment.learners.pretrain.byol import BYOL
from figment.learners.pretrain.clip import CLIP
from figment.learners.pretrain.dino import DINO
from figment.learners.pretrain.mae import MAE
from figment.learners.pretrain.method import Method
from figment.learners.pretrain.moco import MoCo
from figment.learners.pretrain.moco_v3 import MoCoV3
from figment.learners.pretrain.simclr import SimCLR
from figment.learners.pretrain.stablerep import StableRep
from figment.learners.pretrain.stablerep_plus import StableRepPlus
from figment.learners.pretrain.supervised import Supervised
from figment.learners.pretrain.synclr import SynCLR

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "stablerep": StableRep,
    "stablerep_plus": StableRepPlus,
    "clip": CLIP,
    "supervised": Supervised,
    "moco": MoCo,
    "moco_v3": MoCoV3,
    "byol": BYOL,
    "mae": MAE,
    "dino": DINO,
    "synclr": SynCLR,
}
