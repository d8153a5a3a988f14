"""The command line as a user meets it: help, errors of one paragraph, nothing lost."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from figment.cli import main
from figment.errors import FigmentError
from figment.progress import ConsoleHandler, _PlainConsole
from figment.recipe import load_recipe

REPO = Path(__file__).parents[1]


def figment(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What the command prints and returns. In this process, which has torch loaded already; a traceback is printed as such."""
    command, out, err = ["figment", *map(str, arguments)], io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(command, code or 0, out.getvalue(), err.getvalue())


@pytest.fixture
def recipe(tmp_path, sd15, clip):
    """Writes a recipe with tiny models and some fields changed; returns its path."""

    def write(**changes) -> Path:
        data = {
            "task": {"class_names": ["red thing", "green thing", "blue thing"]},
            "prompts": {"kind": "templates"},
            "generate": {"model": str(sd15), "images_per_class": 2, "num_inference_steps": 4},
            "filters": [{"kind": "blank"}],
            "train": {"encoder": str(clip), "epochs": 1, "seeds": 1},
        }
        for field, value in changes.items():
            *parents, last = field.split("__")
            part = data
            for name in parents:
                part = part.setdefault(name, {})
            part[last] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that failed as it should."""
    said = result.stdout + result.stderr
    assert result.returncode == 2, said
    assert "Traceback" not in said
    start = said.index("Error: ")
    assert "\n\n" not in said[start:].strip()
    return said[start:]


def test_unknown_fields_are_shown_all_at_once_with_the_nearest_names(recipe):
    path = recipe(generate__guidance_scal=3, train__epoch=3, filter=[])
    said = error_of(figment("run", path))
    for hint in ("3 mistakes", "Did you mean 'guidance_scale'", "Did you mean 'epochs'", "Did you mean 'filters'"):
        assert hint in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generate__model": "no/such/folder"}, "There is no model folder no/such/folder"),
        ({"generate__model": "owner/name"}, "is not on this machine, and the Hugging Face Hub cannot be reached"),
        ({"task__class_names": []}, "two classes or more"),
        ({"task__class_names": ["cat", "dog", "Cat"]}, "each class once"),
        ({"task__real": {"test": "no-such-folder"}}, "does not exist"),
        ({"prompts": {"kind": "attributes", "per_class": 9}}, "only 1 different prompts"),
    ],
)
def test_mistakes_get_one_paragraph(recipe, tmp_path, changes, message):
    assert message in error_of(figment("run", recipe(**changes), "--out", tmp_path / "run"))
    assert not (tmp_path / "run" / "images").exists()


def test_real_folders_of_other_classes(recipe, tmp_path):
    (tmp_path / "photos" / "red_thing").mkdir(parents=True)
    (tmp_path / "photos" / "gren thing").mkdir()
    said = error_of(figment("run", recipe(task__real={"test": "photos"}), "--out", tmp_path / "run"))
    assert "Missing there: 'green thing', 'blue thing'" in said
    assert "Did you mean 'green thing'" in said


def test_images_of_a_variant_lie_where_its_run_looks_for_them(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = recipe(
        generate={"kind": "procedural", "images_per_class": 4}, variants={"few": {"generate.images_per_class": 1}}
    )
    assert figment("generate", path, "--variant", "few").returncode == 0
    folder = tmp_path / "runs/recipe-few"
    assert json.loads((folder / "images/stage.json").read_text())["counts"]["made"] == 3
    assert folder.name in figment("run", path, "--variant", "few").stdout
    assert [one.name for one in (tmp_path / "runs").iterdir()] == [folder.name]
    said = error_of(figment("generate", path, "--variant", "fw"))
    assert "has no variant 'fw'. Did you mean 'few'?" in said


@pytest.mark.parametrize("command", ["run", "pilot", "generate", "doctor", "check"])
def test_every_command_on_a_recipe_takes_its_variants(command):
    assert "--variant" in figment(command, "--help").stdout


def test_a_pilot_prints_a_row_for_each_question_and_where_the_run_goes_on(recipe, tmp_path):
    shown = figment("pilot", recipe(), "--out", tmp_path / "run", "--images-per-class", 2)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for part in (
        "Does the generator know the classes? ",
        "domain? cannot say",
        "test show? planned",
        "In short: ",
        "goes on from them",
    ):
        assert part in shown.stdout
    assert (tmp_path / "run" / "pilot.json").is_file()


def test_pickled_weights_are_refused(recipe, sd15, tmp_path):
    import diffusers

    diffusers.DiffusionPipeline.from_pretrained(sd15).save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert "allow_pickle" in error_of(figment("run", recipe(generate__model=str(tmp_path / "pickled"))))


def test_output_that_cannot_be_written(recipe, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "Choose another place" in error_of(figment("run", recipe(), "--out", tmp_path / "file" / "run"))
    assert (tmp_path / "file").read_text() == "mine"


def test_recipes_that_are_none(tmp_path):
    assert "figment init" in error_of(figment("run", tmp_path / "missing.yaml"))
    (tmp_path / "bad.yaml").write_text("task: [unclosed")
    assert "is not YAML" in error_of(figment("run", tmp_path / "bad.yaml"))
    assert "has no '='" in error_of(figment("run", REPO / "src/figment/starter/demo.yaml", "--set", "seed"))


def test_init_writes_a_recipe_that_loads_and_overwrites_nothing(tmp_path):
    assert figment("init", tmp_path / "pets.yaml").returncode == 0
    assert load_recipe(tmp_path / "pets.yaml").name == "pets"
    assert "left as it is" in error_of(figment("init", tmp_path / "pets.yaml"))


@pytest.mark.slow
def test_a_run_its_status_its_report_and_its_forecast(recipe, tmp_path):
    path, out = recipe(), tmp_path / "run"
    forecast = figment("run", path, "--out", out, "--dry-run")
    assert forecast.returncode == 0, forecast.stderr
    assert "  3 prompts\n  6 images in 1 shard; 0 are there already\n" in forecast.stdout
    assert not out.exists()
    assert "neither the folder of a run nor of images" in error_of(figment("status", out))
    done = figment("run", path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Verdict: not measured" in done.stdout
    assert "images" in figment("status", out).stdout
    (out / "report.html").unlink()
    assert figment("report", out).returncode == 0
    assert (out / "report.html").is_file()


def test_help_and_doctor():
    said = figment("--help").stdout
    for command in ("demo", "init", "run", "status", "report", "doctor"):
        assert command in said
    doctor = figment("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "starter" in doctor.stdout


@pytest.mark.slow
def test_a_mistake_ends_the_real_process_with_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "figment.cli", "run", str(tmp_path / "missing.yaml")]
    assert "figment init" in error_of(subprocess.run(command, capture_output=True, text=True, check=False))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_init_with_a_name_that_yaml_reads_as_something_else(tmp_path):
    for name in ("123", "yes", "null", "1e3"):
        assert figment("init", tmp_path / f"{name}.yaml").returncode == 0
        assert load_recipe(tmp_path / f"{name}.yaml").name == name


@pytest.mark.slow
def test_hostile_names_are_printed_as_they_are(recipe, tmp_path, photos):
    names = ["[/red] thing", "green [thing]", "blue thing"]
    real = tmp_path / "real"
    for own, folder in zip(names, ("red_thing", "green_thing", "blue_thing"), strict=True):
        (real / own.replace("/", "_")).parent.mkdir(exist_ok=True)
        (real / own.replace("/", "_")).symlink_to(photos / "test" / folder)
    path = recipe(
        name="[/bold]$(id)",
        task__class_names=[n.replace("/", "_") for n in names],
        task__real={"test": str(real)},
        arms={"[/] {x}": {"filters": []}},
    )
    done = figment("run", path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[/] {x}" in done.stdout
    assert "[/bold]$(id)" in done.stdout
    again = figment("report", tmp_path / "run")
    assert "Verdict: " in again.stdout
    assert "36 real test images" in again.stdout


def test_what_the_library_logs_is_shown_while_a_command_runs_and_not_after(capsys, monkeypatch, tmp_path):
    log = logging.getLogger("figment.some.room")
    monkeypatch.setattr(logging.getLogger("figment"), "handlers", [])

    def logs(path, *_):
        log.debug("of no interest")
        log.info("going on from step %d", 12)
        log.warning("a [red]name[/red] \x1b[31m cannot be read")
        raise FigmentError("stop")

    monkeypatch.setattr("figment.recipe.load_recipe", logs)
    said = error_of(figment("run", tmp_path / "r.yaml"))
    assert said.startswith("Error: stop")
    said = figment("run", tmp_path / "r.yaml").stdout
    assert said.splitlines()[:2] == ["  going on from step 12", "  a [red]name[/red] \ufffd[31m cannot be read"]
    assert "of no interest" not in said
    log.info("later")
    assert "later" not in capsys.readouterr().out
    assert not logging.getLogger("figment").handlers


def test_warnings_are_yellow_on_a_terminal(monkeypatch):
    terminal = _PlainConsole(
        highlight=False, file=io.StringIO(), force_terminal=True, color_system="standard", width=80
    )
    monkeypatch.setattr("figment.progress.console", terminal)
    for level in (logging.INFO, logging.WARNING):
        ConsoleHandler().handle(logging.LogRecord("figment", level, "", 0, "%d images", (3,), None))
    assert terminal.file.getvalue() == "  3 images\n\x1b[33m  3 images\x1b[0m\n"


@pytest.mark.slow
def test_a_recipe_in_its_own_run_folder_is_never_written_to(recipe, tmp_path):
    """The resolved one has a name of its own; the user's keeps its comments and its variants."""
    folder = tmp_path / "mine"
    folder.mkdir()
    text = recipe().read_text() + "# what I tried before: seed 7\nvariants:\n  other: {seed: 7}  # not yet\n"
    path = folder / "recipe.yaml"
    path.write_text(text)
    assert figment("run", path, "--out", folder).returncode == 0
    assert path.read_text() == text
    assert "variants" not in (folder / "resolved.yaml").read_text()
    done = figment("run", path)  # in its folder now, with nothing left to do
    assert done.returncode == 0 and f"Report: {folder / 'report.html'}" in done.stdout
    assert figment("run", folder).returncode == 0
    (folder / "resolved.yaml").unlink()
    assert figment("verify", folder).returncode == 1
    assert "makes nothing that is there" in error_of(figment("repair", folder))
    assert path.read_text() == text
    assert figment("run", path).returncode == 0 and (folder / "resolved.yaml").is_file()
    assert path.read_text() == text
    assert "unknown" in figment("verify", folder).stdout  # it is the user's, and nothing vouches for it


@pytest.mark.slow
def test_status_says_when_and_where_a_killed_run_stopped(recipe, tmp_path):
    out = tmp_path / "run"
    assert figment("generate", recipe(), "--out", out).returncode == 0
    assert "stopped" not in figment("status", out).stdout  # a run that ended well leaves no sign
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    now = time.time()
    beat = {"stage": "images", "host": socket.gethostname(), "pid": gone.pid, "started": now - 8000, "beat": now - 7300}
    (out / ".heartbeat").write_text(json.dumps(beat))
    assert "stopped 2 hours ago, at images" in " ".join(figment("status", out).stdout.split())
    (out / ".heartbeat").write_text(json.dumps({**beat, "beat": now - 5}))  # just now, and its process is gone
    assert "stopped 5 seconds ago, at images" in " ".join(figment("status", out).stdout.split())
    (out / ".heartbeat").write_text(json.dumps({**beat, "beat": now - 5, "pid": os.getpid()}))
    assert "running: images, for 2 hours" in " ".join(figment("status", out).stdout.split())
    (out / ".heartbeat").write_text("{")
    assert figment("status", out).returncode == 0
    assert figment("run", recipe(), "--out", out).returncode == 0
    assert not (out / ".heartbeat").exists() and "stopped" not in figment("status", out).stdout


@pytest.mark.parametrize("command", ["demo", "init", "run", "status", "report", "doctor"])
def test_every_command_explains_itself(command):
    done = figment(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "lines"), [("--help", 0), ("tasks", 1), ("run", 1), ("report", 0)])
def test_a_reader_that_leaves_early_is_no_error(recipe, tmp_path, verb, lines):
    """``figment ... | head``: nothing is said of it, and the report is written to its end."""
    out = tmp_path / "out"
    run = ["run", str(recipe(generate={"kind": "procedural", "images_per_class": 2})), "--out", str(out)]
    arguments = {"run": run, "report": ["report", str(out)]}.get(verb, [verb])
    if verb == "report":
        assert figment(*run).returncode == 0
        (out / "report.html").unlink()
    command = [sys.executable, "-c", "from figment.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said and "Broken" not in said and "Error" not in said, said
    if verb in ("run", "report"):
        assert process.returncode == 0
        assert (out / "report.html").read_text().rstrip().endswith("</html>")


def test_the_version_is_that_of_the_package():
    said = figment("--version")
    assert said.returncode == 0 and said.stdout == f"figment {metadata.version('figment-vision')}\n"


def test_the_time_said_begins_before_anything_is_imported(monkeypatch, tmp_path):
    """Half of a small run's seconds are imports, which a user waits for as for the rest."""
    clock = iter((100.0, 117.0))
    for module in ("figment.cli.time", "figment.cli.runs.time"):
        monkeypatch.setattr(module, SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("figment.studies.arms.run_arms", lambda *_, **__: {})
    monkeypatch.setattr("figment.cli.runs.print_results", lambda folder: None)
    (tmp_path / "recipe.yaml").write_text("task: {class_names: [a, b]}")
    said = figment("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert "Took 17 s." in said.stdout and said.returncode == 0


def test_seconds_of_an_image_go_with_a_dry_run_and_are_a_time(recipe):
    path = recipe()
    for given, message in (
        ((".8",), "goes with --dry-run"),
        (("nan", "--dry-run"), "above 0"),
        (("0", "--dry-run"), "above 0"),
    ):
        told = figment("run", path, "--seconds-per-image", *given)
        assert told.returncode and message in " ".join(error_of(told).split())
