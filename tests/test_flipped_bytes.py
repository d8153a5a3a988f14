"""One byte flipped, or a file lost, in every kind of file that runs and tables hold: it is found, and made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from damage import flip
from figment.repair import repair
from figment.verify import verify
from made import CACHES, KINDS, Made, content, kinds, make, mended, of_two_classes, recipe_of_kind

pytestmark = pytest.mark.slow

HOW = {"repair", "the same command"}


@pytest.fixture(scope="module")
def two_classes(photos, tmp_path_factory) -> Path:
    return of_two_classes(photos, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def made(request, tmp_path_factory, clip, sd15, two_classes) -> Made:
    if request.param == "fine-tuned run":
        pytest.importorskip("peft")
    own = make(recipe_of_kind(request.param, clip, sd15, two_classes), tmp_path_factory.mktemp("made") / "run")
    assert not verify(own.folder).findings
    return own


def is_near(place: str, name: str) -> bool:
    """Whether a finding at a place may be about a file."""
    return place in (".", name) or name.startswith(f"{place}/") or place.startswith(f"{name}/")


# ---- every kind ------------------------------------------------------------------------------------------------------


def harmed(made: Made, harm: Callable[[Path], None], names: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """What was harmed, what verify says, by what it was mended."""
    for kind, name in names.items():
        folder = made.folder.with_name("harmed")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made.folder, folder)
        harm(folder / name)
        findings = [f for f in verify(folder).findings if f.severity != "note"]
        if not findings:
            yield kind, "", ""
            continue
        far = [f for f in findings if not is_near(f.stage, name) and "the images that it uses" not in f.text]
        yield kind, findings[0].text, mended(made, folder, name) if not far else f"FOUND ELSEWHERE: {findings}"


def table_of(rows: list[tuple[str, str, str]]) -> str:
    lines = [f"{kind:<58} | {'yes' if found else 'no':<5} | {how}" for kind, found, how in rows]
    return "\n".join(["", f"{'file':<58} | found | mended by", "-" * 90, *lines])


def of(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("made", kinds, indirect=True)


@of(*KINDS)
def test_a_flipped_byte_in_every_kind_of_file(made):
    rows = list(harmed(made, lambda path: flip(path, path.stat().st_size // 2), kinds(made.folder)))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW
    assert len(rows) > 15


def lose(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@of("run", "table")
def test_every_kind_of_file_that_is_lost_is_made_again(made):
    names = {kind: name for kind, name in kinds(made.folder).items() if not name.startswith(CACHES)}
    rows = list(harmed(made, lose, names))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW


FOLDERS = {
    "run": [
        "prompts",
        "images",
        "images/00000",
        "scores",
        "scores/0-blank",
        "model",
        "arms/00-ce/scores",
        "arms/00-ce/model",
        "arms/00-ce",
        "arms",
    ],
    "fine-tuned run": ["finetune"],
    "table": [
        "cells/00-ce-2/seed-0/scores",
        "cells/00-ce-2/seed-0/model",
        "cells/00-ce-2/seed-0",
        "cells/00-ce-2",
        "images",
    ],
}


@of(*FOLDERS)
def test_whole_folders_that_are_lost_are_made_again(made, request):
    names = {name: name for name in FOLDERS[request.node.callspec.params["made"]]}
    rows = list(harmed(made, lose, names))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW


@of("run")
@pytest.mark.parametrize("name", CACHES)
def test_a_cache_may_be_emptied(made, tmp_path, name):
    folder = Path(shutil.copytree(made.folder, tmp_path / "run"))
    shutil.rmtree(folder / name)
    assert not verify(folder).findings and repair(folder) == []
    made.again(folder)
    assert content(folder) == content(made.folder)
