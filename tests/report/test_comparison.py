"""Runs beside one another: who is better on the same test images, and who cannot be compared."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from figment import files
from figment.cli import app
from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy
from figment.records import Record, Written
from figment.report.comparison import Comparison, compare, sentence, summary

NAMES = ["a", "b"]
N = 400
LABELS = np.arange(N) % 2


def run(
    root: Path,
    name: str,
    wrong: list[int],
    test: str = "these",
    groups: np.ndarray | None = None,
    seeds: int = 1,
    order: np.ndarray | None = None,
    labels: np.ndarray = LABELS,
    names: list[str] = NAMES,
) -> Path:
    """A finished run whose classifiers are wrong on some images, another number for each seed. With an ``order`` its images come in
    that, and are told by their content. ``names`` are those of the labels."""
    folder = root / name
    folder.mkdir(parents=True)
    own = np.stack([np.where(np.isin(np.arange(N), wrong[s:]), 1 - labels, labels) for s in range(seeds)])
    columns = {f"top1/synthetic/{s}": pa.array(one, pa.int32()) for s, one in enumerate(own)}
    of_groups = {} if groups is None else {"group": pa.array(groups, pa.int32())}
    ids = {"id": pa.array([f"{i}.png" for i in range(N)])}
    if order is not None:
        ids["digest"] = pa.array([f"content of {i}" for i in range(N)])
    table = pa.table({**ids, "label": pa.array(labels, pa.int32()), **of_groups, **columns})
    pq.write_table(table if order is None else table.take(order), folder / "predictions.parquet")
    record = Record(folder, "run", {"name": name}, {"test": test})
    result = accuracy(own, labels, names, "top1/synthetic", tuple(range(seeds)), groups)
    told = {**asdict(result), "fingerprint": record.fingerprint}
    (folder / "results.jsonl").write_text(json.dumps(told) + "\n")
    record.finish({f: Written.of(files.read_bytes(folder / f)) for f in ("predictions.parquet", "results.jsonl")})
    return folder


def words(found: Comparison) -> dict[tuple[str, str], str]:
    return {(found.runs[pair.own].name, found.runs[pair.than].name): pair.word for pair in found.pairs}


@pytest.fixture
def three(tmp_path) -> list[Path]:
    """Accuracies of 90, 88 and 75 %: the first two differ on few images."""
    return [
        run(tmp_path, "low", list(range(100))),
        run(tmp_path, "high", list(range(40))),
        run(tmp_path, "near", list(range(48))),
    ]


def test_runs_are_ordered_and_each_pair_is_judged_among_all(three):
    found = compare(three)
    assert [one.name for one in found.runs] == ["high", "near", "low"]
    assert words(found) == {("high", "low"): "better", ("near", "low"): "better", ("high", "near"): "better"}
    assert found.pairs[-1].p == max(pair.p for pair in found.pairs) and found.n_tested == 3
    assert sentence(found, found.pairs[0]).startswith("high is better than low, +15.0 points (+11.")
    assert "3 pairs compared image by image, of which 3 differ for sure among so many (Holm" in summary(found)


def test_p_is_near_the_exact_one_of_mcnemar(three):
    (pair,) = compare(three[1:]).pairs
    assert pair.difference is not None and pair.difference.value == pytest.approx(0.02)
    assert pair.p == pytest.approx(binomtest(0, 8).pvalue, abs=0.015)  # 8 images that one alone gets right


def test_a_pair_that_would_be_decided_alone_is_not_among_many(tmp_path):
    """Ten runs; two of them differ on seven images of one side, p of about .02."""
    folders = [run(tmp_path, f"r{i}", list(range(7 * (i == 0)))) for i in range(10)]
    alone, many = compare(folders[:2]), compare(folders)
    assert words(alone) == {("r1", "r0"): "better"} and 0.001 < alone.pairs[0].p < 0.05
    assert set(words(many).values()) == {"no evidence"} and len(many.pairs) == 45
    assert many.pairs[0].p == alone.pairs[0].p
    few = compare(folders[:3], against=folders[0])
    assert set(words(few)) == {("r1", "r0"), ("r2", "r0")} and set(words(few).values()) == {"better"}


def test_other_test_images_are_refused_pair_by_pair(tmp_path, three):
    other = run(tmp_path, "other", [], test="those")
    found = compare([*three, other])
    assert {pair for pair, word in words(found).items() if word == "not compared"} == {
        ("other", name) for name in ("high", "near", "low")
    }
    assert found.n_tested == 3 and "3 not compared" in summary(found)
    with pytest.raises(FigmentError, match="No two of these runs were tested on the same images"):
        compare([three[0], other])


def test_the_same_images_in_another_order_are_compared_image_by_image(tmp_path):
    groups, turned = np.arange(N) // 40, np.random.default_rng(0).permutation(N)
    low, high, plain = list(range(100)), list(range(20, 60)), np.arange(N)
    of_plain, of_turned = (
        compare(
            [
                run(tmp_path / name, "low", low, groups=groups, order=plain),
                run(tmp_path / name, "high", high, test, groups=groups, order=order),
            ]
        ).pairs[0]
        for name, test, order in (("plain", "these", plain), ("turned", "those", turned))
    )
    assert of_plain.difference is not None and of_turned.difference is not None
    assert of_turned.difference.value == of_plain.difference.value == pytest.approx(0.15)
    assert of_turned.difference.image_se == pytest.approx(of_plain.difference.image_se)


def test_classes_in_another_order_are_matched_by_name(tmp_path):
    turned = np.random.default_rng(0).permutation(N)
    own = run(tmp_path, "own", list(range(100)), order=np.arange(N))
    facts = {"labels": 1 - LABELS, "names": NAMES[::-1]}
    (pair,) = compare([own, run(tmp_path, "turned", list(range(20, 60)), "those", order=turned, **facts)]).pairs
    assert pair.difference is not None and pair.difference.value == pytest.approx(0.15)
    (pair,) = compare([own, run(tmp_path, "same", list(range(100)), "those", order=turned, **facts)]).pairs
    assert pair.difference is not None and pair.difference.value == 0  # wrong on the same images
    renamed = run(tmp_path, "renamed", [], "those", order=turned, names=["an A", "a B"])  # words of the same classes
    assert compare([own, renamed]).n_tested == 1
    with pytest.raises(FigmentError, match="No two of these runs"):
        compare([own, run(tmp_path, "unlike", [], "those", order=turned, labels=1 - LABELS, names=["a", "c"])])


def test_other_labels_and_older_runs_in_another_order_are_refused(tmp_path):
    plain, relabelled = np.arange(N), np.where(np.arange(N) == 7, 1 - LABELS, LABELS)
    own = run(tmp_path, "own", [0], order=plain)
    for name, facts in (("labels", {"order": plain, "labels": relabelled}), ("older", {})):
        with pytest.raises(FigmentError, match="No two of these runs"):
            compare([own, run(tmp_path, name, [], "those", **facts)])
    assert compare([own, run(tmp_path, "same", [])]).n_tested == 1  # an older one, in the same order


def test_groups_and_training_seeds_make_intervals_wider(tmp_path):
    groups = np.arange(N) // 40
    plain = compare([run(tmp_path / "p", "a", list(range(40))), run(tmp_path / "p", "b", [])]).pairs[0]
    grouped = compare(
        [run(tmp_path / "g", "a", list(range(40)), groups=groups), run(tmp_path / "g", "b", [], groups=groups)]
    ).pairs[0]
    seeded = compare([run(tmp_path / "s", "a", list(range(40)), seeds=3), run(tmp_path / "s", "b", [], seeds=3)])
    assert plain.difference and grouped.difference and grouped.difference.image_se > 2 * plain.difference.image_se
    assert seeded.pairs[0].difference and seeded.pairs[0].difference.set_se > 0 == plain.difference.set_se
    assert {one.allows_for for one in seeded.runs} == {"other training seeds"}


def test_runs_of_one_name_are_told_apart(tmp_path):
    found = compare([run(tmp_path / "x", "own", [0]), run(tmp_path / "y", "own", [])])
    assert {one.name for one in found.runs} == {str(tmp_path / "x/own"), str(tmp_path / "y/own")}


def test_what_cannot_be_compared_is_told(tmp_path, three):
    with pytest.raises(FigmentError, match="wants two runs or more"):
        compare([three[0], three[0]])
    with pytest.raises(FigmentError, match="holds no results"):
        compare([three[0], tmp_path])
    with pytest.raises(FigmentError, match=r"no accuracy 'top1/synthetik'. Did you mean 'top1/synthetic'"):
        compare(three, "top1/synthetik")


def test_the_command_prints_it_and_writes_csv_and_a_page(tmp_path, three):
    to = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["compare", *map(str, three), "--csv", str(to / "c.csv"), "--html", str(to / "c.html")]
    )
    assert done.exit_code == 0 and "high is better than near, +2.0 points" in done.output, done.output
    rows = list(csv.DictReader((to / "c.csv").open()))
    assert (
        len(rows) == 3
        and rows[0]["run"] == "high"
        and rows[0]["verdict"] == "better"
        and float(rows[0]["difference"]) == 0.15
    )
    assert "high is better than low" in (to / "c.html").read_text()
