"""Loss curves while a training runs, and what came of a run: TensorBoard's event files, or the runs of mlflow, trackio or wandb."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from figment.errors import FigmentError
from figment.files import is_remote

logger = logging.getLogger(__name__)
Tracker = Literal["tensorboard", "mlflow", "trackio", "wandb"]
Log = Callable[[int | None, Mapping[str, float | str]], None]  # step (None: of no step), numbers and words by name
Curves = Callable[[int], AbstractContextManager[Log]]  # the step that a training goes on from


def needs_tracker(tracker: Tracker | None) -> None:
    """Raise FigmentError for one that is not installed."""
    if tracker is not None and find_spec(tracker) is None:
        raise FigmentError(
            f"track: {tracker} is not installed. pip install {tracker}, or leave track out: losses and results are in the run's folder"
            " anyway."
        )


@contextmanager
def untracked(step: int) -> Iterator[Log]:
    yield lambda step, values: None


def curves(tracker: Tracker | None, name: str, identity: str | None = None, place: Path | None = None) -> Curves:
    """Of a training, which is one run of the tracker's.

    Args:
        identity: tells it from others of that name, so that it goes on where it was; None: it is another run each time.
        place: the folder in whose ``curves`` TensorBoard's files lie; the working folder where there is none, or it is in a store.
    """
    if tracker is None:
        return untracked
    folder = Path("curves") if place is None or is_remote(place) else place / "curves"
    known = {"resume": "never"}
    if identity is not None:
        name, known = f"{name}-{identity[:8]}", {"resume": "allow"}
        if tracker == "wandb":  # goes by the id: a name is nothing but shown
            known["id"] = identity

    @contextmanager
    def event_files(step: int) -> Iterator[Log]:
        from torch.utils.tensorboard import SummaryWriter

        # What a training that was killed had drawn after its last checkpoint is not shown twice.
        with SummaryWriter(str(folder / name), purge_step=step + 1) as writer:

            def draw(step: int | None, values: Mapping[str, float | str]) -> None:
                for key, value in values.items():
                    (writer.add_text if isinstance(value, str) else writer.add_scalar)(key, value, step)

            yield draw

    @contextmanager
    def run(step: int) -> Iterator[Log]:
        module: Any = import_module(tracker)  # trackio has wandb's interface
        run = module.init(project="figment", name=name, **known)
        try:
            yield lambda step, values: run.log(dict(values), step=step)
        finally:
            run.finish()

    own = {"tensorboard": event_files, "mlflow": lambda step: _mlflow_run(name, identity)}.get(tracker, run)
    return lambda step: _forgiving(tracker, own(step))


@contextmanager
def _forgiving(tracker: str, drawn: AbstractContextManager[Log]) -> Iterator[Log]:
    """A tracker that does not begin is told before anything is trained; what fails later costs the curve, and not the training."""
    with ExitStack() as stack:
        try:
            log = stack.enter_context(drawn)
        except Exception as error:  # each tracker has errors of its own
            raise FigmentError(f"{tracker} begins no run: {_said(error)}. Mend that, or leave track out.") from error
        lost = False

        def draw(step: int | None, values: Mapping[str, float | str]) -> None:
            nonlocal lost
            if lost:
                return
            try:
                log(step, values)
            except Exception as error:
                lost = True
                logger.warning("%s takes nothing more (%s): the training goes on without it.", tracker, _said(error))

        yield draw
        try:
            stack.close()
        except Exception as error:
            logger.warning("%s was not closed (%s).", tracker, _said(error))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


@contextmanager
def _mlflow_run(name: str, identity: str | None) -> Iterator[Log]:
    mlflow: Any = import_module("mlflow")
    tags: dict[str, str] = {}
    before: list[Any] = []
    if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
        mlflow.set_experiment("figment")
    if identity is not None:  # an id is mlflow's own to give: a run is found again by its tag
        tags = {"figment.training": identity}
        query = f"tags.`figment.training` = '{identity}'"
        before = mlflow.search_runs(filter_string=query, max_results=1, output_format="list")
    within = mlflow.active_run() is not None  # of whoever calls figment from Python
    known = before[0].info.run_id if before else None
    with mlflow.start_run(run_id=known, run_name=name, tags=tags, nested=within):

        def log(step: int | None, values: Mapping[str, float | str]) -> None:
            words = {key: value for key, value in values.items() if isinstance(value, str)}
            numbers = {key: value for key, value in values.items() if key not in words}
            if words:
                mlflow.set_tags(words)
            if numbers:
                mlflow.log_metrics(numbers, step=step)

        yield log
