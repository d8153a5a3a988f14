"""What is done without torch and its kind, which take seconds to import. All of it in one process: a step is told what it adds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "transformers", "diffusers", "timm", "scipy.stats", "scipy.ndimage", "sklearn"}
RECIPE = "task: {class_names: [a, b]}\ngenerate: {kind: procedural, images_per_class: 2, height: 8, width: 8}\n"
#: In the order in which they are done.
STEPS = {
    "import figment": "import figment",
    "read a recipe": "figment.load_recipe('recipe.yaml'); dir(figment)",
    "read settings": "from figment.recipe import validate\n"
    "validate({'task': 'fashion', 'train': {'kind': 'clip_head'}, 'filters': [{'kind': 'argmax'}]}, 'it')",
    "tell an order of images": "import figment.loading.orders, figment.images_in.verdicts, figment.images_in.concat",
    "write to a chat": "import figment.prompts.chat",
    "draw the page of a table": "import figment.report.table",
    "list the measures": "import figment.measures; figment.measures.documentation()",
    "look at photographs, and at several runs": "import figment.checking.check, figment.report.comparison",
    "help": "import contextlib, sys, figment.cli\nsys.argv = ['figment', '--help']\n"
    "with contextlib.suppress(SystemExit): figment.cli.main()",
    "make images": "figment.make_images(figment.load_recipe('recipe.yaml'), 'run')",
    "say how far a run is": "import figment.status, pathlib; figment.status.status(pathlib.Path('run'))",
    "serve the curation page": "import figment.look.server, pathlib\n"
    "assert sorted(figment.look.server.Album(pathlib.Path('run')).columns()['label']) == [0, 0, 1, 1]",
    "verify": "import figment.verify, pathlib; assert figment.verify.verify(pathlib.Path('run')).ok",
}
PROGRAM = """
import json, sys
added = {}
for name, step in json.loads(sys.argv[1]).items():
    before = set(sys.modules)
    exec(step)
    added[name] = sorted(set(sys.modules) - before)
open("added.json", "w").write(json.dumps(added))
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> dict[str, set[str]]:
    """Step -> the modules that it imports, and none before it did."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "recipe.yaml").write_text(RECIPE)
    path = os.pathsep.join(place for place in sys.path if place)
    command = [sys.executable, "-c", PROGRAM, json.dumps(STEPS)]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=True)
    return {name: set(modules) for name, modules in json.loads((folder / "added.json").read_text()).items()}


@pytest.mark.parametrize("step", STEPS)
def test_it_imports_nothing_heavy(added, step):
    assert added[step] & HEAVY == set()


def test_figment_alone_imports_nothing_to_speak_of(added):
    assert not {"pydantic", "numpy", "rich"} & added["import figment"]


def test_settings_are_read_without_what_they_build(added):
    read = added["read a recipe"] | added["read settings"]
    assert not {name for name in read if name.startswith(("figment.filters", "figment.plugins"))}
