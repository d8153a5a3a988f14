"""What docs/promises.md says, on inputs nobody thought of: an answer in bounded time, and nothing changed that is not figment's.

``FIGMENT_EXAMPLES=2000 pytest tests/test_promises.py`` tries as many of each kind.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import damage
from figment import files, guard, layout
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.recipe import Recipe, load_recipe
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import make_images
from figment.status import status
from figment.verify import verify
from hostile import CLASSES, in_time, png, snapshot, solid

EXAMPLES = int(os.environ.get("FIGMENT_EXAMPLES", 0))
LONGEST = 20.0  # seconds an example may take on a busy machine; most take a hundredth of one
DOCS = Path(__file__).parents[1] / "docs" / "promises.md"


def tried(few: int) -> settings:
    """The same examples each time; as many as the environment asks for."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [
        phase for phase in Phase if EXAMPLES or phase is not Phase.shrink
    ]  # a failure is told soon; more tries look for the smallest
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=checks,
        phases=phases,
    )


@contextmanager
def watched() -> Iterator[tuple[Path, Path]]:
    """A folder for what is given, which must stay as it is, and one for what is made. Only a FigmentError may come out."""
    with tempfile.TemporaryDirectory() as place:
        inputs, out = Path(place) / "in", Path(place) / "out"
        inputs.mkdir()
        yield inputs, out
        assert {path.name for path in Path(place).iterdir()} <= {"in", "out"}


def answered(inputs: Path, do: Any) -> str:
    """What came of it: empty for success, or the one paragraph."""
    before = snapshot(inputs)
    try:
        with in_time(LONGEST):
            do()
        said = ""
    except FigmentError as error:
        said = str(error)
        assert said.strip() and "Traceback" not in said
    assert snapshot(inputs) == before
    return said


# ---- recipes ---------------------------------------------------------------------------------------------------------

TREE = yaml.safe_load(Recipe.model_validate({"task": {"class_names": CLASSES}}).to_yaml())
NAMES = st.sampled_from(sorted({*TREE, *(name for part in TREE.values() if isinstance(part, dict) for name in part)}))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["cat", "dog", "a {}", "starter", "clip", "blank", "../x", "/etc", "~", "s3://", "datasets:x", "1e999"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@tried(30)
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans(), st.text(max_size=20))
def test_any_mapping_is_a_recipe_or_a_paragraph(changes, whole, tail):
    with watched() as (inputs, _):
        data = {**(TREE if whole else {"task": {"class_names": CLASSES}}), **changes}
        text = yaml.safe_dump(data, allow_unicode=True) + ("" if whole else tail)
        (inputs / "recipe.yaml").write_text(text, encoding="utf-8", errors="replace")
        answered(inputs, lambda: load_recipe(inputs / "recipe.yaml"))


# ---- readers ---------------------------------------------------------------------------------------------------------

IMAGE = png(solid(9, 8, 7))
BYTES = st.sampled_from([IMAGE, IMAGE[:40], b"", b"no image", b"\0" * 64]) | st.binary(max_size=60)
LABELS = st.sampled_from(["cat", "dog", "Cat", "", "bird", "0", 0, 1, 7, -1, 0.5, None, True, ["cat"], {"a": 1}])
PATHS = st.sampled_from(["a.png", "cat/a.png", "b.png", "../a.png", "/etc/hostname", "", "a\0b", ".", "cat"])
COLUMNS = st.sampled_from(["file_name", "path", "image", "label", "class_name", "class", "x", ""])


def tables(inputs: Path, rows: list[dict[str, Any]]) -> None:
    (inputs / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def csvs(inputs: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    (inputs / "t.csv").write_text("\n".join(",".join(line) for line in lines).replace("\0", "\\0"))


def parquets(inputs: Path, rows: list[dict[str, Any]]) -> None:
    with suppress(pa.ArrowException, TypeError):  # of mixed types there is no table
        metadata = {"huggingface": json.dumps(rows[0] if rows else [])}
        table = pa.table(
            {"image": [{"bytes": IMAGE, "path": None} for _ in rows], "label": [r.get("label") for r in rows]}
        )
        pq.write_table(table.replace_schema_metadata(metadata), inputs / "t.parquet")


def tars(inputs: Path, rows: list[dict[str, Any]]) -> None:
    with tarfile.open(inputs / "t.tar", "w") as tar:
        for i, row in enumerate(rows):
            for name, data in ((f"{i}.png", IMAGE), (f"{i}.json", json.dumps(row).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@tried(80)
@given(
    st.sampled_from([tables, csvs, parquets, tars]),
    st.lists(st.dictionaries(COLUMNS, LABELS | PATHS, max_size=4), max_size=4),
    st.dictionaries(
        st.sampled_from(["a.png", "b.png", "cat/a.png", "dog/b.png", "state.json", "x.tar"]), BYTES, max_size=4
    ),
    st.floats(0, 1),
)
def test_any_small_folder_is_images_or_a_paragraph(write, rows, others, share):
    with watched() as (inputs, _):
        for name, data in others.items():
            (inputs / name).parent.mkdir(exist_ok=True)
            (inputs / name).write_bytes(data)
        write(inputs, rows)
        for path in inputs.glob("[mt].*"):
            if share < 0.3:  # cut off
                path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share * 3)])
        table = inputs / "t.csv"

        def read() -> None:
            images = open_images(table if table.is_file() else inputs, CLASSES)
            assert len(images) == len(images.ids) == len(images.labels)
            images.load(range(len(images)))

        answered(inputs, read)


# ---- the folder of a run ---------------------------------------------------------------------------------------------

VERBS = {
    "status": status,
    "verify": verify,
    "report": report_of,
    "repair": repair,
    "run": lambda out: make_images(damage.recipe(), out),
}
OURS = re.compile(r"(prompts|images)/.*|resolved\.yaml|\.lock|\.figment|\.heartbeat|set-aside/.*")
EXTRA = st.sampled_from(
    sorted(layout.NAMES | {"mine", ".mine.tmp", ".lock-mine", "images/mine.parquet", "prompts/mine", "features/a"})
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return damage.make(tmp_path_factory.mktemp("made") / "run")


def harm(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "flipped" and data:
        damage.flip(path, len(data) // 2)
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "a link":
        path.unlink()
        path.symlink_to("../../in/mine")
    else:
        path.unlink()


@tried(40)
@given(
    st.sampled_from(sorted(VERBS)),
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(["cut", "emptied", "flipped", "lost", "a folder", "a link"])),
        max_size=3,
    ),
    st.lists(EXTRA, max_size=3),
    st.booleans(),
)
def test_a_run_folder_in_any_state_is_mended_or_told_and_the_users_files_stay(made, verb, harms, extra, started):
    with watched() as (inputs, out):
        (inputs / "mine").write_bytes(b"mine")
        if started:
            shutil.copytree(made, out)
        out.mkdir(exist_ok=True)
        own = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
        for number, how in harms if own else []:
            path = own[number % len(own)]
            if path.is_file() and not path.is_symlink():
                harm(path, how)
        theirs = {}
        for name in extra:
            path = out / name
            if not path.exists() and path.parent.is_dir() and not path.is_symlink():
                path.write_bytes(b"mine")
                theirs[path] = path.stat().st_mtime_ns
        said = answered(inputs, lambda: VERBS[verb](out))
        for path, at in theirs.items():  # under names of the run's in its own folder they are the run's
            if not started or not (layout.NAMES & {path.name}):
                assert path.read_bytes() == b"mine" and path.stat().st_mtime_ns == at, said


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_has_every_bound():
    text = DOCS.read_text(encoding="utf-8")
    for kind, most in guard.MOST.items():
        assert f"| {kind} | {most // guard.MIB:,} MiB |" in text
    assert f"{guard.MOST_DEPTH} deep" in text
    assert all(f"`{name}`" in text for name in (".figment", ".lock", files.temporary_of(Path("x")).suffix))
