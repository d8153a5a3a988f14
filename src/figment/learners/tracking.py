"""Loss curves, while a training runs: TensorBoard's event files, or the runs of mlflow, trackio or wandb."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.files import is_remote
from figment.learners.settings import Tracker

Log = Callable[[int, Mapping[str, float]], None]  # step, values by name
Curves = Callable[[int], AbstractContextManager[Log]]  # the step that a training goes on from


def needs_tracker(tracker: Tracker | None) -> None:
    """Raise FigmentError for one that is not installed."""
    if tracker is not None and find_spec(tracker) is None:
        raise FigmentError(
            f"train.track: {tracker} is not installed. pip install {tracker}, or leave train.track out: the losses of all epochs"
            " are in the report anyway."
        )


@contextmanager
def untracked(step: int) -> Iterator[Log]:
    yield lambda step, values: None


def curves(tracker: Tracker | None, name: str, checkpoint: Checkpoint | None) -> Curves:
    """Of a training, which is one run of the tracker's.

    TensorBoard's files lie in ``curves`` beside the checkpoint; in the working folder where there is none, or in a store.
    """
    if tracker is None:
        return untracked
    folder, known = Path("curves"), {"resume": "never"}
    if checkpoint is not None:  # which knows what tells this training from others of that name
        name, known = f"{name}-{checkpoint.identity[:8]}", {"resume": "allow"}
        if tracker == "wandb":  # goes by the id: a name is nothing but shown
            known["id"] = checkpoint.identity
        folder = folder if is_remote(checkpoint.path) else checkpoint.path.parent / "curves"

    @contextmanager
    def event_files(step: int) -> Iterator[Log]:
        from torch.utils.tensorboard import SummaryWriter

        # What a training that was killed had drawn after its last checkpoint is not shown twice.
        with SummaryWriter(str(folder / name), purge_step=step + 1) as writer:

            def draw(step: int, values: Mapping[str, float]) -> None:
                for key, value in values.items():
                    writer.add_scalar(key, value, step)

            yield draw

    @contextmanager
    def run(step: int) -> Iterator[Log]:
        module: Any = import_module(tracker)  # trackio has wandb's interface
        run = module.init(project="figment", name=name, **known)
        try:
            yield lambda step, values: run.log(dict(values), step=step)
        finally:
            run.finish()

    @contextmanager
    def mlflow_run(step: int) -> Iterator[Log]:
        mlflow: Any = import_module("mlflow")
        tags: dict[str, str] = {}
        before: list[Any] = []
        try:
            if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
                mlflow.set_experiment("figment")
            if checkpoint is not None:  # an id is mlflow's own to give: a run is found again by its tag
                tags = {"figment.training": checkpoint.identity}
                query = f"tags.`figment.training` = '{checkpoint.identity}'"
                before = mlflow.search_runs(filter_string=query, max_results=1, output_format="list")
            within = mlflow.active_run() is not None  # of whoever calls figment from Python
            known = before[0].info.run_id if before else None
            started = mlflow.start_run(run_id=known, run_name=name, tags=tags, nested=within)
        except mlflow.exceptions.MlflowException as error:
            said = " ".join(str(error).split())[:300].rstrip(".")
            raise FigmentError(f"mlflow begins no run: {said}. Mend that, or leave train.track out.") from error
        with started:
            yield lambda step, values: mlflow.log_metrics(dict(values), step=step)

    return {"tensorboard": event_files, "mlflow": mlflow_run}.get(tracker, run)
