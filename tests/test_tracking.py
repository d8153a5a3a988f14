"""Loss curves of a training, which is the same without; the same of fine-tuning; and what came of a run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from colours import NAMES, coloured
from figment import tracking
from figment.errors import FigmentError
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.recipe import validate
from figment.run import run_recipe
from figment.studies.arms import run_arms
from figment.tracking import curves, needs_tracker

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
    own = NetworkLearner(NetworkSettings(**SMALL), NAMES, val=coloured(6, 1), folder=folder, device="cpu", track=track)
    return own.learn(coloured(24), None, seed=2)


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
    with tracking.curves("tensorboard", "x")(0) as draw:
        draw(1, {"loss": 1.0})
        draw(2, {"loss": 2.0})
    with tracking.curves("tensorboard", "x")(1) as draw:  # it was killed after its checkpoint at 1
        draw(2, {"loss": 3.0})
    events = EventAccumulator("curves/x").Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 3.0)]


#: What wandb is started with lies in a file.
WANDB = """
import json
from pathlib import Path
from types import SimpleNamespace
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
    with tracking.curves(tracker, "x", "0123456789abcdef" if kept else None)(0):
        known = json.loads((here / "known.json").read_text())
    resumed = {"name": "x-01234567", "resume": "allow"} | ({"id": "0123456789abcdef"} if tracker == "wandb" else {})
    assert known == {"project": "figment", **(resumed if kept else {"name": "x", "resume": "never"})}


#: With mlflow's interface; what it is told lies in a file. It knows one earlier run, by the tag of a training.
MLFLOW = """
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
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
def set_tags(words):
    told.append(words)
"""


def test_what_mlflow_refuses_is_told(here):
    (here / "mlflow.py").write_text(MLFLOW)
    (here / "deleted").touch()
    said = r"mlflow begins no run: Cannot set a deleted experiment\. Mend that"
    with pytest.raises(FigmentError, match=said), tracking.curves("mlflow", "x")(2):
        pass


@pytest.mark.parametrize("identity", ["0123456789abcdef", "fedcba9876543210", None])
def test_mlflow_knows_a_training_again_by_its_tag(identity: str | None, here):
    (here / "mlflow.py").write_text(MLFLOW)
    with tracking.curves("mlflow", "x", identity)(2) as log:
        log(3, {"loss": 0.5})
        log(None, {"top1/synthetic": 0.9, "verdict": "helps"})
    experiment, (run, name, tags), *logged = json.loads((here / "told.json").read_text())
    assert experiment == "figment"
    assert logged == [[3, {"loss": 0.5}], {"verdict": "helps"}, [None, {"top1/synthetic": 0.9}]]
    assert run == ("the one before" if identity == "0123456789abcdef" else None)
    assert (name, tags) == ((f"x-{identity[:8]}", {"figment.training": identity}) if identity else ("x", {}))


def test_a_tracker_that_is_not_there_is_said_at_once(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match="track: wandb is not installed. pip install wandb"):
        NetworkLearner(NetworkSettings(**SMALL), NAMES, track="wandb")
    needs_tracker(None)


# ---- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(photos, clip):
    """Without trainings for the verdict, which take their time."""

    def build(**changes):
        data = {
            "task": {"class_names": ["red thing", "green thing", "blue thing"], "real": {"test": str(photos / "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 3},
            "filters": [{"kind": "blank"}],
            "train": {"encoder": str(clip), "seeds": 1},
            "evaluate": {"exchange_rate": False, "evidence": False},
        }
        return validate({**data, **changes}, "")

    return build


def told(here) -> dict[str, dict]:
    """Name of the tracker's run, without the end that tells it from others -> what it was told of no step."""
    lines = [json.loads(line) for line in (here / "told.json").read_text().splitlines()]
    return {name[:-9]: dict(values) for (_, name, _), *said in lines for step, values in said if step is None}


def test_the_results_of_every_arm_are_sent_with_their_intervals_and_a_word(here, recipe):
    (here / "trackio.py").write_text(TRACKIO)
    arms = {"more: 5 each": {"generate.images_per_class": 5}}
    done = run_arms(recipe(name="pets", track="trackio", arms=arms), here / "run")
    sent = told(here)
    assert sent.keys() == {"pets", "more_ 5 each"}
    for name, outcome in zip(("more_ 5 each", "pets"), done.values(), strict=True):
        top1 = outcome.results["top1/synthetic"]
        assert [sent[name][f"top1/synthetic{end}"] for end in ("", "_low", "_high")] == [top1.value, *top1.ci]
        assert sent[name]["verdict"] == outcome.verdict == "not judged"
    names = [line.partition("]")[0] for line in (here / "told.json").read_text().splitlines()]
    run_arms(recipe(name="pets", track="trackio", arms=arms), here / "run")
    again = [line.partition("]")[0] for line in (here / "told.json").read_text().splitlines()]
    assert again == 2 * names  # the same runs of the tracker


def test_nothing_that_is_made_depends_on_the_tracker(here, recipe):
    (here / "trackio.py").write_text(TRACKIO)
    plain = run_recipe(recipe(), here / "run")
    before = {p: p.stat().st_mtime_ns for p in (here / "run").glob("*/stage.json")}
    tracked = run_recipe(recipe(track="trackio"), here / "run")
    assert {p: p.stat().st_mtime_ns for p in (here / "run").glob("*/stage.json")} == before
    assert tracked.results == plain.results and told(here)["figment"]["verdict"] == "not judged"


def test_a_tracker_that_takes_no_results_costs_no_run(here, recipe, caplog):
    (here / "wandb.py").write_text("def init(**known):\n    raise ConnectionError('no route to the host.')")
    done = run_recipe(recipe(track="wandb"), here / "run")
    assert "top1/synthetic" in done.results
    assert "The results of figment did not reach wandb: wandb begins no run: no route to the host." in caplog.text


def test_a_run_whose_tracker_is_not_there_begins_nothing(here, recipe, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(FigmentError, match="^track: mlflow is not installed"):
        run_recipe(recipe(track="mlflow"), here / "run")
    assert not (here / "run/images").exists()


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="tensorboard is not installed")
def test_tensorboard_has_the_results_in_the_runs_folder(here, recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from figment.verify import verify

    done = run_recipe(recipe(name="pets", track="tensorboard"), here / "run")
    (folder,) = (here / "run/curves").iterdir()
    assert folder.name.startswith("pets-")
    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("top1/synthetic")[0].value == pytest.approx(done.results["top1/synthetic"].value)
    assert "verdict/text_summary" in events.Tags()["tensors"]
    assert verify(here / "run").ok and not [f for f in verify(here / "run").findings if "curves" in f.text]


def test_a_tracker_that_fails_meanwhile_costs_the_curve_and_not_the_training(monkeypatch, caplog):
    class Run:
        def __init__(self) -> None:
            self.drawn = 0

        def log(self, values, step) -> None:
            self.drawn += 1
            if self.drawn > 1:
                raise ConnectionError("the server is gone")

        def finish(self) -> None:
            raise ConnectionError("still gone")

    run = Run()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **told: run))
    with curves("wandb", "a training")(0) as draw:
        for step in range(4):
            draw(step, {"loss": 1.0})
    assert run.drawn == 2 and [r.message.split(" (")[0] for r in caplog.records] == [
        "wandb takes nothing more",
        "wandb was not closed",
    ]

    def not_logged_in(**told):
        raise RuntimeError("api_key not configured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=not_logged_in))
    with pytest.raises(FigmentError, match="wandb begins no run: api_key not configured"), curves("wandb", "x")(0):
        pass
