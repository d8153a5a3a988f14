"""What recipes ask of measures, and what measures say of themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from figment import measures
from figment.errors import FigmentError
from figment.measures import Metric
from trials import colours, recipe

OF_CLIP = ["top1/zero_shot", "top1/synthetic", "gain/synthetic"]
OF_EVIDENCE = [
    *("top1/bias_removed", "top1/placebo", "top1/images_only", "gain/mean_over_classes"),
    *("gain/over_bias_removed", "gain/over_placebo", "content", "worth"),
]
OF_NETWORK = [name for name in OF_EVIDENCE if "bias_removed" not in name and "mean_over" not in name]
OF_FEW = [
    "top1/placebo",
    "top1/real_repeated",
    "top1/images_only",
    "gain/mean_over_classes",
    "gain/over_placebo",
    "gain/over_real_repeated",
    "content",
]
OF_CURVE = ["exchange_rate", "top1/real_1", "top1/real_2"]
OF_LEAKS = ["leaks/test", "leaks/train", "leaks/generated"]
OF_SHOTS = ["top1/real_only", "gain/real_only", "gain/over_real_only"]
FIDELITY = {"exchange_rate": False, "real_all": False, "fidelity": True}


@pytest.mark.parametrize(
    "own, expected",
    [
        (recipe(), [*OF_CLIP, *OF_EVIDENCE, *OF_CURVE, *OF_LEAKS, "top1/real_all", "gain/real_all"]),
        (recipe({}), []),
        (recipe({"test": "x"}), [*OF_CLIP, *OF_EVIDENCE, "leaks/test", "leaks/generated"]),
        (recipe({"test": "x"}, leaks=False), [*OF_CLIP, *OF_EVIDENCE]),
        (recipe({}, fidelity=True), ["recognisability"]),
        (recipe({"train": "x"}, **FIDELITY), ["frechet", "recognisability"]),
        (
            recipe(exchange_rate=False, real_all=False, measures=["frechet", "coverage"]),
            [*OF_CLIP, "coverage", "density", "precision", "recall", *OF_EVIDENCE, "frechet", *OF_LEAKS],
        ),
        (
            recipe(few_shot={"shots": 1}, exchange_rate=False, real_all=False, baselines=["coop"]),
            [
                *OF_CLIP,
                *OF_SHOTS,
                "top1/coop",
                "gain/coop",
                "top1/bias_removed",
                *OF_FEW[:4],
                "gain/over_bias_removed",
                *OF_FEW[4:],
                "worth",
                *OF_LEAKS,
                "leaks/source",
            ],
        ),
        (recipe(network=True), ["top1/synthetic", *OF_NETWORK, *OF_CURVE, *OF_LEAKS, "top1/real_all"]),
        (
            recipe(few_shot={"shots": 1}, network=True, exchange_rate=False, real_all=False),
            ["top1/synthetic", "top1/real_only", "gain/over_real_only", *OF_FEW, "worth", *OF_LEAKS, "leaks/source"],
        ),
    ],
)
def test_the_metrics_of_a_recipe(own, expected):
    assert measures.metrics(own) == expected
    assert set(expected) <= set(measures.possible(own))


@pytest.mark.parametrize(
    "own, splits",
    [
        (recipe(), {"train", "test"}),
        (recipe(exchange_rate=False, real_all=False), {"test"}),
        (recipe({"train": "x", "val": "y"}), {"val"}),  # without test images nothing is measured
        (recipe({"train": "x"}, measures=["frechet"]), {"train"}),
    ],
)
def test_the_splits_that_are_read(own, splits):
    assert measures.splits_needed(own) == splits


@pytest.mark.parametrize(
    "metric",
    [
        *(
            "frechet",
            "frechet_raw",
            "recognisability",
            "coverage",
            "density",
            "precision",
            "top1/real_all",
            "gain/real_all",
            "top1/real_2",
        ),
        *("fid", "kid", "inception_score", "cmmd", "mind", "vendi", "diversity", "memorisation", "precision_recall_f1"),
    ],
)
def test_settings_for_a_metric_measure_it_and_no_other_that_costs(metric):
    wanted = {"top1/synthetic", metric}
    own = recipe().changed(measures.settings_for(wanted))
    names = {m.name for m in measures.asked(own)} - {"leaks"}
    assert metric in measures.metrics(own) and len(names) == 2 and "accuracy" in names


def test_settings_for_a_baseline():
    changes = measures.settings_for({"gain/coop", "top1/linear_probe"})
    assert changes["evaluate.baselines"] == ["coop", "linear_probe"]
    assert (changes["evaluate.real_all"], changes["evaluate.exchange_rate"]) == (False, False)
    assert changes["evaluate.measures"] == []


def test_how_metrics_are_shown():
    assert measures.known("frechet").lower_is_better and not measures.known("frechet").is_share
    curve = measures.known("top1/real_16")
    assert (curve.name, curve.title, curve.unit) == ("top1/real_16", "top-1, 16 real images a class", "share")
    assert measures.known("top1/real_all").shown == "arm" and measures.known("gain/coop").unit == "points"
    assert measures.known("of a plug-in") == Metric("of a plug-in", "of a plug-in", "plain")
    assert measures.known("top1/old").unit == "share"


def test_no_two_measures_share_a_metric():
    names = Counter(m.name for measure in measures.found().values() for m in measure.metrics)
    assert set(names.values()) == {1} and len(names) > 15
    assert all(name == measure.name and measure.explains for name, measure in measures.found().items())


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(FigmentError, match="no measure 'frechett'. Did you mean 'frechet'.*recognisability"):
        measures.check(recipe(measures=["frechett"]), {})
    with pytest.raises(FigmentError, match="no measure 'accuracy'"):  # which has no need to be asked for
        measures.metrics(recipe(measures=["accuracy"]))


@pytest.mark.parametrize(
    "own, message",
    [
        (recipe({"test": "x"}, measures=["frechet"]), "frechet needs real training images: set task.real.train"),
        (recipe(network=True, measures=["recognisability"]), "recognisability needs a classifier that knows"),
        (recipe(few_shot={"shots": 1}, network=True, baselines=["coop"]), "baselines needs a classifier that knows"),
        (
            recipe(measures=["frechet"]),
            "frechet needs 4 real training images.*has 3.*take frechet",
        ),
        (recipe(fidelity=True), "frechet needs 4 real training images.*has 3"),
        (recipe(measures=["coverage"]), "coverage needs 20 real training images.*has 3.*take coverage"),
        (
            recipe(measures=["diversity"]),
            "diversity needs 3 real training images or more of each class.*has 1 of 'red'",
        ),
        (recipe(measures=["fid"]), "FID.*its weights are not here.*curl -L -o .*frechet, cmmd"),
        (recipe(measures=["inception_score"]), "FID.*its weights are not here.*curl -L -o .*frechet, cmmd"),
        (recipe(shots=[4]), "evaluate.shots starts at 4.*smallest class.*has 1"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_start(own, message, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where no weights are
    with pytest.raises(FigmentError, match=message):
        measures.check(own, {"train": colours(1, 0)})
    measures.check(recipe(fidelity=True), {"train": colours(2, 0)})


def test_a_class_that_is_generated_and_has_no_real_images_is_named_at_the_start():
    train = colours(9, 0)
    two = train.take([i for i, label in enumerate(train.labels) if label != 1])
    for name in ("diversity", "precision_recall_f1"):
        with pytest.raises(FigmentError, match=f"{name} needs .* of each class, and task.real.train has 0 of 'green'"):
            measures.check(recipe(measures=[name], exchange_rate=False), {"train": two})


def test_the_documentation_is_that_of_the_files():
    page = Path(__file__).parents[2] / "docs" / "measures.md"
    assert page.read_text(encoding="utf-8") == measures.documentation(), "python -m figment.measures > docs/measures.md"
