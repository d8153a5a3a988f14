"""The layers of the house: a room imports only rooms below it, and nothing in it grows out of hand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import figment

PACKAGE = Path(figment.__file__).parent

#: Low to high. Rooms of one floor may know one another (without a circle of modules), but for those of METHODS.
FLOORS = (
    {"errors", "words", "types", "limits", "licences", "stores", "_old_names"},
    {
        "files",
        "hashes",
        "tracking",
        "png",
        "saving",
        "records",
        "layout",
        "shards",
        "machine",
        "device",
        "memory",
        "progress",
        "heartbeat",
        "plain_yaml",
        "guard",
        "hub",
        "claims",
        "checkpoint",
        "checkpoint_bytes",
    },
    {
        "task",
        "models",
        "weights",
        "images_in",
        "integrity",
        "bias",
        "encoders",
        "engines",
        "loading",
        "neighbours",
        "probe",
        "shots",
        "starter",
    },
    {"prompts", "generate", "filters", "learners", "evaluate", "plugins"},
    {"cas", "recipe", "trained"},
    {"measures"},
    {"report", "exports", "judging"},
    {"context", "stages", "checking"},
    {"run", "verify", "repair", "status", "forecast", "predict"},
    {"studies", "look"},
    {"cli", "doctor", "fetches"},
)
#: Ways of doing one thing each, for recipes to choose from: they do not know one another.
METHODS = {"prompts", "generate", "filters", "learners", "evaluate"}
#: What is imported all the same: (module, module it imports) -> why.
ALLOWED = {
    (
        "figment.recipe.train",
        "figment.measures",
    ): "a wrong name in evaluate.measures is told with all other mistakes of the"
    " recipe, as it is read; which names there are is found out then, since measures can be added",
}

#: Where JSON is parsed and whole files are read without the look that guard and files take first -> why.
READERS = {
    "figment": "its own stub",
    "figment.cli.begin": "its own template",
    "figment.encoders.towers": "what was written just now, in a temporary folder",
    "figment.exports.models.onnx": "what was written just now, by the lines that the card shows",
    "figment.exports.models.safetensors": "what was written just now, by the lines that the card shows",
    "figment.files": "the one place",
    "figment.generate.diffusers": "what the scheduler says of itself, from memory",
    "figment.guard": "the one place",
    "figment.images_in.folder": "looked at in the same function",
    "figment.integrity": "what was dumped just now",
    "figment.checkpoint": "looked at by whoever names the file; JSON with a checksum of its own",
    "figment.checkpoint_bytes": "a checkpoint, whose checksum is what is looked at",
    "figment.look.server": "its own page",
    "figment.plugins.load": "code, of a module that Python found",
    "figment.records": "what was dumped just now",
    "figment.stages.model": "what was written just now, in a temporary folder",
    "figment.stores": "the one place for object stores",
    "figment.task": "its own tasks",
}

LOOPS = ("run", "verify", "repair", "status", "forecast")  # over the stages
MOST_LINES = 150  # of each loop
LONGEST_FUNCTION, LONGEST_CLASS = 60, 250
#: Longer ones, each with its reason.
LONG = {
    "figment.generate.diffusers.DiffusersGenerator": "every family of pipelines behind one call; what differs lies in families.py",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """``figment.learners.network.loop`` is in ``learners``; ``figment`` itself is in no room."""
    return module.split(".")[1] if "." in module else ""


def floor_of(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room_of(module) in rooms)


def is_lazy(node: ast.AST) -> bool:
    """Settings are read without the heavy things that they ``build``, which import their settings in turn."""
    return isinstance(node, ast.FunctionDef) and node.name == "build"


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, lazy: bool = True) -> Iterator[ast.AST]:
    """All nodes below, also inside of functions, without what only type checkers read; ``lazy``: with what ``build`` does."""
    for child in ast.iter_child_nodes(node):
        if is_for_types(child) or (is_lazy(child) and not lazy):
            continue
        yield child
        yield from statements(child, lazy)


def imports(module: str, lazy: bool = True) -> set[str]:
    """The modules of ours that a module imports, wherever it does."""
    found = set()
    for node in statements(tree_of(module), lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {own if (own := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names}
    return {name for name in found if name in MODULES and name != module}


@cache
def all_imports() -> list[tuple[str, str]]:
    """Module of a room -> module that it imports."""
    return [(module, other) for module in MODULES if room_of(module) for other in sorted(imports(module))]


def test_every_room_has_its_floor():
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert {room_of(module) for module in MODULES} - {""} == set(rooms)


def test_no_room_imports_one_above_it():
    wrong = {
        (module, other) for module, other in all_imports() if room_of(other) and floor_of(other) > floor_of(module)
    }
    assert wrong - ALLOWED.keys() == set()


def test_methods_do_not_know_one_another():
    wrong = {
        (module, other)
        for module, other in all_imports()
        if {room_of(module), room_of(other)} <= METHODS and room_of(module) != room_of(other)
    }
    assert wrong - ALLOWED.keys() == set()


def test_nothing_is_allowed_that_is_not_done():
    assert ALLOWED.keys() <= set(all_imports()) and LONG.keys() <= {name for name, _, _ in lengths()}


def test_no_module_imports_itself_by_way_of_others():
    """Also not inside of functions, where Python would not mind, but for those that build."""
    graph = {
        module: imports(module, lazy=False) - {way[1] for way in ALLOWED if way[0] == module}
        for module in MODULES
        if module != "figment"
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def reads_unseen(module: str) -> bool:
    """Whether a module parses JSON, or reads a file whole, by other means than those that look first."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            whose, name = ast.unparse(node.func.value), node.func.attr
            if (whose, name) in {("json", "load"), ("json", "loads"), ("yaml", "safe_load"), ("yaml", "load")}:
                return True
            if name in ("read_text", "read_bytes") and whose != "files":
                return True
    return False


def test_files_from_outside_are_read_where_they_are_looked_at():
    assert {module for module in MODULES if reads_unseen(module)} == READERS.keys()


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_what_goes_over_the_stages_is_short(loop):
    assert len((PACKAGE / f"{loop}.py").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def lengths() -> list[tuple[str, int, bool]]:
    """Of every function and class: its name, its lines without the docstring, whether it is a class."""
    return [
        (f"{module}.{node.name}", lines_of(node), isinstance(node, ast.ClassDef))
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def lines_of(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if said else 0)  # type: ignore[operator]


def test_no_function_and_no_class_is_too_long():
    long = {name: n for name, n, is_class in lengths() if n > (LONGEST_CLASS if is_class else LONGEST_FUNCTION)}
    assert {name: n for name, n in long.items() if name not in LONG} == {}


# ---- the rule can fail -----------------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand(tmp_path, monkeypatch):
    path = tmp_path / "own.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport figment.files\nif TYPE_CHECKING:\n    from figment.cli import app\n"
        "def f():\n    from figment import records\ndef build():\n    from figment.run import run_recipe\n"
    )
    monkeypatch.setitem(MODULES, "figment.own", path)
    tree_of.cache_clear()
    assert imports("figment.own") == {"figment.files", "figment.records", "figment.run"}
    assert imports("figment.own", lazy=False) == {"figment.files", "figment.records"}
    tree_of.cache_clear()
