"""What is broken is made again, to the byte where nothing else changed; what is right is not touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import damage
from damage import content, flip, shard, sidecar
from figment import files, records, shards
from figment.context import Context
from figment.engines import Local
from figment.errors import FigmentError
from figment.generate.procedural import ProceduralGenerator
from figment.recipe import validate
from figment.repair import repair
from figment.run import make_images, run_recipe
from figment.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return damage.make(tmp_path_factory.mktemp("repair") / "run")


@pytest.fixture
def measured(clip, photos, tmp_path):
    """A recipe with numbers, and the folder of its run."""
    for name in damage.NAMES:
        shutil.copytree(photos / "test" / name.replace(" ", "_"), tmp_path / "test" / name.replace(" ", "_"))
    recipe = damage.recipe(**{"train.encoder": str(clip), "task.real.test": str(tmp_path / "test")})
    run_recipe(recipe, tmp_path / "run")
    return recipe, tmp_path / "run"


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


class Counting(ProceduralGenerator):
    """Counts the images it is asked for."""

    def __init__(self):
        super().__init__(height=8, width=8)
        self.asked = 0

    def __call__(self, prompts, seeds, init=None):
        self.asked += len(prompts)
        return super().__call__(prompts, seeds)


def mended(run: Path, made: Path, stranger: Path | None = None, **options) -> str:
    """What repair says, after it has been made sure that all is as it was, but for a ``stranger`` that is left alone."""
    said = "\n".join(repair(run, **options))
    noted = [f"{stranger.name} is no shard"] if stranger else []
    found = verify(run)
    assert found.ok and [f.text[: len(text)] for f, text in zip(found.findings, noted, strict=True)] == noted
    mine = {str(stranger.relative_to(run))} if stranger else set()
    assert {name: data for name, data in content(run).items() if name not in mine} == content(made)
    return said


def told(run: Path) -> dict:
    """What the record of the images says, but for when."""
    record = files.read_json(run / "images" / "stage.json")
    return {key: value for key, value in record.items() if key not in ("finished", "checksum")}


# ---- nothing to do ---------------------------------------------------------------------------------------------------


def test_a_clean_run_is_left_alone(run):
    before = {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.rglob("*") if p.is_file() and not p.name.startswith(".")
    }
    assert repair(run) == []
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before


def test_images_without_their_recipe_and_a_run_without_its_recipe_are_refused(run):
    with pytest.raises(FigmentError, match="images without the recipe.*Give the folder of the run"):
        repair(run / "images")
    (run / "resolved.yaml").unlink()
    with pytest.raises(FigmentError, match="says what the run should hold"):
        repair(run)


def test_a_run_that_is_going_on_is_not_disturbed(run):
    with files.lock(run), pytest.raises(FigmentError, match="Another figment is working"):
        repair(run)


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_mended_to_the_byte(run, made):
    path = shard(run, 1)
    right, size = path.read_bytes(), path.stat().st_size
    places = {*range(8), *range(size - 10, size), *np.linspace(0, size - 1, 70).astype(int).tolist()}
    others = {p: p.stat().st_mtime_ns for p in run.rglob("*.parquet") if p != path}
    for i, position in enumerate(sorted(places)):
        flip(path, position, 1 << (i % 8))
        (line,) = repair(run)
        assert line.endswith("the file is the same as before, byte for byte"), position
        assert path.read_bytes() == right
    assert mended(run, made) == ""
    assert {p: p.stat().st_mtime_ns for p in others} == others and told(run) == told(made)


def test_a_byte_of_one_image_costs_one_image(run, made):
    flip(shard(run, 1), damage.image_at(shard(run, 1), 2) + 30)
    assert mended(run, made) == (
        "images: re-made 1 of 8 rows in train-0000001.parquet; the file is the same as before, byte for byte"
    )


def test_a_byte_outside_the_images_costs_none(run, made):
    flip(shard(run), shard(run).stat().st_size - 200)  # in the footer
    generator = Counting()
    said = mended(run, made, generator=generator)
    assert "no image had to be made again" in said or "re-made 8 of 8 rows" in said  # a footer that cannot be read
    data = shard(run).read_bytes()
    flip(shard(run), data.index(b"PNG") - 30)  # in the header of the pages or a length in front of an image
    asked = generator.asked
    assert "train-0000000" in mended(run, made, generator=generator) and generator.asked == asked


def test_a_wrong_column_is_mended_from_the_plan_without_the_generator(run, made):
    def spoil(rows):
        for row in rows:
            row.update(label=0, prompt="?", seed=7, group="", error="")

    damage.edit(shard(run, 2), spoil)
    generator = Counting()
    assert "wrote train-0000002.parquet anew, no image" in mended(run, made, generator=generator)
    assert generator.asked == 0


def test_doubled_exchanged_and_lost_rows(run, made):
    damage.edit(shard(run, 0), lambda rows: [*rows, rows[3], rows[1]])
    damage.edit(shard(run, 1), lambda rows: rows[:5])

    def exchange(rows):
        rows[0]["image"], rows[1]["image"] = rows[1]["image"], rows[0]["image"]

    damage.edit(shard(run, 2), exchange)
    said = mended(run, made)
    assert "wrote train-0000000" in said
    assert "re-made 3 of 8 rows in train-0000001" in said
    assert "re-made 2 of 4 rows in train-0000002" in said


def test_truncated_missing_and_empty_shards(run, made):
    shard(run, 0).write_bytes(shard(run, 0).read_bytes()[:-100])
    shard(run, 1).unlink()
    shard(run, 2).write_bytes(b"")
    said = mended(run, made)
    for i, n in enumerate((8, 8, 4)):
        assert f"re-made {n} of {n} rows in train-000000{i}.parquet; the file is the same" in said


def test_in_other_processes_too(run, made):
    shard(run, 0).unlink()
    flip(shard(run, 2), 300)
    assert mended(run, made, engine=Local(2)).count("re-made") == 2


# ---- files in the wrong place ----------------------------------------------------------------------------------------


def test_shards_that_changed_places_are_put_back_and_none_is_made(run, made):
    contents = [shard(run, i).read_bytes() for i in range(3)]
    for i in range(3):
        shard(run, i).write_bytes(contents[(i + 1) % 3])
    generator = Counting()
    said = mended(run, made, generator=generator)
    assert said.count("put train-000000") == 3 and generator.asked == 0


def test_a_shard_under_a_wrong_name_is_put_back(run, made):
    copy = shard(run, 1).rename(run / "images" / "copy of shard.parquet")
    generator = Counting()
    said = mended(run, made, copy, generator=generator)
    assert "put train-0000001.parquet back, which lay in copy of shard.parquet" in said
    assert generator.asked == 0 and not (run / "set-aside").exists() and copy.is_file()


def test_shards_of_another_run_are_moved_away_not_deleted(run, made, tmp_path):
    other = damage.make(tmp_path / "other", **{"generate.noise": 1.0})
    shutil.copy(shard(other, 1), shard(run, 1))
    copy = shutil.copy(shard(other, 2), run / "images" / "copy.parquet")
    said = mended(run, made, copy)
    aside = run / "set-aside" / "images"
    assert (aside / shard(run, 1).name).read_bytes() == shard(other, 1).read_bytes()
    assert copy.read_bytes() == shard(other, 2).read_bytes()  # in nobody's place: it is let be
    assert "is not of these images; moved it to" in said
    shutil.copy(shard(other, 1), shard(run, 1))  # once more: the first one stays
    mended(run, made, copy)
    assert (aside / f"{shard(run, 1).name}.1").is_file() and (aside / shard(run, 1).name).is_file()


def test_leftovers_are_removed(run, made):
    for part in ("images", "prompts", "."):
        files.temporary_of(run / part / "x").write_bytes(b"half")
    assert mended(run, made) == "removed 3 files that killed writers left behind"


# ---- stage.json, the card, the prompts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit", [{"counts": {}}, {"files": {}}, {"fingerprint": "0"}, {"scheme": 1}, {"shards": 9}, None]
)
def test_a_damaged_record_is_written_anew(run, made, edit):
    path = run / "images" / "stage.json"
    if edit is None:
        path.write_text(path.read_text()[:200])
    else:
        files.write_json(path, {**files.read_json(path), **edit})
    assert mended(run, made).endswith("images: wrote stage.json anew")
    for key in ("scheme", "fingerprint", "settings", "inputs", "shards", "counts", "files", "generator"):
        assert told(run)[key] == told(made)[key]


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_and_a_damaged_sidecar_is_written_anew(run, made, index, lost):
    path = sidecar(run, index)
    if lost:
        path.unlink()
    else:
        flip(path, 20)
    assert mended(run, made) == f"images: wrote the sidecar of train-000000{index}.parquet anew"
    assert told(run) == told(made)


def test_what_a_good_stage_json_knows_is_kept(run, made):
    shard(run, 1).unlink()
    mended(run, made)
    assert told(run) == told(made)


def test_a_missing_stage_json_a_missing_card_and_an_interrupted_run(run, made):
    (run / "images" / "stage.json").unlink()
    (run / "images" / "README.md").unlink()
    shard(run, 2).unlink()
    assert "re-made 4 of 4 rows in train-0000002" in mended(run, made)
    assert (run / "images" / "README.md").read_bytes() == (made / "images" / "README.md").read_bytes()


def test_all_shards_are_gone(run, made):
    shutil.rmtree(run / "images" / "00000")
    assert mended(run, made).count("re-made") == 3


@pytest.mark.parametrize("lost", ["stage.json", "train.parquet", "both", "half"])
def test_damaged_prompts(run, made, lost):
    if lost == "half":
        flip(run / "prompts" / "train.parquet", 100)
    else:
        for path in (run / "prompts").iterdir():
            if path.is_file() and lost in (path.name, "both"):
                path.unlink()
    said = mended(run, made)
    assert "prompts: wrote" in said
    assert ("same as before, byte for byte" in said) == (lost in ("half", "train.parquet"))


def test_prompts_of_a_writer_that_never_says_the_same_come_from_the_images(tmp_path):
    run = damage.make(tmp_path, prompts={"kind": "damage:Wordy"})
    path = run / "prompts" / "train.parquet"
    before, images = shards.read_prompts(shards.read_shard(path)), shard(run).read_bytes()
    path.unlink()
    said = "\n".join(repair(run, allow_plugins=True))
    assert said == "prompts: took them from the images, since damage:Wordy may not write the same twice"
    drawn = [p for p in before if int(p.id.rpartition("/")[2]) < 10]  # twelve were written, ten images made
    assert shards.read_prompts(shards.read_shard(path)) == drawn and shard(run).read_bytes() == images
    assert verify(run).ok
    path.unlink()
    shard(run, 0).unlink()
    with pytest.raises(FigmentError, match="damage:Wordy now writes others, and the images do not hold all of them"):
        repair(run, allow_plugins=True)
    assert not path.exists()


# ---- failures, changes, formats --------------------------------------------------------------------------------------


class Blind(Counting):
    def __call__(self, prompts, seeds, init=None):
        return [None if "blue" in p else i for p, i in zip(prompts, super().__call__(prompts, seeds), strict=True)]


def test_rows_that_failed_are_left_to_the_next_run(tmp_path):
    make_images(damage.recipe(), tmp_path, generator=Blind())
    before = content(tmp_path)
    assert repair(tmp_path) == [] and content(tmp_path) == before
    flip(shard(tmp_path), 300)
    (line, _) = repair(tmp_path, generator=Counting())
    assert "re-made 5 of 8 rows" in line and verify(tmp_path).ok  # of a damaged shard they are tried again
    make_images(damage.recipe(), tmp_path)
    assert verify(tmp_path).ok and told(tmp_path)["counts"]["made"] == 20


def test_nothing_is_made_with_another_generator_or_recipe(run):
    shard(run, 1).unlink()
    other = ProceduralGenerator(height=8, width=8, noise=1.0)
    with pytest.raises(FigmentError, match="generator was '[0-9a-f]+' and is now"):
        repair(run, generator=other)
    (run / "resolved.yaml").write_text(damage.recipe(**{"generate.noise": 1.0}).to_yaml())
    with pytest.raises(FigmentError, match="generate.noise was 8.0 and is now 1.0"):
        repair(run)
    assert not shard(run, 1).exists()


def test_a_generator_that_rounds_differently_is_said_to(run):
    class Other(ProceduralGenerator):
        def __call__(self, prompts, seeds, init=None):
            return [image ^ 1 for image in super().__call__(prompts, seeds)]

    shard(run, 1).unlink()
    flip(shard(run, 0), damage.image_at(shard(run, 0), 3) + 30)
    first, second, *_ = repair(run, generator=Other(height=8, width=8))
    assert "1 images are not the same as before in every bit: the generator on this machine rounds" in first
    assert "the file is not the same as before in every byte: this machine's generator rounds differently" in second
    assert verify(run).ok


def test_a_newer_version_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SCHEME", 5)
    run = damage.make(tmp_path / "run")
    monkeypatch.undo()
    shard(run, 1).unlink()
    before = content(run)
    with pytest.raises(FigmentError, match="written by a newer figment, in format 5; this one writes format 4"):
        repair(run)
    assert content(run) == before


def test_a_damaged_recipe_mends_nothing(tmp_path, clip):
    """It still can be read, and would train something else."""
    run_recipe(damage.recipe(**{"train.encoder": str(clip)}), tmp_path)
    told = tmp_path / "resolved.yaml"
    right = told.read_text()
    told.write_text(right.replace("epochs: 1", "epochs: 3"))
    (tmp_path / "model" / "head.safetensors").unlink()
    with pytest.raises(FigmentError, match="resolved.yaml is not the file .* Run the recipe that you ran first again"):
        repair(tmp_path)
    assert not (tmp_path / "model" / "head.safetensors").exists()
    run_recipe(damage.recipe(**{"train.encoder": str(clip)}), tmp_path)
    assert verify(tmp_path).ok and told.read_text() == right


# ---- after the images, and with a real pipeline ----------------------------------------------------------------------


def test_what_follows_the_images_is_made_again_too(tmp_path, clip):
    recipe = damage.recipe(**{"train.encoder": str(clip)})
    run_recipe(recipe, tmp_path)
    head = tmp_path / "model" / "head.safetensors"
    made, weights, results = content(tmp_path), head.read_bytes(), (tmp_path / "results.jsonl").read_bytes()
    cache = sorted((tmp_path / "features").glob("*/*.parquet"))[0]
    flip(cache, 300)
    flip(head, 100)
    (tmp_path / "results.jsonl").write_text('{"metric": \n')
    flip(tmp_path / "scores" / "0-blank" / "train.parquet", 100)
    said = "\n".join(repair(tmp_path))
    assert "features: removed the damaged" in said and "scores: made again" in said
    assert "model: made again" in said and "results: " in said
    assert (tmp_path / "set-aside" / "results.jsonl").read_text() == '{"metric": \n'
    assert not verify(tmp_path).findings and content(tmp_path) == made
    assert head.read_bytes() == weights and (tmp_path / "results.jsonl").read_bytes() == results


def test_numbers_of_earlier_settings_stay_unless_nobody_knows_whether_they_are_right(measured):
    first, folder = measured
    then = first.changed({"train.epochs": 2})
    run_recipe(then, folder)
    path = folder / "results.jsonl"
    both = path.read_text()
    assert len({json.loads(line)["fingerprint"] for line in both.splitlines()}) == 2
    path.write_text(both.replace("0.", "1.", 1))  # of the first run: it still is a line
    damaged = path.read_text()
    assert not verify(folder).ok
    run_recipe(then, folder)
    assert verify(folder).ok
    assert both.endswith(path.read_text()) and (folder / "set-aside" / "results.jsonl").read_text() == damaged


def test_the_page_and_the_spreadsheet_are_written_again_without_training(measured, monkeypatch):
    _, folder = measured
    before = {name: (folder / name).read_bytes() for name in ("report.html", "results.csv")}
    monkeypatch.setattr(Context, "models", property(lambda self: pytest.fail("trained")))
    for name in before:
        flip(folder / name, 100)
    assert repair(folder) == ["results: wrote anew what was not as it was, without measuring"]
    assert {name: (folder / name).read_bytes() for name in before} == before and verify(folder).ok


def test_a_diffusion_pipeline_makes_the_same_images_again(tmp_path, sd15):
    generate = {"model": str(sd15), "images_per_class": 5, "num_inference_steps": 2, "shard_size": 8, "batch_size": 3}
    recipe = validate({**damage.recipe().model_dump(mode="json"), "generate": generate}, "test")
    make_images(recipe, tmp_path / "run")
    made = Path(shutil.copytree(tmp_path / "run", tmp_path / "made"))
    path = shard(tmp_path / "run")
    flip(path, damage.image_at(path, 4) + 60)
    shard(tmp_path / "run", 1).unlink()
    said = mended(tmp_path / "run", made)
    assert "re-made 1 of 8 rows" in said and "re-made 2 of 2 rows" in said and said.count("byte for byte") == 2


def test_the_command(run, made):
    from test_cli import figment

    flip(shard(run), 300)
    done = figment("repair", run)
    assert done.returncode == 0 and "re-made 1 of 8 rows" in done.stdout and "Repaired." in done.stdout
    assert "Nothing is broken or missing." in figment("repair", run).stdout
    assert content(run) == content(made)
