"""``figment doctor`` and the page of extras know every extra of pyproject.toml, by the modules and packages that it brings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from figment import doctor

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: What is no use of figment's: work on figment itself, and the name that an extra had in 0.1.
OTHERS = {"test", "docs", "adapt"}
EXTRAS = {
    extra: needed for extra, needed in PYPROJECT["project"]["optional-dependencies"].items() if extra not in OTHERS
}


def test_every_extra_is_known():
    assert doctor.EXTRAS.keys() == EXTRAS.keys()


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_modules_of_an_extra_are_those_of_its_packages(extra):
    """As many as it has requirements, and each of those that are installed here is brought by one of them."""
    needed = [re.split(r"[\[<>=]", one)[0].lower().replace("_", "-") for one in EXTRAS[extra]]
    _, modules = doctor.EXTRAS[extra]
    assert len(modules) == len(needed)
    brought = importlib.metadata.packages_distributions()
    for module in modules:
        if doctor._is_there(module):
            by = {name.lower().replace("_", "-") for name in brought[module.partition(".")[0]]}
            assert by & set(needed), (module, by)


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch):
    find_spec = importlib.util.find_spec

    def without(name: str, *rest: object) -> object:
        if name == "google.protobuf":
            raise ModuleNotFoundError(name)
        return None if name in ("onnxscript", "c2pa", "cryptography") else object()

    monkeypatch.setattr(importlib.util, "find_spec", without)
    found = doctor._extras()
    assert found.state == "note" and found.text == (
        "not installed: word-to-sentence prompts (google.protobuf); the model as ONNX (onnxscript); content credentials in"
        " exported images (c2pa, cryptography). For all of these: pip install 'figment-vision[seq2seq,onnx,c2pa]'"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert doctor._extras().text == "all there"
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert not doctor._is_there("no_such_package.module")


def test_the_page_of_extras_has_a_row_for_each():
    page = (ROOT / "docs/extras.md").read_text(encoding="utf-8")
    expected = [
        f"| `{extra}` | {what} | {', '.join(f'`{one}`' for one in EXTRAS[extra])} | `pip install 'figment-vision[{extra}]'` |"
        for extra, (what, _) in doctor.EXTRAS.items()
    ]
    assert [line for line in page.splitlines() if line.startswith("| `")] == expected
