"""Plug-ins at the seam: each wrong kind is one clear paragraph with the plug-in's own name, and its line where it raises.

Run with ``-s`` to read what a user would.
"""

from __future__ import annotations

import pickle
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.generate.fill import make_rows
from figment.plugins.generator import PluginRaised
from figment.recipe import validate
from figment.types import Prompt, Sample, Training, Verdict
from given_of import GivenOf

NAMES = ["cat", "dog"]
HEAD = "import numpy as np\nfrom PIL import Image\nfrom figment import Prompt, Verdict\n"


@pytest.fixture
def built(tmp_path, monkeypatch, request):
    """``built(part, source, name, options)``: what the settings of a recipe build from a module ``my_mod`` with this source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_mod", raising=False)

    def build(part: str, source: str, name: str = "Thing", options: dict | None = None):
        (tmp_path / "my_mod.py").write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        sys.modules.pop("my_mod", None)
        own = {"kind": f"my_mod:{name}", "options": options or {}}
        recipe = validate({"task": {"class_names": NAMES}, part: [own] if part == "filters" else own}, "it")
        given = SimpleNamespace(task=recipe.task, recipe=recipe, seed=3, real=lambda split: None, allow_plugins=True)
        settings = getattr(recipe, part)
        return (settings[0] if part == "filters" else settings).build(given)

    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # two versions within a second are not told apart
    yield build
    sys.dont_write_bytecode = before


class Three:
    """Three images without pixels."""

    labels, ids, digests = np.array([0, 1, 0]), ["a", "b", "c"], ["1", "2", "3"]

    def __len__(self) -> int:
        return 3


def refused(call, *said: str) -> None:
    with pytest.raises(FigmentError) as error:
        call()
    text = str(error.value)
    print(f"\n  {text}")
    assert text.startswith("The plug-in my_mod:Thing") and "\n" not in text
    for one in said:
        assert one in text, (one, text)


def line_of(part: str, tmp_path: Path) -> str:
    lines = (tmp_path / "my_mod.py").read_text().splitlines()
    return f"{tmp_path / 'my_mod.py'}, line {next(i for i, own in enumerate(lines, 1) if part in own)}"


# ---- loading ---------------------------------------------------------------------------------------------------------

THING = "class Thing:\n    def __init__(self, x, given=None): self.x, self.given = x, given\n    def __call__(self, *a): raise KeyError('oh')\n"


def test_a_plugin_gets_its_options_and_what_the_built_in_ones_get(built):
    own = built("filters", THING, options={"x": 4})
    assert own.plugin.made.x == 4 and own.plugin.made.given.task.class_names == NAMES
    assert built("filters", "def Thing(): return lambda images: []\n").name == "Thing"


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (THING, {}, ["cannot be called with the options", "missing a required argument: 'x'", "(x, given=None)"]),
        (THING, {"x": 1, "y": 2}, ["unexpected keyword argument 'y'"]),
        ("class Thin: pass\n", {}, ["holds nothing of that name. Did you mean 'Thin'?"]),
        ("Thing = 3\n", {}, ["3 (int) there, which cannot be called"]),
        ("import no_such_module_at_all\n", {}, ["ModuleNotFoundError", "my_mod.py, line 4"]),
        ("def Thing(:\n", {}, ["SyntaxError", "my_mod.py, line 4"]),
        ("import sys\nsys.exit(1)\n", {}, ["failed when it was imported: SystemExit: 1", "my_mod.py, line 5"]),
        ("def Thing():\n    return 1 / 0\n", {}, ["ZeroDivisionError: division by zero", "my_mod.py, line 5"]),
        ("def Thing(): return 3\n", {}, ["made 3 (int). Wanted: a filter"]),
    ],
)
def test_what_cannot_be_loaded(built, source, options, said):
    refused(lambda: built("filters", source, options=options), *said)


def test_a_module_that_is_not_there():
    recipe = validate({"task": {"class_names": NAMES}, "filters": [{"kind": "no_such_mod:Thing"}]}, "it")
    with pytest.raises(FigmentError, match=r"no_such_mod:Thing cannot be imported: there is no module 'no_such_mod'"):
        recipe.filters[0].build(GivenOf(recipe))


# ---- filters ---------------------------------------------------------------------------------------------------------


def filter_that_returns(built, text: str):
    return built("filters", f"class Thing:\n    name = 'mine'\n    def __call__(self, images): return {text}\n")


def test_a_filter_that_is_right(built):
    own = filter_that_returns(
        built, "[Verdict(np.bool_(True), '', {'s': np.float32(1)})] * 2 + [Verdict(False, 'dull')]"
    )
    assert own.name == "mine"
    assert own(Three()) == [Verdict(True, "", {"s": 1.0})] * 2 + [Verdict(False, "dull")]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[True, False, True]", ["returned for the image 'a' True (bool)", "Verdict(keep, reason, scores)"]),
        ("np.array([True, False, True])", ["an object of type numpy.bool"]),
        ("[Verdict(True)] * 2", ["returned 2 verdicts for 3"]),
        ("None", ["returned None"]),
        ("(Verdict(True) for _ in range(3))", ["returned an object of type generator"]),
        ("[Verdict(True, '', {'s': float('nan')})] * 3", ["a score 's' of nan", "finite number"]),
        ("[Verdict(True, '', {'s': 'high'})] * 3", ["'high' (str)"]),
        ("[Verdict(0.7)] * 3", ["whose keep is 0.7 (float)"]),
        ("[Verdict(False)] * 3", ["rejected the image 'a' with the reason ''"]),
    ],
)
def test_filters_of_the_wrong_kind(built, returned, said):
    refused(lambda: filter_that_returns(built, returned)(Three()), *said)


def test_a_filter_that_raises_says_where(built, tmp_path):
    own = built("filters", THING, options={"x": 1})
    refused(lambda: own(Three()), "KeyError: 'oh'", line_of("raise KeyError", tmp_path))
    own = built("filters", "class Thing:\n    def __call__(self): pass\n")
    refused(
        lambda: own(Three()), "TypeError", "takes 1 positional argument but 2 were given", line_of("class", tmp_path)
    )


# ---- writers ---------------------------------------------------------------------------------------------------------


def write(built, text: str):
    own = built("prompts", f"def Thing():\n    def write(task, n, rng): return {text}\n    return write\n")
    return own(SimpleNamespace(class_names=NAMES), 2, np.random.default_rng(0))


def test_a_writer_that_is_right(built):
    text = "[Prompt(f'{i}-x/{j}', f'a {name}', i, str(i)) for i, name in enumerate(task.class_names) for j in range(n)]"
    assert len(write(built, text)) == 4


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("'a photo of a cat'", ["returned 'a photo of a cat' (str)", "figment.Prompt(id, text, label, group)"]),
        ("['a cat', 'a dog']", ["among its prompts 'a cat' (str)"]),
        ("[]", ["returned no prompt", "one or more"]),
        ("[Prompt('a', 'a cat', 0, 'a')] * 2", ["another prompt has the same id"]),
        ("[Prompt('a', 'a cow', 2, 'a')]", ["its label is 2, and labels run from 0 to 1"]),
        ("[Prompt('a', 'a cow', 'cat', 'a')]", ["whose label is 'cat' (str)", "position of the class"]),
        ("[Prompt('../a', 'a cow', 0, 'a')]", ["an id is a short relative path"]),
        ("[Prompt('a', None, 0, 'a')]", ["whose text is None"]),
    ],
)
def test_writers_of_the_wrong_kind(built, returned, said):
    refused(lambda: write(built, returned), *said)


# ---- generators ------------------------------------------------------------------------------------------------------


def generator_that_returns(built, text: str, more: str = ""):
    return built("generate", f"class Thing:\n    {more}\n    def __call__(self, prompts, seeds): return {text}\n")


def test_a_generator_that_is_right_and_survives_pickling(built):
    own = generator_that_returns(built, "[np.zeros((4, 5, 3), np.uint8), None]", "batch_size = 7")
    again = pickle.loads(pickle.dumps(own))
    assert again.batch_size == 7 and again.fingerprint == own.fingerprint and len(again(["a", "b"], [0, 1])) == 2
    assert not hasattr(own, "describe")
    assert generator_that_returns(built, "1").fingerprint != own.fingerprint  # other source, other images


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[np.zeros((4, 4, 3), np.float32)] * 2", ["a float32 array of shape (4, 4, 3)", "Multiply by 255"]),
        ("[np.zeros((4, 4), np.uint8)] * 2", ["a uint8 array of shape (4, 4)", "np.repeat"]),
        ("[np.zeros((4, 4, 1), np.uint8)] * 2", ["shape (4, 4, 1)", "np.repeat"]),
        ("[np.zeros((4, 4, 4), np.uint8)] * 2", ["shape (4, 4, 4)", "image[..., :3]"]),
        ("[np.zeros((0, 4, 3), np.uint8)] * 2", ["shape (0, 4, 3)"]),
        ("[Image.new('RGB', (4, 4))] * 2", ["an object of type PIL.Image", 'image.convert("RGB")']),
        ("[np.zeros((4, 4, 3), np.uint8)]", ["returned 1 images for 2"]),
        ("np.zeros((2, 4, 4, 3))", ["a float64 array of shape (4, 4, 3)"]),
        ("None", ["returned None"]),
    ],
)
def test_generators_of_the_wrong_kind(built, returned, said):
    own = generator_that_returns(built, returned)
    refused(lambda: own(["a", "b"], [0, 1]), *said)
    samples = [Sample(f"{i}", f"{i}", "a", 0, i, "a") for i in range(2)]
    refused(lambda: make_rows(samples, own), *said)  # the run stops: it is no bad luck of one sample


def test_sizes_of_generators(built):
    refused(generator_that_returns(built, "[]").size, "it has no size()")
    refused(
        generator_that_returns(built, "[]", "def size(self): return 3.5, 'x'").size,
        "as its size (3.5, 'x')",
        "whole numbers",
    )
    assert generator_that_returns(built, "[]", "def size(self): return [3, 4]").size() == (3, 4)


def test_a_generator_that_raises_fails_its_sample_and_says_where(built, tmp_path):
    own = built(
        "generate",
        "class Thing:\n    def __call__(self, prompts, seeds):\n        if 1 in seeds: raise OSError('no line')\n"
        "        return [np.zeros((4, 4, 3), np.uint8) for _ in seeds]\n",
    )
    with pytest.raises(PluginRaised) as error:
        own(["a"], [1])
    assert line_of("raise OSError", tmp_path) in str(error.value)
    rows = make_rows([Sample(f"{i}", f"{i}", "a", 0, i, "a") for i in range(2)], own)
    assert (
        rows[0]["error"] in (None, "") and "OSError: no line" in rows[1]["error"] and "my_mod:Thing" in rows[1]["error"]
    )
    print(f"\n  {rows[1]['error']}")


# ---- learners --------------------------------------------------------------------------------------------------------

LEARNER = """
class Model:
    def logits(self, images): return {logits}
    def save(self, folder): (folder / 'x').write_text('x')
class Thing:
    def learn(self, synthetic, real, seed): return {model}
"""


def learner(built, logits: str = "np.zeros((3, 2), np.float32)", model: str = "Model()", more: str = ""):
    return built("train", LEARNER.format(logits=logits, model=model) + more)


def test_a_learner_that_is_right_gets_what_it_lacks(built, tmp_path):
    own = learner(built, "np.eye(3, 2)")
    models = list(own.learn_many([Training(Three(), None, seed) for seed in (0, 1)]))
    assert models[0].logits(Three()).dtype == np.float32 and models[0].fingerprint != models[1].fingerprint
    assert own.untrained() is None and own.name == "Thing" and models[0].history == [] and models[0].facts == {}
    models[0].save(tmp_path)
    assert (tmp_path / "x").is_file()


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        ("np.zeros((3, 5), np.float32)", ["a float32 array of shape (3, 5)", "shape (3, 2)"]),
        ("np.zeros(3, int)", ["an int64 array of shape (3,)"]),
        ("np.zeros((3, 2), int)", ["an int64 array of shape (3, 2)", "float32"]),
        ("np.full((3, 2), np.nan)", ["NaN or infinite for 3 of 3 images"]),
        ("[[0.0, 1.0]] * 3", ["an object of type list"]),
        ("1 / 0", ["ZeroDivisionError", "my_mod.py, line 6"]),
    ],
)
def test_models_of_the_wrong_kind(built, logits, said):
    model = learner(built, logits).learn(Three(), None, 0)
    refused(lambda: model.logits(Three()), *said)


def test_learners_of_the_wrong_kind(built):
    refused(lambda: learner(built, model="None").learn(None, Three(), 0), "without logits()", "None")
    refused(lambda: learner(built, model="1 / 0").learn(None, Three(), 0), "ZeroDivisionError", "my_mod.py, line 9")
    refused(lambda: built("train", "def Thing(): return print\n"), "a learner with learn(synthetic, real, seed)")
    many = learner(built, more="    def learn_many(self, trainings): return [Model()]\n")
    refused(lambda: list(many.learn_many([Training(Three())] * 2)), "gave 1 models for 2 trainings")
    assert Prompt  # imported by the modules above
