"""A recipe is data until its owner says otherwise: what it names is imported where somebody allowed it, and nowhere else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from figment.errors import FigmentError
from figment.forecast import forecast
from figment.plugins.permission import VARIABLE, check, config_file, modules
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.run import make_images, run_recipe
from figment.studies.arms import forecast_arms, run_arms
from figment.studies.table import run_table
from figment.studies.table_forecast import forecast_table
from test_cli import error_of, figment

NAMES = ["red thing", "green thing"]
CODE = """
from pathlib import Path

Path(__file__).with_suffix(".ran").touch()

from figment.generate.procedural import ProceduralGenerator


class Generator(ProceduralGenerator):
    def __init__(self):
        super().__init__(height=8, width=8)
"""


@pytest.fixture(autouse=True)
def nobody_allowed(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def sly(tmp_path, monkeypatch) -> Path:
    """The folder of a package ``sly`` with a module ``parts``, which say that they ran."""
    package = tmp_path / "lib" / "sly"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CODE)
    (package / "parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(package.parent)
    yield package
    for name in ("sly", "sly.parts"):
        sys.modules.pop(name, None)


def has_run(package: Path) -> list[str]:
    return sorted(path.name for path in package.glob("*.ran"))


OWN = {"kind": "sly.parts:Generator"}
PARTS = {"prompts": OWN, "generate": {**OWN, "images_per_class": 2}, "filters": [OWN], "train": OWN}
PROCEDURAL = {"kind": "procedural", "height": 8, "width": 8, "images_per_class": 2}


def recipe(clip: Path, **changes: object) -> Recipe:
    data = {
        "task": {"class_names": NAMES},
        "prompts": {"kind": "templates"},
        "generate": PROCEDURAL,
        "filters": [{"kind": "blank"}],
        "train": {"kind": "clip_head", "encoder": str(clip), "epochs": 1, "seeds": 1},
    }
    return validate({**data, **changes}, "it")


def mend(own: Recipe, out: Path) -> None:
    """A run's folder that somebody sent: its own recipe names the code, and something in it is to be made again."""
    make_images(own, out, allow_plugins=True)
    package = Path(sys.modules["sly"].__file__).parent
    for name in ("sly", "sly.parts"):
        del sys.modules[name]
    for ran in package.glob("*.ran"):
        ran.unlink()
    next((out / "images").rglob("*.parquet")).unlink()
    repair(out)


AS_ARM = {"arms": {name: {name: part} for name, part in PARTS.items()}}
AS_CELL = {
    "table": {
        "title": "t",
        "metric": "recognisability",
        "seeds": 1,
        "columns": {"x": {}},
        "rows": {n: {n: p} for n, p in PARTS.items()},
    }
}
ALL = {
    f"{part} of {verb.__name__}": (verb, {part: own}) for part, own in PARTS.items() for verb in (run_recipe, run_arms)
}
ALL |= {
    f"{part} of {verb.__name__}": (verb, {part: PARTS[part]})
    for part in ("prompts", "generate")
    for verb in (make_images, forecast)
}
ALL["generate of repair"] = (mend, {"generate": PARTS["generate"]})
ALL |= {f"arm of {verb.__name__}": (verb, AS_ARM) for verb in (run_arms, forecast_arms)}
ALL |= {f"cell of {verb.__name__}": (verb, AS_CELL) for verb in (run_table, forecast_table)}


@pytest.mark.parametrize(("verb", "changes"), ALL.values(), ids=ALL)
def test_nothing_that_a_recipe_names_is_imported_unasked(sly, clip, tmp_path, verb, changes):
    with pytest.raises(FigmentError) as error:
        verb(recipe(clip, **changes), tmp_path / "out")
    said = str(error.value)
    assert said.startswith(
        f"The recipe names code to be run: sly.parts:Generator from {sly / '__init__.py'} and {sly / 'parts.py'}."
    )
    assert "--allow-plugins" in said and str(config_file()) in said and "\n" not in said
    assert not has_run(sly) and "sly" not in sys.modules
    assert verb is mend or not list((tmp_path / "out").glob("**/*.parquet"))


def test_make_images_of_a_recipe_whose_learner_is_somebodys_asks_for_nothing(sly, clip, tmp_path):
    assert make_images(recipe(clip, train=OWN), tmp_path / "out").is_dir()
    assert not has_run(sly)


# ---- who may allow it ------------------------------------------------------------------------------------------------

BY_CONFIG = "allow_plugins: [a.b:C, sly.parts:Generator]"


@pytest.mark.parametrize(
    ("allowed", "variable", "config", "refused"),
    [
        (True, "", "", ""),
        (False, "1", "", ""),
        (False, "", BY_CONFIG, ""),
        (False, "", "", "names code"),
        (False, "0", "", "names code"),
        (False, "yes", "", "names code"),
        (False, "", "allow_plugins: []", "names code"),
        (False, "", "allow_plugins: [sly.parts:Other, sly.parts]", "names code"),
        (False, "", "allow_plugins: true", "holds one field, a list"),
        (False, "", "allow_plugins: [1]", "holds one field, a list"),
        (False, "", "[sly.parts:Generator]", "holds one field, a list"),
        (False, "", f"{BY_CONFIG}\nallow_plugin: x", "holds one field, a list"),
        (False, "", "allow_plugins: [", "is not YAML"),
    ],
)
def test_a_user_allows_plugins_by_argument_variable_or_config_file(
    sly, monkeypatch, allowed, variable, config, refused
):
    monkeypatch.setenv(VARIABLE, variable)
    if config:
        config_file().parent.mkdir(parents=True)
        config_file().write_text(config)
    if not refused:
        check(["sly.parts:Generator"], allowed)
    else:
        with pytest.raises(FigmentError, match=refused):
            check(["sly.parts:Generator"], allowed)
    assert not has_run(sly)


def test_the_command_line_takes_the_permission(sly, clip, tmp_path):
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(recipe(clip, generate=PARTS["generate"]).model_dump(mode="json")))
    for verb in (("run", path, "--dry-run"), ("run", path), ("generate", path)):
        assert "sly.parts:Generator from" in error_of(figment(*verb, "--out", out))
    assert not has_run(sly) and not list(out.rglob("*.parquet"))
    said = figment("run", path, "--dry-run", "--out", out, "--allow-plugins")
    assert said.returncode == 0 and has_run(sly) == ["__init__.ran", "parts.ran"], said.stdout
    assert figment("generate", path, "--out", out, "--allow-plugins").returncode == 0
    next((out / "images").rglob("*.parquet")).unlink()
    assert "sly.parts:Generator from" in error_of(figment("repair", out))
    assert figment("repair", out, "--allow-plugins").returncode == 0


# ---- what would be imported ------------------------------------------------------------------------------------------


def test_where_code_lies_is_said_without_running_it(sly):
    assert modules("sly.parts") == [str(sly / "__init__.py"), str(sly / "parts.py")]
    assert modules("sly") == [str(sly / "__init__.py")]
    assert modules("no_such_thing_at_all") == modules("sly.no_such") == modules(".sly") == []
    assert re.fullmatch(r"Python itself \(os\)|.*os\.py", modules("os.path")[0])
    assert not has_run(sly)
