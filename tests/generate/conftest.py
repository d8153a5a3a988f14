"""Tiny pipelines of every family, each built when it is first asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
import tiny_families


class Folders(dict[str, Path]):
    """``folders["sd15"]`` is where :func:`tiny.sd15` lies, ``folders["z_image"]`` where :func:`tiny_families.z_image` does."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Path:
        build = getattr(tiny, name, None) or getattr(tiny_families, name)
        self[name] = build(self.root / name)
        return self[name]


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pipelines"))
