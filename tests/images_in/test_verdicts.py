"""Selection by verdicts and scores against a naive twin, and several sets of images as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import folders
from figment import shards
from figment.errors import FigmentError
from figment.images_in import FileImages, open_images, open_shards
from figment.images_in.concat import concatenate
from figment.images_in.verdicts import open_kept, read_verdicts
from figment.records import Record
from figment.types import Sample, Verdict

N, NAMES = 60, ["a", "b", "c"]


def make_run(folder: Path, finished: bool = True) -> list[dict]:
    """Two filters, the second on what the first kept; some images failed. Returns what is true of each image that is there."""
    rng = np.random.default_rng(0)
    made = [
        Sample(
            f"p/{i}",
            "p",
            "t",
            i % 3,
            i,
            "g",
            None if i % 11 == 5 else np.full((2, 2, 3), i, np.uint8),
            "" if i % 11 else None,
        )
        for i in range(N)
    ]
    images = folders.write_images(folder / "images", [made[:30], made[30:]], NAMES)
    rows = [
        {"id": s.id, "label": s.label, "std": rng.random(), "clip_p": round(rng.random(), 1), "by": "", "reason": ""}
        for s in made
        if s.image is not None
    ]
    reached = rows
    for step, (name, score, least) in enumerate([("blank", "std", 0.1), ("clip", "clip_p", 0.3)]):
        verdicts = [
            Verdict(r[score] >= least, "" if r[score] >= least else f"low {score}", {score: r[score]}) for r in reached
        ]
        for row, verdict in zip(reached, verdicts, strict=True):
            row["by"], row["reason"] = ("", "") if verdict.keep else (name, verdict.reason)
        ids, labels = [r["id"] for r in reached], [r["label"] for r in reached]
        order = rng.permutation(len(ids))  # nothing may rest on the order of rows
        table = shards.score_table(ids, labels, verdicts, NAMES).take(order)
        folders.write_scores(folder / "scores" / f"{step}-{name}", images, table)
        for row in rows:
            if all(row is not r for r in reached):
                row[score] = None
        reached = [r for r, v in zip(reached, verdicts, strict=True) if v.keep]
    if finished:
        folders.write_selection(folder, ["0-blank", "1-clip"])
    return rows


@pytest.mark.parametrize("finished", [True, False])
def test_verdicts_are_those_of_the_filters(tmp_path, finished):
    rows = make_run(tmp_path, finished)
    verdicts = read_verdicts(tmp_path)
    assert verdicts.images.ids == [r["id"] for r in rows] and verdicts.filters == ["blank", "clip"]
    assert [("", "blank", "clip")[f + 1] for f in verdicts.rejected_by] == [r["by"] for r in rows]
    assert verdicts.reasons.tolist() == [r["reason"] for r in rows]
    for name in ("std", "clip_p"):
        assert [None if np.isnan(s) else s for s in verdicts.scores[name]] == [r[name] for r in rows]
    kept = open_kept(tmp_path)
    assert kept.ids == [r["id"] for r in rows if not r["by"]] and kept.shards.class_names == NAMES
    assert [int(i[0, 0, 0]) for i in kept.load(range(len(kept)))] == [int(id[2:]) for id in kept.ids]


def test_bounds_on_scores_and_the_best_of_a_class(tmp_path):
    rows = make_run(tmp_path)
    kept = [r for r in rows if not r["by"]]
    ids = lambda rows: [r["id"] for r in rows]
    assert open_kept(tmp_path, bounds={"clip_p": (0.5, 0.8)}).ids == ids([r for r in kept if 0.5 <= r["clip_p"] <= 0.8])
    assert open_kept(tmp_path, bounds={"std": (None, 0.5)}).ids == ids([r for r in kept if r["std"] <= 0.5])
    best = [
        r
        for r in kept
        if sorted([x for x in kept if x["label"] == r["label"]], key=lambda x: -x["clip_p"]).index(r)
        < 3  # sorted is stable
    ]
    assert len(best) == 9 and open_kept(tmp_path, best=("clip_p", 3)).ids == ids(best)
    loose = [r for r in rows if r["by"] != "blank" and r["clip_p"] is not None and r["clip_p"] >= 0.1]
    assert open_kept(tmp_path, bounds={"clip_p": (0.1, None)}, filters=["blank"]).ids == ids(loose)
    assert len(loose) > len(kept)
    everything = open_kept(tmp_path, filters=[])
    assert len(everything) == len(rows)


def test_names_that_are_not_there_are_explained(tmp_path):
    make_run(tmp_path)
    with pytest.raises(FigmentError, match=r"no score 'clip'\. It has: clip_p, std\. Did you mean 'clip_p'"):
        open_kept(tmp_path, bounds={"clip": (0.3, None)})
    with pytest.raises(FigmentError, match=r"no filter 'blonk'\. It has: blank, clip\. Did you mean 'blank'"):
        open_kept(tmp_path, filters=["blonk"])


def test_only_the_filters_of_the_run_that_ended_count(tmp_path):
    rows = make_run(tmp_path)
    folders.write_selection(tmp_path, ["0-blank"])
    assert open_kept(tmp_path).ids == [r["id"] for r in rows if r["by"] != "blank"]
    folders.write_selection(tmp_path, [])
    assert len(open_kept(tmp_path)) == len(rows)


def test_verdicts_on_other_images_are_refused(tmp_path):
    make_run(tmp_path)
    Record(tmp_path / "images", "images", {"made": "anew"}, {}).finish({})
    with pytest.raises(FigmentError, match="0-blank are on other images"):
        open_kept(tmp_path)


def test_what_nobody_rejected_by_hand_can_be_left_out_all_the_same(tmp_path):
    rows = make_run(tmp_path)
    assert open_kept(tmp_path, filters=["blank", "hand"]).ids == open_kept(tmp_path, filters=["blank"]).ids
    assert 0 < len(open_kept(tmp_path, filters=["hand"])) <= len(rows)


def test_a_folder_without_scores_is_all_kept(tmp_path):
    made = Sample("p/0", "p", "t", 0, 0, "g", np.zeros((2, 2, 3), np.uint8))
    folders.write_images(tmp_path / "images", [[made]], NAMES)
    assert open_kept(tmp_path).ids == ["p/0"]


def test_a_folder_without_a_single_image_is_told(tmp_path):
    folders.write_images(tmp_path / "images", [[Sample("p/0", "p", "t", 0, 0, "g", None, "NaN")]], NAMES)
    with pytest.raises(FigmentError, match="No image was made; .*images holds the reasons in its error column"):
        open_kept(tmp_path)


def test_of_a_set_that_has_grown_for_another_recipe_a_run_takes_the_first(tmp_path):
    """Ten images of three classes are asked for, and sixty rows are there."""
    rows = make_run(tmp_path)
    recipe = {"generate": {"images_per_class": 10}, "task": {"class_names": NAMES}}
    (tmp_path / "resolved.yaml").write_text(json.dumps(recipe))
    own = [r for r in rows if int(r["id"][2:]) < 30]
    assert 0 < len(own) < 30 and read_verdicts(tmp_path).images.ids == [r["id"] for r in own]
    assert open_kept(tmp_path).ids == [r["id"] for r in own if not r["by"]]


# ---- several sets as one ---------------------------------------------------------------------------------------------


def test_sets_one_after_another(tmp_path, photos):
    make_run(tmp_path)
    synthetic, real = (
        open_shards(tmp_path / "images")[0],
        open_images(photos / "train", ["red thing", "green thing", "blue thing"]),
    )
    assert isinstance(real, FileImages)
    both = concatenate(real, synthetic)
    assert len(both) == len(real) + len(synthetic)
    assert both.labels.tolist() == [*real.labels, *synthetic.labels]
    assert both.ids == [f"0/{i}" for i in real.ids] + [f"1/{i}" for i in synthetic.ids]
    assert both.digests == [*real.digests, *synthetic.digests]
    order = np.random.default_rng(1).permutation(len(both))
    parts = real.load(range(len(real))) + synthetic.load(range(len(synthetic)))
    for image, i in zip(both.load(order), order, strict=True):
        assert np.array_equal(image, parts[i])
    some = both.take(order[:9]).take([3, 1])
    assert (
        some.ids == [both.ids[order[3]], both.ids[order[1]]]
        and some.labels.tolist() == both.labels[order[[3, 1]]].tolist()
    )
    assert np.array_equal(some.load([1])[0], parts[order[1]]) and len(both.take([])) == 0
    with pytest.raises(IndexError):
        both.load([len(both)])
