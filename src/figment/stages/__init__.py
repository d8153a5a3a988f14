"""The steps of a run, in order. A new one is a class in a file of its own, and a line here."""

from figment.layout import Run
from figment.stages.caches import Caches
from figment.stages.finetune import Finetune
from figment.stages.hand import Hand
from figment.stages.images import ImagesStage
from figment.stages.model import ModelStage
from figment.stages.prompts import Prompts
from figment.stages.report import Report
from figment.stages.results import Results
from figment.stages.scores import Scores
from figment.stages.stage import Stage

STAGES: tuple[Stage, ...] = (
    Caches(),
    Prompts(),
    Finetune(),
    ImagesStage(),
    Hand(),
    Scores(),
    ModelStage(),
    Results(),
    Report(),
)
OF_IMAGES = ("caches", "prompts", "finetune", "images")  # those that figment generate runs


def stages_of(run: Run) -> tuple[Stage, ...]:
    """Those that such a run has."""
    return tuple(stage for stage in STAGES if run.kind in stage.of)
