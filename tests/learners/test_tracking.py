"""Loss curves of a training, and that it is the same without."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from colours import NAMES, coloured
from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.learners import tracking
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.learners.tracking import needs_tracker

SMALL = {
    "architecture": "test_resnet",
    "image_size": 32,
    "epochs": 3,
    "batch_size": 8,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
}

#: With trackio's and wandb's interface; what is logged lies in a file.
TRACKIO = """
import json
class init:
    def __init__(self, project, name, resume):
        self.told = [[project, name, resume]]
    def log(self, values, step):
        self.told.append([step, values])
    def finish(self):
        with open("told.json", "a") as file:
            file.write(json.dumps(self.told) + "\\n")
"""


def learn(folder: Path, track: str | None):
    settings = NetworkSettings(track=track, **SMALL)
    return NetworkLearner(settings, NAMES, val=coloured(6, 1), folder=folder, device="cpu").learn(
        coloured(24), None, seed=2
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder whose modules are found first; the stand-ins of trackers are no other test's, whatever the order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    trackers = {name: sys.modules.pop(name, None) for name in ("mlflow", "trackio", "wandb")}
    yield tmp_path
    for name, module in trackers.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def test_a_run_is_told_the_losses_and_the_model_is_the_same(here):
    (here / "trackio.py").write_text(TRACKIO)
    tracked = learn(here / "a", "trackio")
    (project, name, resume), *told = json.loads((here / "told.json").read_text())
    assert (project, resume) == ("figment", "allow") and name.startswith("test_resnet-2-")
    assert [step for step, values in told if "loss" in values] == [3, 6, 9]
    assert [values["loss"] for _, values in told if "loss" in values] == pytest.approx(
        [h["loss"] for h in tracked.history]
    )
    assert [values["val_accuracy"] for _, values in told if "val_accuracy" in values] == [
        h["val_accuracy"] for h in tracked.history
    ]
    plain = learn(here / "b", None)
    assert plain.fingerprint == tracked.fingerprint and plain.history == tracked.history
    assert {path.name for path in (here / "a").glob("*.safetensors")} == {
        path.name for path in (here / "b").glob("*.safetensors")
    }


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="tensorboard is not installed")
def test_tensorboard_reads_the_curves(here):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = learn(here / "a", "tensorboard")
    (folder,) = (here / "a/curves").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [e.step for e in events.Scalars("loss")] == [3, 6, 9]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([h["loss"] for h in model.history], rel=1e-5)
    with tracking.curves("tensorboard", "x", None)(0) as draw:
        draw(1, {"loss": 1.0})
        draw(2, {"loss": 2.0})
    with tracking.curves("tensorboard", "x", None)(1) as draw:  # it was killed after its checkpoint at 1
        draw(2, {"loss": 3.0})
    events = EventAccumulator("curves/x").Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 3.0)]


#: What wandb is started with lies in a file.
WANDB = """
import json
from pathlib import Path
class init:
    def __init__(self, **known):
        Path("known.json").write_text(json.dumps(known))
    def finish(self): ...
"""


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
@pytest.mark.parametrize("kept", [True, False], ids=["checkpoint", "none"])
def test_a_run_is_resumed_where_a_training_goes_on(tracker: str, kept: bool, here):
    """wandb knows a run again by its id alone. What cannot go on is another run each time, though it has the same name."""
    (here / f"{tracker}.py").write_text(WANDB)
    checkpoint = Checkpoint(here / "a.safetensors", "0123456789abcdef") if kept else None
    with tracking.curves(tracker, "x", checkpoint)(0):
        known = json.loads((here / "known.json").read_text())
    resumed = {"name": "x-01234567", "resume": "allow"} | ({"id": "0123456789abcdef"} if tracker == "wandb" else {})
    assert known == {"project": "figment", **(resumed if kept else {"name": "x", "resume": "never"})}


#: With mlflow's interface; what it is told lies in a file. It knows one earlier run, by the tag of a training.
MLFLOW = """
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
told = []
class MlflowException(Exception):
    pass
exceptions = SimpleNamespace(MlflowException=MlflowException)
def active_run():
    return None
def set_experiment(name):
    if Path("deleted").exists():
        raise MlflowException("Cannot set a deleted experiment.")
    told.append(name)
def search_runs(filter_string, max_results, output_format):
    info = SimpleNamespace(run_id="the one before")
    return [SimpleNamespace(info=info)] if "'0123456789abcdef'" in filter_string else []
@contextmanager
def start_run(run_id, run_name, tags, nested):
    told.append([run_id, run_name, tags])
    yield
    Path("told.json").write_text(json.dumps(told))
def log_metrics(values, step):
    told.append([step, values])
"""


def test_what_mlflow_refuses_is_told(here):
    (here / "mlflow.py").write_text(MLFLOW)
    (here / "deleted").touch()
    said = r"mlflow begins no run: Cannot set a deleted experiment\. Mend that"
    with pytest.raises(FigmentError, match=said), tracking.curves("mlflow", "x", None)(2):
        pass


@pytest.mark.parametrize("identity", ["0123456789abcdef", "fedcba9876543210", None])
def test_mlflow_knows_a_training_again_by_its_tag(identity: str | None, here):
    (here / "mlflow.py").write_text(MLFLOW)
    checkpoint = Checkpoint(here / "a.safetensors", identity) if identity else None
    with tracking.curves("mlflow", "x", checkpoint)(2) as log:
        log(3, {"loss": 0.5})
    experiment, (run, name, tags), logged = json.loads((here / "told.json").read_text())
    assert experiment == "figment" and logged == [3, {"loss": 0.5}]
    assert run == ("the one before" if identity == "0123456789abcdef" else None)
    assert (name, tags) == ((f"x-{identity[:8]}", {"figment.training": identity}) if identity else ("x", {}))


def test_a_tracker_that_is_not_there_is_said_at_once(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match="train.track: wandb is not installed. pip install wandb"):
        NetworkLearner(NetworkSettings(track="wandb", **SMALL), NAMES)
    needs_tracker(None)
