"""What a start of very many shards asks of a store, and a simulated run from nothing to the end: ``tools/scale.py`` in small."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
try:
    import scale
    from scaling.page import page
finally:
    sys.path.pop(0)

from figment.generate.fill import look
from figment.layout import image_folders, shard_files
from simulated import Weather


def test_a_start_lists_the_names_once_and_opens_one_footer():
    row, closing = scale.start(1_510)
    assert (row["to make"], row["opened sidecars"], row["reads"]) == (10, 0, 1)
    assert row["lists"] <= 2 * 2 + 4  # two pages of each folder, their names, and the folder of the first shard
    assert row["looks"] <= 3  # is there a record?
    assert closing["reads"] == 1_500 and closing["looks"] == 0  # one request a sidecar


def test_what_there_is_to_do_is_not_a_list_of_all_images():
    """A hundred million numbers would be gigabytes before the first image."""
    _, images = scale.planted("none", 1)
    _, work = look(images, scale.plan_of(4_000), images.listing())
    assert len(work) == 3_999 and all(isinstance(own.rows, range) for own in work)


def test_shards_are_found_in_their_order_in_a_store_of_names():
    _, images = scale.planted("order", 2_050)
    files = shard_files(images.folder)
    assert [p.name for p in (files[0], files[1_999], files[-1])] == [
        f"train-{i:07d}.parquet" for i in (0, 1_999, 2_049)
    ]
    assert [p.name for p in image_folders(images.folder)] == ["images", "00000", "00001", "00002"]


BAD = replace(scale.WEATHERS["everything at once"], spoilt=frozenset({5, 234}))


@pytest.mark.parametrize("weather", [Weather(), BAD])
def test_a_run_stopped_half_way_makes_every_shard_once(weather):
    rows = list(scale.cluster(400, 60, weather))
    spoilt = len(weather.spoilt)
    assert {name: rows[-1][name] for name in ("made once", "lost", "doubled")} == {
        "made once": 400 - spoilt,
        "lost": spoilt,
        "doubled": 0,
    }
    assert [row["start: reads"] for row in rows[:2]] == [0, 0]
    text = page([{"part": "cluster", "case": "x", **row} for row in rows])
    assert "shard 234: ValueError: spoilt" in text or not spoilt
