"""What was rejected by hand, in whole runs: training, growing, taking back, repairing, arms that share the images."""

from __future__ import annotations

from pathlib import Path

import pytest

import chromium
from counting import counting
from figment import records
from figment.context import Context
from figment.images_in import by_hand
from figment.images_in.by_hand import Change
from figment.images_in.shards import open_run_images
from figment.layout import Run, shard_files
from figment.recipe import Recipe
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from figment.verify import verify
from looked_at import served
from made import of_two_classes
from made import recipe as small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(clip, photos, tmp_path_factory) -> Recipe:
    two = of_two_classes(photos, tmp_path_factory.mktemp("two"))
    return small(clip, two, evaluate={"real_all": False, "exchange_rate": False, "evidence": False})


def say(folder, now, was="", at=0) -> None:
    """One word on one image of a run."""
    images = open_run_images(Run(folder))
    by_hand.say(Run(folder), [Change(images.ids[at], images.digests[at], was, now)])


def reject_the_first(folder: Path, profile: Path) -> None:
    """As a person does, in a browser where there is one."""
    with served(folder) as server:
        if chromium.PROGRAM is None:
            server.say((0, "", "rejected"))
            return
        with chromium.chromium(profile) as browser:
            page = browser.page(server.server.url)
            page.until("document.body?.dataset.ready")
            page.press("r")
            page.until("document.querySelector('#saved').textContent === 'saved'")


def kept(folder) -> dict:
    return dict(records.finished(Run(folder).scores)["counts"])


def test_a_run_trains_without_it_grows_with_it_and_takes_it_back(recipe, tmp_path):
    run = tmp_path / "run"
    before = run_recipe(recipe, run)
    assert kept(run) == {"seen": 6, "kept": 6}
    reject_the_first(run, tmp_path / "profile")
    assert any(
        "of 6 kept images; since then verdicts have changed, and 5 are kept" in c for c in report_of(run).caveats
    )
    with counting() as spent:
        after = run_recipe(recipe, run)
    assert not spent.made and not spent.encoded and spent.trained
    assert kept(run) == {"seen": 6, "kept": 5} and records.finished(Run(run).model)["counts"]["kept"] == 5
    assert after.results["top1/synthetic"].fingerprint != before.results["top1/synthetic"].fingerprint
    page = report_of(run)
    assert page.counts.kept == 5 and any("Images rejected by hand: 1." in caveat for caveat in page.caveats)
    assert not any("since then" in caveat for caveat in page.caveats)

    grown = recipe.changed({"generate.images_per_class": 5})
    run_recipe(grown, run)
    assert kept(run) == {"seen": 10, "kept": 9} and verify(run).ok
    with counting() as spent:
        run_recipe(recipe, run)
        assert kept(run)["kept"] == 5
        say(run, "", was="rejected")
        back = run_recipe(recipe, run)
    assert not spent.made and back.results == before.results and kept(run)["kept"] == 6


def test_repair_makes_images_again_and_the_words_hold(recipe, tmp_path):
    run = tmp_path / "run"
    make_images(recipe, run)
    say(run, "rejected")
    say(run, "accepted", at=1)
    written = by_hand.place(Run(run)).read_bytes()
    shard_files(run / "images")[0].unlink()
    assert repair(run) and verify(run).ok
    assert by_hand.place(Run(run)).read_bytes() == written
    selection = Context(recipe, Run(run)).selection
    assert selection.keep.tolist() == [False] + [True] * 5 and selection.counts() == {"rejected by hand": 1}
    assert [step.filter for step in selection.steps] == ["blank", "hand"]


def test_arms_that_use_the_same_images_share_the_words(recipe, tmp_path):
    make_images(recipe, tmp_path / "run")
    arm = Run(tmp_path / "run" / "arms" / "00-a", tmp_path / "run", tmp_path / "run")
    say(tmp_path / "run", "rejected")
    assert Context(recipe, arm).selection.counts() == {"rejected by hand": 1}
    assert not (arm.folder / "hand").exists()
