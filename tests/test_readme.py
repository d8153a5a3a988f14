"""What the README and its pages show is run as it stands."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

import figment
from figment.recipe import validate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STAGES, TRAINING = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL)
LINKS = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_pages_lead_to_files_that_are_there_and_the_index_to_every_page():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    leads = {
        page: [link for link in LINKS.findall(page.read_text(encoding="utf-8")) if "://" not in link] for page in pages
    }
    lost = [
        f"{page.name}: {link}" for page, links in leads.items() for link in links if not (page.parent / link).exists()
    ]
    assert not lost
    index = ROOT / "docs/index.md"
    missed = {page.name for page in index.parent.glob("*.md")} - {index.name, *leads[index]}
    assert not missed


def test_every_name_that_a_page_speaks_of_is_there():
    """``figment.types.Training`` in running text; not in format.md, whose names are keys of Parquet files, nor in the log."""
    pages = {
        page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    }
    spoken = {
        (page, name)
        for page, text in pages.items()
        for name in re.findall(r"`(figment\.[A-Za-z_][\w.]*\w)(?=[(`])", text)
    }
    lost = sorted(
        f"{page}: {name}" for page, name in spoken if page not in ("format.md", "log.md") and not _is_there(name)
    )
    assert not lost and len(spoken) >= 15


def _is_there(name: str) -> bool:
    parts = name.split(".")
    for known in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:known]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[known:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


@pytest.mark.slow
def test_the_python_that_is_shown_runs_and_is_short(tmp_path, monkeypatch, capsys):
    assert len([line for line in STAGES.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    fewer = STAGES.replace("(task, 10,", "(task, 2,").replace("images_per_class=10", "images_per_class=2")
    test = "figment.open_images(real_folder(task.real.test), task.class_names)"
    fewer = fewer.replace(f"test = {test}", f"test = {test}.take(range(0, 10000, 200))")
    assert fewer.count("2") == STAGES.count("2") + 3  # nothing else is changed: all of it takes a minute and a half
    exec(compile(fewer, "python.md", "exec"), {})
    answer = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"(better|worse|no evidence): [+-]0\.\d{3}, 95 % interval \(-?0\.\d+, -?0\.\d+\)$", answer)


@pytest.mark.slow
def test_the_training_that_is_shown_runs(tmp_path, monkeypatch):
    generate = {"kind": "procedural", "images_per_class": 20}
    recipe = validate(
        {"task": {"like": "fashion", "real": {}}, "generate": generate, "filters": [{"kind": "blank"}]}, ""
    )
    monkeypatch.chdir(tmp_path)
    figment.run_recipe(recipe, "runs/demo")
    names: dict = {}
    pool = 'figment.open_images(real_folder("starter/pool"), task.class_names)'
    fewer = TRAINING.replace(pool, f"{pool}.take(range(0, 10000, 20))")  # nothing else is changed
    assert fewer != TRAINING
    exec(compile(fewer, "python.md", "exec"), names)
    assert names["images"].shape == (64, 3, 32, 32) and names["state"]["batches"] > 0


def test_the_recipe_of_the_readme_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    recipe = validate(yaml.safe_load(text), "README")
    assert recipe.task.class_names == ["golden retriever", "tabby cat", "budgerigar"]


def test_every_public_name_can_be_had():
    for name in figment.__all__:
        assert getattr(figment, name) is not None


def test_the_python_of_the_verdict_runs(capsys):
    text = (Path(__file__).parents[1] / "docs" / "evidence.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, "evidence.md", "exec"), {})
    word, sentence = capsys.readouterr().out.splitlines()
    assert word.startswith("helps 0.") and sentence.startswith("The classifier is right on ")
