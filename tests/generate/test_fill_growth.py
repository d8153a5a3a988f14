"""Sets of images that grow: the rows there were stay as they are, to the byte, wherever they lie."""

from __future__ import annotations

import builtins
import io
from pathlib import Path

import numpy as np
import pytest

import damage
import folders
from figment import files, layout, records, shards
from figment.errors import FigmentError
from figment.generate.fill import generate_images
from figment.images_in import open_shards
from figment.run import make_images
from figment.shards import ShardFolder
from figment.types import Prompt
from figment.verify import verify
from folders import rows, shard_files

NAMES = ["ankle boot", "bag"]
PROMPTS = [Prompt(f"{y:03d}-x/{i}", f"text {y} {i}", y, f"g{y}{i}") for y in (0, 1) for i in range(3)]


class Noise:
    """Pixels from the seed; fails at the prompts in ``broken``, and is stopped after so many calls."""

    fingerprint = "noise"
    batch_size = 4

    def __init__(self, broken: tuple[str, ...] = (), stop_after: int = 10**9):
        self.broken, self.stop_after, self.calls, self.made = broken, stop_after, 0, 0

    def __call__(self, prompts, seeds, init=None):
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        if any(p in self.broken for p in prompts):
            raise RuntimeError("cannot")
        self.made += len(seeds)
        return [np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8) for seed in seeds]


def make(folder: Path, n: int, generator: Noise | None = None):
    """``n`` images a class, in shards of six rows."""
    return generate_images(PROMPTS, generator or Noise(), folder, NAMES, images_per_class=n, shard_size=6)


def content(folder: Path) -> dict[str, bytes]:
    """Every shard and sidecar to the byte."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("0*/*") if p.is_file()}


@pytest.fixture
def nine(tmp_path) -> Path:
    """A set of nine images a class that was made at once."""
    make(tmp_path / "nine", 9)
    return tmp_path / "nine"


def test_a_larger_number_adds_to_the_end_and_a_smaller_one_takes_the_first(tmp_path, nine):
    folder = tmp_path / "set"
    make(folder, 4)
    four, first = rows(folder), layout.shard_path(folder, 0)
    untouched = first.stat().st_mtime_ns
    assert len(make(folder, 9)) == 18 and rows(folder)[:8] == four
    assert content(folder) == content(nine)  # as if it had been made at once
    assert first.stat().st_mtime_ns == untouched
    assert folders.record(folder)["counts"]["made"] == 18 and verify(folder).ok
    before, nobody = records.read(folder), Noise()
    six = make(folder, 6, nobody)
    assert six.ids == [row["id"] for row in rows(folder)[:12]] and nobody.calls == 0
    assert content(folder) == content(nine) and records.read(folder) == before  # nothing of it is lost


def test_rows_that_failed_are_tried_again_when_a_set_grows(tmp_path, nine):
    folder = tmp_path / "set"
    make(folder, 4, Noise(broken=("text 1 0",)))
    assert sum(bool(row["error"]) for row in rows(folder)) == 2  # in the full shard, and in the one that grows
    make(folder, 9)
    assert content(folder) == content(nine)


def test_an_interrupted_growth_goes_on(tmp_path, nine):
    folder = tmp_path / "set"
    make(folder, 4)
    with pytest.raises(KeyboardInterrupt):
        make(folder, 9, Noise(stop_after=2))  # the second shard is whole by then, the third is not there
    assert records.read(folder).state == "none"  # nothing claims to be finished
    assert not [f for f in verify(folder).findings if f.severity == "broken"]
    rest = Noise()
    make(folder, 9, rest)
    assert content(folder) == content(nine) and rest.made == 6 and verify(folder).ok


def test_a_growth_that_made_nothing_leaves_the_set_finished(tmp_path):
    folder = tmp_path / "set"
    make(folder, 4)
    before = content(folder), records.read(folder)
    with pytest.raises(KeyboardInterrupt):
        make(folder, 9, Noise(stop_after=0))
    assert (content(folder), records.read(folder)) == before


@pytest.mark.parametrize("moment", ["before the shard", "before the sidecar"])
def test_a_kill_while_a_shard_grows_loses_nothing(tmp_path, nine, monkeypatch, moment):
    folder = tmp_path / "set"
    make(folder, 4)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if moment == "before the shard":
            patch.setattr(shards, "write_atomic", stop)
        else:
            patch.setattr(ShardFolder, "vouch", stop)
        make(folder, 6)  # the second shard alone
    listed = ShardFolder(records.Record(folder, "images", {}, {}), 6).listing()
    assert listed.shards == {0, 1} and listed.vouched == {0}  # whatever the second is, nobody vouches for it
    assert len(rows(folder)) == (8 if moment == "before the shard" else 12)
    rest = Noise()
    make(folder, 9, rest)
    assert content(folder) == content(nine)
    assert rest.made == (12 if moment == "before the shard" else 6)  # what was whole is not made again


def test_a_shard_that_nobody_vouches_for_and_that_is_damaged_is_named(tmp_path):
    make(tmp_path, 4)
    damage.flip(layout.shard_path(tmp_path, 1), 60)
    layout.sidecar_path(tmp_path, 1, partial=True).unlink()
    with pytest.raises(FigmentError, match="train-0000001.parquet is damaged, or of another set.*figment repair"):
        make(tmp_path, 9)


def test_two_parts_of_a_job_array_grow_a_set(tmp_path):
    whole = damage.make(tmp_path / "whole", **{"generate.images_per_class": 25})
    run = damage.make(tmp_path / "run")
    twenty = rows(run / "images")
    for i in (1, 0):
        assert len(rows(run / "images")) < 50
        make_images(damage.recipe(**{"generate.images_per_class": 25}), run, part=(i, 2))
    assert content(run / "images") == content(whole / "images") and rows(run / "images")[:20] == twenty
    assert folders.record(run / "images")["counts"]["made"] == 50 and verify(run / "images").ok


def test_a_part_for_which_there_is_no_file_says_so_and_what_would_make_one(tmp_path, capsys):
    few = damage.recipe(**{"generate.shard_size": 256})
    make_images(few, tmp_path, part=(0, 3))
    assert "nothing to make" not in capsys.readouterr().out
    make_images(few, tmp_path, part=(2, 3))
    said = capsys.readouterr().out
    assert (
        "Part 2/3 has nothing to make: 20 images are 1 file of up to 256" in said
        and "shard_size: 7 at the most" in said
    )
    small = damage.recipe(**{"generate.shard_size": 7})
    make_images(small, tmp_path / "small", part=(2, 3))
    assert len(rows(tmp_path / "small/images")) == 6


def test_a_run_that_was_stopped_while_it_grew_is_verified_as_unfinished_not_as_broken(tmp_path):
    """Its recipe asks for more already, and its last shard is shorter than that recipe would have it."""
    run = damage.make(tmp_path / "run")
    more = damage.recipe(**{"generate.images_per_class": 25})
    (run / "resolved.yaml").write_text(more.to_yaml())
    for state in ("finished", "none"):
        assert records.read(run / "images").state == state
        found = [f for f in verify(run).findings if f.stage == "images" and f.severity != "note"]
        assert {(f.severity, f.remedy) for f in found} == {("missing", "run")}
        assert found[-1].text == "4 of 7 shards and 4 rows are not there yet"
        (run / "images" / "stage.json").unlink(missing_ok=True)
    make_images(more, run)
    assert verify(run / "images").ok and len(rows(run / "images")) == 50


def test_a_copy_of_a_shard_in_another_folder_is_none(tmp_path):
    """As a hand or a tool that syncs leaves one: the shard itself is made all the same."""
    make(tmp_path, 3)
    shard = layout.shard_path(tmp_path, 0)
    (tmp_path / "00001").mkdir()
    for file in [shard, *shard.parent.glob("*.json")]:
        file.rename(tmp_path / "00001" / file.name)
    assert len(make(tmp_path, 3)) == 6 and shard.is_file()


def test_names_past_99_999_are_read_in_order(tmp_path):
    numbers = [0, 999, 1000, 99_999, 100_000, 1_234_567]
    images = folders.write_images(tmp_path, [[]], NAMES)
    for number in numbers:
        row = dict(rows_of_one(number))
        images.write(number, shards.sample_table([row], NAMES))
    assert images.listing().shards == set(numbers) == images.listing().vouched
    assert [int(p.stem[6:]) for p in shard_files(tmp_path)] == numbers
    assert open_shards(tmp_path)[0].ids == [f"p/{number}" for number in numbers]


def rows_of_one(number: int) -> dict:
    from figment.types import Sample

    return shards.sample_row(Sample(f"p/{number}", "p", "t", 0, 1, "g", np.zeros((2, 2, 3), np.uint8)))


def test_a_start_of_a_finished_set_opens_the_record_and_lists(tmp_path, monkeypatch):
    """Forty shards or forty thousand: as long as none of them is partial, only their names are looked at."""
    recipe = damage.recipe(**{"generate.images_per_class": 40, "generate.shard_size": 2})
    images = make_images(recipe, tmp_path)
    assert len(shard_files(images)) == 40
    opened: list[Path] = []

    def counted(function):
        def call(path, *args, **kwargs):
            if isinstance(path, str | Path) and images in Path(path).parents:
                opened.append(Path(path).relative_to(images))
            return function(path, *args, **kwargs)

        return call

    for module in (records, shards, files):
        for name in ("read_bytes", "open_parquet"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted(getattr(files, name)))
    monkeypatch.setattr(builtins, "open", counted(builtins.open))
    monkeypatch.setattr(io, "open", counted(io.open))
    make_images(recipe, tmp_path, part=(0, 1))  # a part returns no images, for which it would open all
    assert {p.as_posix() for p in opened} == {"stage.json"}
    layout.sidecar_path(images, 7).rename(layout.sidecar_path(images, 7, partial=True))
    opened.clear()
    make_images(recipe, tmp_path, part=(0, 1))
    assert Path("00000/0000007.partial.json") in opened


@pytest.mark.parametrize("card", [True, False])
def test_the_datasets_library_opens_a_set_as_it_is(tmp_path, card):
    """With its card, which says where the data lies; and without, by the names of files: sidecars are no data."""
    import datasets

    images = make_images(damage.recipe(), tmp_path / "run")
    if not card:
        (images / "README.md").unlink()
    found = datasets.load_dataset(str(images), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"] and found["train"].features["label"].names == damage.NAMES
    assert found["train"]["id"][:] == [row["id"] for row in rows(images)]
    image = np.asarray(found["train"][3]["image"])
    np.testing.assert_array_equal(image, open_shards(images)[0].load([3])[0])
