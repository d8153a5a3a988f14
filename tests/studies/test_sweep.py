"""Sweeps in two phases: what is tried, what the second phase follows from, and what the page says to use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import pearsonr, spearmanr

from figment.cli.show import print_table
from figment.errors import FigmentError
from figment.recipe import Recipe, load_recipe, validate
from figment.recipe.sweep import DISTANCE, FAST, FID, SCORE
from figment.report.table import Cell, markdown, render
from figment.studies.measured import Measured
from figment.studies.phases import first_phase as first_table
from figment.studies.sweep import answer, first_phase, name_of, second_phase
from figment.studies.table import read_table, run_table, table_runs
from figment.studies.table_forecast import forecast_table
from figment.types import Result
from figment.verify import verify

NAMES = ["red thing", "green thing", "blue thing"]
FIELDS = {"generate.guidance_scale": [1.0, 2.0, 5.0], "generate.num_inference_steps": [5, 15]}


def of_starter(**sweep) -> Recipe:
    table = {"title": "x", "sweep": {"fields": FIELDS, "then": "generate.guidance_scale", **sweep}}
    generate = {"model": "starter", "guidance_scale": 2.0, "num_inference_steps": 15}
    return validate({"task": "fashion", "generate": generate, "table": table}, "test")


def setting(guidance: float, steps: int) -> dict:
    return {"generate.guidance_scale": guidance, "generate.num_inference_steps": steps}


def test_one_factor_at_a_time_and_every_combination():
    assert first_phase(of_starter()) == [setting(2, 15), setting(1, 15), setting(5, 15), setting(2, 5)]
    assert first_phase(of_starter(design="grid")) == [setting(g, s) for g in (1, 2, 5) for s in (5, 15)]
    assert second_phase(of_starter()) == [setting(g, 15) for g in (1, 2, 5)]
    assert name_of(setting(2.0, 5)) == "guidance_scale 2, num_inference_steps 5"
    assert name_of({"generate.kind": 1, "prompts.kind": 2}) == "generate.kind 1, prompts.kind 2"


@pytest.mark.parametrize(
    ("design", "by", "best", "steps"),
    [
        ("one_at_a_time", "frechet", (2, 5), 5),
        ("one_at_a_time", "frechet", (1, 15), 15),  # its guidance is tried again, and its steps are kept
        ("one_at_a_time", "top1/frozen", (2, 5), 5),
        ("grid", "frechet", (5, 5), 5),
        ("one_at_a_time", "fid", (2, 5), 5),
        ("grid", "top1/frozen", (1, 15), 15),
    ],
)
def test_the_second_phase_has_what_was_best_in_the_first(design, by, best, steps):
    recipe = of_starter(design=design, by=by)
    sign = 1 if by == "top1/frozen" else -1
    judged = {name_of(s): sign * (s == setting(*best)) for s in first_phase(recipe)}
    assert second_phase(recipe, judged) == [setting(g, steps) for g in (1, 2, 5)]


def test_a_sweep_by_fid_measures_it_in_the_place_of_the_distance(tmp_path, monkeypatch):
    recipe = of_starter(by="fid")
    assert list(first_table(recipe).columns) == [FID, FAST]
    assert {name for *_, run in table_runs(recipe) for name in run.evaluate.measures} == {"fid", "fast_cas"}
    assert list(first_table(of_starter(by="top1/frozen")).columns) == [DISTANCE, FAST]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where no weights are
    with pytest.raises(FigmentError, match="its weights are not here.*curl -L -o"):
        run_table(recipe, tmp_path / "run")


@pytest.mark.parametrize("name", ["table1", "figure3", "figure4", "sweep"])
def test_recipes_whose_printed_numbers_are_fids_measure_it_and_their_scale_models_do_not(name):
    where = Path(__file__).parents[2] / "recipes" / "azizi2023" / f"{name}.yaml"
    for variant, metric in ((None, "fid"), ("starter", "frechet")):
        table = load_recipe(where, variant=variant).table.laid_out()
        assert [own["metric"] for own in table.columns.values() if own.get("metric") in ("fid", "frechet")] == [metric]


def test_fields_of_a_cascades_stages():
    noise, scale = "generate.stages.1.noise_level", "generate.stages.0.guidance_scale"
    sweep = {"fields": {noise: [0, 100], scale: [1.0, 2.0]}, "then": scale}
    generate = {"kind": "cascade", "stages": [{"guidance_scale": 1.25}, {"noise_level": 50}]}
    recipe = validate({"task": "fashion", "generate": generate, "table": {"title": "x", "sweep": sweep}}, "test")
    tried = first_phase(recipe)
    assert tried[0] == {noise: 50, scale: 1.25} and len(tried) == 5
    assert [recipe.changed(s).generate.stages[1].noise_level for s in tried] == [50, 0, 100, 50, 50]
    sweep["fields"] = {"generate.stages.2.noise_level": [0]}
    sweep["then"] = "generate.stages.2.noise_level"
    beyond = validate({"task": "fashion", "generate": generate, "table": {"title": "x", "sweep": sweep}}, "test")
    with pytest.raises(FigmentError, match="the recipe has no such field"):
        first_phase(beyond)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"then": "generate.steps"}, "Name one of them"),
        ({"fields": {"generate.guidance_scale": []}}, "give at least one, each once"),
        ({"fields": {"generate.guidance_scale": [1, 1.0]}}, "give at least one, each once"),
        ({"fields": {"train.seeds": [1, 2]}, "then": "train.seeds"}, "no setting of the generator"),
        ({"design": "random"}, "design"),
        ({"by": "top1/synthetic"}, "by"),
        ({"images_per_class": 0}, "images_per_class"),
        ({"fields": {}}, "fields"),
        (
            {
                "fields": {"generate.images_per_class": [2, 4]},
                "then": "generate.images_per_class",
                "images_per_class": 2,
            },
            "no other number of 'generate.images_per_class'",
        ),
    ],
)
def test_sweeps_that_are_none(sweep, said):
    with pytest.raises(FigmentError, match=said):
        of_starter(**sweep)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generate.guidanc": [1]}, "the recipe has no such field"),
        ({"generate.guidance_scale": [1, "much"]}, "guidance_scale much"),
        ({"generate.num_inference_steps": [0]}, "num_inference_steps 0"),
        ({"generate.stages.0.guidance_scale": [1]}, "the recipe has no such field"),
        ({"generate.guidance_scale": [7.5, 7.5000001]}, "values that read the same"),
    ],
)
def test_a_field_or_a_value_that_there_is_not_is_said_before_anything_is_spent(fields, said):
    with pytest.raises(FigmentError, match=said):
        table_runs(of_starter(fields=fields, then=next(iter(fields))))


@pytest.mark.parametrize("metric", ["frechet", "gain/synthetic", "top1/real_all"])
def test_of_what_no_best_setting_can_be_told(metric):
    with pytest.raises(FigmentError, match=f"table.metric is top1/synthetic or top5/synthetic, and not '{metric}'"):
        of_starter().changed({"table.metric": metric})


def test_what_is_cheap_looks_with_the_recipes_own_encoder():
    recipe = of_starter().changed({"train": {"kind": "clip_head", "encoder": "some/clip", "allow_pickle": True}})
    cheap = [own for group, _, own in table_runs(recipe) if SCORE not in {column for _, column in group.cells}]
    assert len(cheap) == 4 * 3  # seeds
    assert {(own.train.encoder, own.encoder, own.encoder_pickles) for own in cheap} == {
        ("some/clip", "some/clip", True)
    }


@pytest.fixture
def recipe(clip, photos):
    return validate(
        {
            "name": "sizes",
            "task": {
                "class_names": NAMES,
                "templates": ["{}"],
                "real": {split: str(photos / split) for split in ("train", "test")},
            },
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
            "encoder": str(clip),
            "filters": [],
            "train": {
                "kind": "network",
                "architecture": "small_cnn",
                "image_size": 8,
                "steps": 3,
                "batch_size": 6,
                "seeds": 1,
            },
            "table": {
                "title": "Sizes",
                "seeds": 1,
                "sweep": {
                    "fields": {"generate.width": [20, 12], "generate.height": [24, 8]},
                    "then": "generate.width",
                    "images_per_class": 2,
                },
            },
        },
        "test",
    )


def test_folders_among_the_values_are_relative_to_the_recipe(tmp_path):
    (tmp_path / "mine").mkdir()
    fields = {"generate.model": ["starter", "./mine"]}
    recipe = of_starter(fields=fields, then="generate.model")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    read = load_recipe(tmp_path / "recipe.yaml")
    assert read.table.sweep.fields["generate.model"] == ["starter", str(tmp_path / "mine")]


def killed_at(places: set[int], monkeypatch) -> list:
    """The runs that a table begins, which is killed at these of them, counted from 1."""
    from figment.studies import table

    run, begun = table.run_recipe, []

    def counted(own, folder, **more):
        begun.append(folder)
        if len(begun) in places:
            raise KeyboardInterrupt
        return run(own, folder, **more)

    monkeypatch.setattr(table, "run_recipe", counted)
    return begun


@pytest.mark.slow
def test_a_sweep_from_its_plan_through_two_kills_to_a_recipe_of_the_best(recipe, tmp_path, capsys, monkeypatch):
    out = tmp_path / "sweep"
    said = forecast_table(recipe, out).text
    assert "Sweep: 3 settings with 6 images each, judged by Fréchet distance; then 2 values of generate.width" in said
    begun = killed_at({2, 8}, monkeypatch)  # in either phase
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_table(recipe, out)
    page = run_table(recipe, out)
    assert {folder.parent.name for folder in begun} == {folder.name for folder in out.glob("cells/*")}
    rows = {row for row, column in page.cells if column == SCORE}
    assert len(rows) == 2 and len({column for _, column in page.cells}) == 3
    assert all((row, column) in page.cells for row in page.rows for column in (DISTANCE, FAST))
    distances = {row: page.cells[row, DISTANCE].value for row in page.rows}
    heights = {height: distances[f"width 20, height {height}"] for height in (24, 8)}
    assert all(row.endswith(f"height {min(heights, key=heights.get)}") for row in rows)  # the better height was kept
    sizes = sorted(pq.read_metadata(path).num_rows for path in out.glob("images/*/images/*/*.parquet"))
    assert sizes == [
        6,
        6,
        12,
        12,
    ]  # 2 of each class for every setting, and 2 more for those that a network was trained on
    assert page.answer is not None and page.answer.headline.removeprefix("Use ") in rows
    assert {dot.name for dot in page.answer.dots} == rows and sum(dot.kind == "best" for dot in page.answer.dots) == 1
    assert read_table(out) == page and verify(out).ok and not verify(out).findings
    best = load_recipe(out / "best.yaml")
    width, height = best.generate.width, best.generate.height
    assert page.answer.headline == f"Use width {width}, height {height}" and best.table is None
    assert best.train == recipe.train and best.generate.images_per_class == 4
    text = render(page)
    assert page.answer.headline in text and "Does the paper" not in text and '<text class="name"' in text
    assert page.answer.headline in markdown(page).replace("\\", "")
    print_table(page, out)
    assert "figment run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_by_five_answers_of_what_both_phases_train(recipe, clip, tmp_path):
    """Where the learner of either phase is the same, so is the run, and what it measures again is no second seed."""
    names = [*NAMES, "grey thing", "white thing", "black thing"]
    task = {
        "class_names": names,
        "templates": ["{}"],
        "real": {split: str(photos_of(names, tmp_path / split)) for split in ("train", "test")},
    }
    train = {"kind": "images_only", "encoder": str(clip)}
    phases = {"table.metric": "top5/synthetic", "table.sweep.images_per_class": None}
    page = run_table(recipe.changed({"task": task, "train": train, **phases}), tmp_path / "run")
    assert page.answer is not None and page.answer.headline.startswith("Use width ")
    assert all(cell.value > 0.5 for (_, column), cell in page.cells.items() if column == SCORE)
    assert {place: len(cell.per_seed) for place, cell in page.cells.items()} == dict.fromkeys(page.cells, 1)


def photos_of(names: list[str], folder: Path) -> Path:
    """Three noisy images of each class."""
    rng = np.random.default_rng(len(folder.name))
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(folder / name / f"{k}.png")
    return folder


def planted(shares, distances, fast, seconds, n=800):
    """Settings a, b, c ... whose score, distance, fast CAS and seconds an image are known."""
    rows = [chr(97 + k) for k in range(len(shares))]
    cells, shown = {}, {}
    for row, share, distance, frozen, took in zip(rows, shares, distances, fast, seconds, strict=True):
        right = np.array([np.arange(n) < share * n] * 2, float)
        for column, value in ((SCORE, share), (DISTANCE, distance), (FAST, frozen)):
            metric = "frechet" if column == DISTANCE else "x"
            cells[row, column] = Measured([Result(metric, value, n, (0, 1))] * 2, right, seconds=took)
            shown[row, column] = Cell(value, (value - 0.01, value + 0.01))
    return rows, cells, shown


@pytest.mark.parametrize(
    ("shares", "distances", "seconds", "parts", "absent"),
    [
        ((0.5, 0.8, 0.7, 0.6), (4, 2, 1, 3), (1, 2, 3, 4), ["Use b", "would have chosen c: 70.0 %, −10.0"], "fastest"),
        (
            (0.5, 0.8, 0.7, 0.6),
            (4, 1, 2, 3),
            (1, 2, 3, 4),
            ["Use b", "would have chosen the same", "2.00 s an"],
            "fastest",
        ),
        ((0.5, 0.8, 0.799, 0.6), (4, 1, 2, 3), (1, 9, 3, 4), ["Use b", "not surely worse: c, 79.9 %"], "−10"),
        ((0.8, 0.8, 0.1, 0.1), (1, 2, 3, 4), (None,) * 4, ["Use a"], "an image"),
    ],
)
def test_what_a_sweep_says(shares, distances, seconds, parts, absent):
    fast = (0.3, 0.6, 0.5, 0.45)
    told = answer(*planted(shares, distances, fast, seconds))
    text = " ".join([told.headline, *told.sentences])
    assert all(part in text for part in parts) and absent not in text, text
    r, rank = pearsonr(shares, fast)[0], spearmanr(shares, fast)[0]
    assert f"fast CAS r = {r:.2f}, of ranks {rank:.2f}".replace("-", "−") in text
    assert "It was chosen on these test images" in text
    assert [dot.kind for dot in told.dots].count("best") == 1


def test_what_a_sweep_by_fid_says():
    rows, *named = planted((0.5, 0.8, 0.7, 0.6), (4, 2, 1, 3), (0.3, 0.6, 0.5, 0.45), (1, 2, 3, 4))
    cells, shown = ({(row, FID if at == DISTANCE else at): x for (row, at), x in own.items()} for own in named)
    told = answer(rows, cells, shown)
    text = " ".join(told.sentences)
    assert "FID would have chosen c" in text and "FID (its negative) r = " in text and "Fréchet" not in text


def test_of_few_settings_no_correlation_is_told():
    told = answer(*planted((0.5, 0.6, 0.7), (3, 2, 1), (0.1, 0.2, 0.3), (1, 1, 1)))
    assert "Correlation" not in " ".join(told.sentences)
