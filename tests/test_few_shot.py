"""Runs with a few real images: which ones they are, who sees them, and what is measured beside the recipe's classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from figment import measures
from figment.context import Context
from figment.encoders import Features, open_encoder
from figment.errors import FigmentError
from figment.evaluate.verdict import Word
from figment.images_in import open_images, open_shards
from figment.images_in.real import open_real
from figment.layout import Run, shard_files
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.mix import tune_mixed
from figment.learners.clip_head.settings import MixSettings
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.shots import draw_shots, read_split
from trials import OF_EVIDENCE

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]
STEPS = 20  # of a training, at least


@pytest.fixture
def recipe(clip, photos):
    def make(**changes) -> Recipe:
        data = {
            "seed": 3,
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 8, "height": 24, "width": 20},
            "filters": [],
            "few_shot": {"shots": 2},
            "train": {
                "encoder": str(clip),
                "epochs": 2,
                "min_steps": STEPS,
                "seeds": 2,
                "real_batch_size": 3,
                "batch_size": 7,
            },
            "evaluate": {"exchange_rate": False, "real_all": False},
        }
        return validate(data, "test").changed(changes)

    return make


def train_of(photos: Path):
    return open_images(photos / "train", NAMES)


def test_the_shots_are_drawn_with_the_recipes_seed_and_published(recipe, photos, tmp_path):
    run_recipe(recipe(), tmp_path / "run")
    pool = train_of(photos)
    own = draw_shots(pool.labels, 2, 3)
    assert (read_split(tmp_path / "run" / "shots.json", pool) == own).all()
    other = Context(recipe(seed=4), Run(tmp_path / "other", root_at=tmp_path)).shots
    assert other is not None and set(other.ids) != {pool.ids[i] for i in own}
    again = recipe(**{"seed": 4, "few_shot.split": str(tmp_path / "run" / "shots.json")})
    shots = Context(again, Run(tmp_path / "again", root_at=tmp_path)).shots
    assert shots is not None and list(shots.ids) == [pool.ids[i] for i in own]


def test_all_real_images_are_shots(recipe, photos, tmp_path):
    """Then the shots alone are all real images, and nothing was drawn that could have been drawn otherwise."""
    changes = {"few_shot.shots": "all", "train": {"kind": "images_only", "encoder": recipe().train.encoder}}
    found = run_recipe(recipe(**changes, **{"evaluate.real_all": True}), tmp_path).results
    assert found["top1/real_only"].value == found["top1/real_all"].value
    pool = train_of(photos)
    assert sorted(read_split(tmp_path / "shots.json", pool)) == list(range(len(pool)))
    told = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "all real images" in told and "drawn with seed" not in told and "one draw of" not in told


def test_the_classifier_is_that_of_mixed_training_on_the_shots_and_the_images(recipe, photos, clip, tmp_path):
    outcome = run_recipe(recipe(**{"train.start": "zero_shot"}), tmp_path / "run")
    encoder = open_encoder(str(clip))
    features = Features(encoder)
    pool, made = train_of(photos), open_shards(tmp_path / "run" / "images")[0]
    shots, test = pool.take(draw_shots(pool.labels, 2, 3)), open_images(photos / "test", NAMES)
    from figment.learners.clip_head.head import zero_shot_head

    start = zero_shot_head(encoder, NAMES, ["a photo of a {}."])
    settings = MixSettings(learning_rate=2e-3, epochs=2, real_batch_size=3, batch_size=7, min_steps=STEPS)
    rights = []
    assert recipe().training_seeds == (6, 7)  # others for another seed of the recipe
    for seed in (6, 7):
        tuned = tune_mixed(
            start,
            (features(shots), shots.labels),
            (features(made), made.labels),
            settings,
            seed,
        ).head.predict(features(test))
        rights.append((tuned.argmax(1) == test.labels).mean())
    assert outcome.results["top1/synthetic"].details["per_seed"] == pytest.approx(rights)


def test_what_is_measured_and_the_verdict(recipe, tmp_path):
    changes = {"evaluate.baselines": ["tip_adapter", "tip_adapter_f", "linear_probe", "augmented"]}
    outcome = run_recipe(recipe(**changes), tmp_path / "run")
    baselines = {f"{kind}/{name}" for kind in ("top1", "gain") for name in changes["evaluate.baselines"]}
    assert set(outcome.results) - OF_EVIDENCE == baselines | {
        *("top1/zero_shot", "top1/synthetic", "gain/synthetic"),
        *("top1/real_only", "gain/real_only", "gain/over_real_only"),
    }
    over = outcome.results["gain/over_real_only"]
    difference = outcome.results["top1/synthetic"].value - outcome.results["top1/real_only"].value
    assert over.value == pytest.approx(difference)
    worth = outcome.results["worth"]
    rivals = ["top1/real_only", "top1/real_repeated", "top1/bias_removed", "top1/placebo"]
    assert list(worth.details["differences"]) == rivals and outcome.verdict in get_args(Word)
    assert worth.details["differences"]["top1/real_only"]["value"] == pytest.approx(over.value)
    page = report_of(tmp_path / "run")
    assert [arm.name for arm in page.arms][:3] == ["zero-shot", "real images alone", "Tip-Adapter"]
    assert page.verdict.sentence == worth.details["sentence"] and page.verdict.difference.value == worth.value


def test_predictions_are_kept_and_give_the_accuracies(recipe, tmp_path):
    outcome = run_recipe(recipe(), tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pandas()
    task = recipe().task
    assert table["digest"].tolist() == list(open_real(task)["test"].digests)
    for metric in ("top1/zero_shot", "top1/synthetic", "top1/real_only"):
        columns = [c for c in table if c.rpartition("/")[0] == metric]
        shares = [(table[c] == table["label"]).mean() for c in columns]
        assert shares == pytest.approx(outcome.results[metric].details["per_seed"])


def test_no_more_than_so_many_images_of_each_class(recipe, tmp_path):
    run_recipe(recipe(**{"train.images_per_class": 3}), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "model" / "stage.json").read_text())["counts"]["kept"] == 9


def test_a_test_image_of_another_class_is_another_run(recipe, photos, tmp_path):
    """In a table of images a label can change where no image and no order does."""
    images = open_images(photos / "test", NAMES)
    lines = [f"{photos / 'test' / id},{NAMES[label]}" for id, label in zip(images.ids, images.labels, strict=True)]
    table = tmp_path / "test.csv"
    values = []
    for label in NAMES[:2]:
        table.write_text("\n".join(["path,label", lines[0].rpartition(",")[0] + f",{label}", *lines[1:]]) + "\n")
        outcome = run_recipe(recipe(**{"task.real.test": str(table), "train.wise_ft": 0.0}), tmp_path / "run")
        values.append(outcome.results["top1/zero_shot"].details["confusion"])
    assert values[0] != values[1]


def test_wise_ft_of_nothing_is_the_untuned_classifier(recipe, tmp_path):
    outcome = run_recipe(recipe(**{"train.wise_ft": 0.0, "train.start": "zero_shot"}), tmp_path / "run")
    untuned = outcome.results["top1/zero_shot"].value
    assert outcome.results["top1/synthetic"].value == outcome.results["top1/real_only"].value == untuned


def test_the_encoder_can_run_live_and_is_kept(recipe, tmp_path):
    changes = {"train.unfrozen": {"trainable_fraction": 0.3, "learning_rate": 1e-3}, "train.seeds": 1}
    outcome = run_recipe(recipe(**changes), tmp_path / "run")
    share = outcome.results["top1/synthetic"].details["trainable_fraction"]
    assert 0.3 <= share < 1
    (tmp_path / "run").rename(tmp_path / "moved")
    _, card = Head.load(tmp_path / "moved" / "model")
    again = open_encoder(card.encoder)
    start = open_encoder(recipe().train.encoder)
    image = [np.full((24, 20, 3), 99, np.uint8)]
    assert Path(card.encoder) == tmp_path / "moved" / "model" / "encoder"
    assert not np.allclose(again.images(image), start.images(image), atol=1e-4)


def test_fidelity_of_the_images(recipe, tmp_path):
    outcome = run_recipe(recipe(**{"evaluate.measures": ["recognisability", "frechet"]}), tmp_path / "run")
    distance, share = outcome.results["frechet"], outcome.results["recognisability"]
    assert distance.value > 0 and distance.details["n_a"] == 24 and distance.details["n_b"] == 18
    assert 0 <= share.value <= 1 and share.n == 24


# ---- who sees which real images ------------------------------------------------------------------------------------


def test_filters_and_captions_see_the_shots_alone(recipe, photos, tmp_path):
    walk = Context(recipe(filters=[{"kind": "real"}]), Run(tmp_path / "run", root_at=tmp_path))
    (real,) = walk.filters
    assert walk.shots is not None and list(real.train.ids) == list(walk.shots.ids)  # type: ignore[attr-defined]
    without = Context(recipe(few_shot=None, filters=[{"kind": "real"}]), Run(tmp_path / "b", root_at=tmp_path))
    assert len(without.filters[0].train) == 18  # type: ignore[attr-defined]


def test_no_shot_is_a_test_image_and_the_test_is_not_seen_by_training(recipe, photos, tmp_path):
    """The same run without test images trains the same classifier: nothing but the last numbers depends on them."""
    filters = [{"kind": "centroid", "of": "real"}]
    one = run_recipe(recipe(filters=filters), tmp_path / "with")
    real = {"train": str(photos / "train"), "test": None, "val": None}
    two = run_recipe(recipe(**{"task.real": real, "filters": filters}), tmp_path / "without")
    assert one.results and not two.results
    heads = [(tmp_path / name / "model" / "head.safetensors").read_bytes() for name in ("with", "without")]
    assert heads[0] == heads[1]


def test_test_best_says_that_it_did(recipe, tmp_path, capsys):
    changes = {"train.select": "test_best", "train.epochs": 6, "train.learning_rate": 0.5}
    best = run_recipe(recipe(**changes), tmp_path / "best")
    said = " ".join(capsys.readouterr().out.split())
    assert "chosen on the TEST images" in said
    assert any("chosen on the test images" in c for c in report_of(tmp_path / "best").caveats)
    last = run_recipe(recipe(**{**changes, "train.select": "last"}), tmp_path / "last")
    assert "TEST" not in capsys.readouterr().out
    assert best.results["top1/synthetic"].value >= last.results["top1/synthetic"].value


# ---- real guidance ---------------------------------------------------------------------------------------------------


@pytest.fixture
def guided(recipe, sd15):
    def make(**changes) -> Recipe:
        generate = {"model": str(sd15), "images_per_class": 4, "num_inference_steps": 10, "real_guidance": {}}
        return recipe(**{"generate": generate, **changes})

    return make


def test_images_start_from_the_shots_of_their_class(guided, tmp_path):
    run_recipe(guided(), tmp_path / "run")
    rows = [r for p in shard_files(tmp_path / "run" / "images") for r in pq.read_table(p).to_pylist()]
    published = json.loads((tmp_path / "run" / "shots.json").read_text())["images"]
    label_of = {row["id"]: row["label"] for row in published}
    assert len(rows) == 12 and all(label_of[r["init"]] == r["label"] for r in rows)
    counts = {id: sum(r["init"] == id for r in rows) for id in label_of}
    assert set(counts.values()) == {2}  # four images a class, evenly over two shots
    said = json.loads((tmp_path / "run" / "images" / "stage.json").read_text())["generator"]
    assert "real guidance" in said["sampler"]


def test_verify_knows_which_images_the_images_started_from(guided, tmp_path):
    from figment.repair import repair
    from figment.verify import verify

    run_recipe(guided(), tmp_path / "run")
    published = tmp_path / "run" / "shots.json"
    before = published.read_bytes()
    split = json.loads(published.read_text())
    first, second = split["images"][:2]
    first["id"], second["id"] = second["id"], first["id"]
    published.write_text(json.dumps(split))
    found = verify(tmp_path / "run")
    assert not found.ok
    assert "shots.json is not the file that stage.json has the checksum of" in " ".join(f.text for f in found.findings)
    published.write_text("no JSON")
    assert [f.text.split(" is ")[0] for f in verify(tmp_path / "run").findings] == ["shots.json"]
    repair(tmp_path / "run")
    assert published.read_bytes() == before and verify(tmp_path / "run").ok


def test_other_shots_are_other_images(guided, tmp_path):
    run_recipe(guided(), tmp_path / "run")
    with pytest.raises(FigmentError, match="shots"):
        run_recipe(guided(**{"few_shot.shots": 3}), tmp_path / "run")


def test_a_run_with_real_guidance_is_repaired(guided, tmp_path):
    from figment.repair import repair
    from figment.verify import verify

    run_recipe(guided(), tmp_path / "run")
    (path,) = shard_files(tmp_path / "run" / "images")
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    assert not verify(tmp_path / "run").ok
    repair(tmp_path / "run")
    assert path.read_bytes() == before and verify(tmp_path / "run").ok


# ---- other real images -----------------------------------------------------------------------------------------------


def test_a_claim_about_other_real_images_tries_other_ones(recipe, photos, tmp_path, caplog):
    own = recipe(
        **{
            "train": {"kind": "words_and_images", "encoder": recipe().train.encoder},
            "evaluate.shot_draws": 6,
            "few_shot.shots": 1,
        }
    )
    ctx = Context(own, Run(tmp_path / "run", root_at=tmp_path))
    assert ctx.shots is not None
    chosen = [tuple(sorted(images.ids)) for images in (ctx.shots, *map(ctx.other_shots, range(6)))]
    assert len(set(chosen)) > 4  # 6 ** 3 choices there are
    assert all((np.bincount(images.labels) == 1).all() for images in map(ctx.other_shots, range(6)))

    outcome = run_recipe(own, tmp_path / "run")
    about_these = run_recipe(own.changed({"evaluate.shot_draws": None, "evaluate.resamples": 6}), tmp_path / "these")
    told, told_of_these = (o.results["worth"].details for o in (outcome, about_these))
    assert told["claim"] == "other sets and other real images" and told["resamples"] == 6
    assert told_of_these["claim"] == "other sets of this recipe"
    assert "other real images, alone, and again and again: 12 trainings" in caplog.text
    assert told["differences"].keys() == told_of_these["differences"].keys()
    for rival, d in told["differences"].items():
        assert d["value"] == told_of_these["differences"][rival]["value"]
    assert measures.splits_needed(own) == {"train", "test"}  # more photographs in the pool are other choices


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"few_shot.shots": 7}, r"wants 7 real images of each class, and 'red thing' has 6. Set few_shot.shots to 6"),
        ({"task.real.train": None}, "few_shot draws from real training images"),
        ({"few_shot.split": "gone.json"}, "gone.json cannot be read"),
        ({"few_shot": None, "evaluate.baselines": ["coop"]}, "evaluate.baselines needs few real images"),
        ({"evaluate.baselines": ["tip"]}, "baselines"),
        ({"train.unfrozen": {}, "evaluate.exchange_rate": True}, "train.unfrozen .*exchange_rate: false"),
        ({"train.unfrozen": {"trainable_fraction": 0.5, "lora_rank": 4}}, "set one of the two to 0"),
        ({"train.select": "test_best", "task.real.test": None}, "test_best.*no test images"),
        ({"few_shot": None, "evaluate.shot_draws": 5}, "evaluate.shot_draws needs few real images"),
        ({"evaluate.shot_draws": 5, "evaluate.resamples": 5}, "leave evaluate.resamples out"),
        ({"evaluate.shot_draws": 4}, "greater than or equal to 5"),
        ({"evaluate.shot_draws": 5}, "has 6 of class 0 for 2 shots: choices among fewer than five times as many"),
        (
            {"few_shot.shots": 1, "evaluate.shot_draws": 5, "filters": [{"kind": "real"}]},
            "chosen by the real images: the filter 'real'",
        ),
    ],
)
def test_mistakes_are_explained(recipe, changes, message, tmp_path):
    with pytest.raises(FigmentError, match=message):
        run_recipe(recipe(**changes), tmp_path / "run")


def test_real_guidance_needs_few_shot(guided, tmp_path):
    with pytest.raises(FigmentError, match="generate.real_guidance needs few real images"):
        guided(few_shot=None)
