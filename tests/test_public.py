"""The public names: there when asked for, known to type checkers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import figment

PACKAGE = Path(figment.__file__).parent
ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    assert len(set(figment.__all__)) == len(figment.__all__) > 20
    for name in figment.__all__:
        found = getattr(figment, name)
        assert found is not None and name in dir(figment)
        assert found.__module__.startswith("figment."), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = figment.no_such_name


@pytest.mark.slow
def test_a_type_checker_knows_them(tmp_path):
    """On a user's program outside of the checkout: every name is known with its type, and what is not public is an error."""
    program = tmp_path / "program.py"
    lines = [f"reveal_type(figment.{name})" for name in figment.__all__]
    program.write_text("\n".join(["import figment", *lines, "figment.load_recipe(3)", "figment.no_such_name"]) + "\n")
    assert (PACKAGE / "py.typed").is_file()
    # The project's own settings and cache: what lint has read of torch and others is not read again.
    own = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *own, str(program)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    notes = [line for line in checked.stdout.splitlines() if "Revealed type" in line]
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert len(notes) == len(figment.__all__) and not [note for note in notes if '"Any"' in note]
    assert len(errors) == 2 and "arg-type" in errors[0] and "no_such_name" in errors[1], checked.stdout
