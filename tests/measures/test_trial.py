"""The numbers of measures against the functions they are made of, with learners that need no encoder."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

import folders
from figment import measures
from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy, correctness, paired_difference
from figment.evaluate.coverage import coverage
from figment.evaluate.exchange_rate import Curve, exchange_rate
from figment.evaluate.fidelity import frechet_distance
from figment.evaluate.inception_score import inception_scores
from figment.evaluate.kind import variance_between
from figment.evaluate.mmd import kid
from figment.evaluate.placebo import resample
from figment.images_in import ShardImages, open_shards
from figment.images_in.leaks import Leaks
from figment.learners.clip_head.discriminant import discriminant
from figment.learners.network.settings import NetworkSettings
from figment.learners.pretrain.settings import StableRepSettings
from figment.measures.evidence import numbers
from figment.measures.trial import Trial
from figment.report.answers import conclusion_of
from figment.types import Learner, Sample, Training
from trials import ArrayImages, Blind, Colours, Means, colours, mean_colours, recipe

TEST, TRAIN, KEPT, SHOTS = colours(30, 1), colours(8, 2), colours(12, 3, noise=150), colours(2, 4)


def trial(learner: Means, own=None, remember=None, **more) -> Trial:
    own = recipe(few_shot={"shots": 2}, shots=[1, 4, 9], draws=3) if own is None else own
    shots = SHOTS if own.few_shot else None
    models = [learner.learn(KEPT, shots, seed) for seed in own.training_seeds]
    hook = {} if remember is None else {"remember": remember}
    given = {
        "train": TRAIN,
        "test": TEST,
        "facts": models[0].facts,
        "leaks": Leaks(),
        "features": lambda name: Colours(),
        **more,
    }
    return Trial(own, learner, lambda: models, KEPT, KEPT, shots=shots, **given, **hook)  # type: ignore[arg-type, return-value]


def network(**evaluate):
    return recipe(network=True, **{"shots": [1, 4], "draws": 2, **evaluate})


def test_the_numbers_are_those_of_the_functions():
    learner = Means()
    own = trial(learner)
    measured = measures.take(own)
    results = {r.metric: r for r in measured.results}
    assert {*results, "top1/real_9"} == set(measures.metrics(own.recipe))
    names, seeds = own.class_names, (0, 1, 2)
    synthetic = [learner.learn(KEPT, SHOTS, s).logits(TEST) for s in seeds]
    alone = [learner.learn(None, SHOTS, s).logits(TEST) for s in seeds]
    expected = accuracy(synthetic, TEST.labels, names, "top1/synthetic", seeds)
    got = results["top1/synthetic"]
    assert (got.value, got.ci, got.per_class, got.seeds) == (
        expected.value,
        expected.ci,
        expected.per_class,
        expected.seeds,
    )
    told = {"seen": 42, "images": 36, "learner": "means-1"}  # what the model says of itself, and what scores compare by
    assert got.details == {**expected.details, **told}
    right = [correctness(one, TEST.labels) for one in (alone, synthetic)]
    assert results["gain/over_real_only"] == paired_difference(*right, "gain/over_real_only", seeds)
    assert results["top1/zero_shot"].seeds == () and results["top1/zero_shot"].n == 90
    assert measured.predictions["top1/synthetic"].shape == (3, 90)
    assert (measured.predictions["top1/real_only"] == np.argmax(alone, -1)).all()


@pytest.mark.parametrize("k", [1, 2])
def test_the_right_class_among_k_answers_is_that_of_scikit_learn(k):
    kept = {}

    def remember(key, make):
        return kept.setdefault(json.dumps(key), make())

    own, learner = trial(Means(), remember=remember), Means()
    found = own.among_best(k)
    for seed, one in zip(own.seeds, found, strict=True):
        logits = learner.learn(KEPT, SHOTS, seed).logits(TEST)
        assert np.mean(one == TEST.labels) == top_k_accuracy_score(TEST.labels, logits, k=k)
    assert (own.among_best(1) == own.of_models).all()
    assert len(kept) == 3 - (k == 1)  # numbers of answers are remembered apart


@pytest.mark.parametrize("k", [1, 2, 3])
def test_of_equal_logits_the_first_classes_are_the_answers(k):
    """A model that says the same of every class knows none, and is not right about all."""

    class Level(Means):
        def learn(self, synthetic, real, seed):
            model = super().learn(synthetic, real, seed)
            model.logits = lambda images: np.zeros((len(images), 3), np.float32)
            return model

    own = trial(Level())
    assert np.mean(own.among_best(k) == TEST.labels) == np.mean(TEST.labels < k)


def test_top5_is_refused_where_everything_would_be_right():
    own = recipe(measures=["top5"])
    with pytest.raises(FigmentError, match="the task has 3 classes, so every answer would be right"):
        measures.check(own, {})


def test_the_fast_score_is_a_linear_classifier_on_the_kept_images_alone():
    own = trial(Means(), recipe(few_shot={"shots": 2}, exchange_rate=False, real_all=False, measures=["fast_cas"]))
    (result,) = (r for r in measures.take(own).results if r.metric == "top1/frozen")
    head = discriminant(mean_colours(KEPT), KEPT.labels, 3)
    assert result.value == np.mean(head.predict(mean_colours(TEST)).argmax(1) == TEST.labels)
    assert result.details["images"] == 36 and result.seeds == ()


def test_the_exchange_rate_is_that_of_a_plain_loop():
    """Without words on either side: the recipe's own classifier plays no part in it."""
    results = {r.metric: r for r in measures.take(trial(Means())).results}
    right = lambda images: (
        discriminant(mean_colours(images), images.labels, 3).predict(mean_colours(TEST)).argmax(1) == TEST.labels
    )
    correct = np.zeros((3, 2, 90), bool)
    for draw in range(3):
        rng = np.random.default_rng([0, draw])
        orders = [rng.permutation(np.flatnonzero(TRAIN.labels == c)) for c in range(3)]
        for i, k in enumerate((1, 4)):
            chosen = np.sort(np.concatenate([order[:k] for order in orders]))
            correct[draw, i] = right(TRAIN.take(chosen))
    sets = [KEPT.take(resample(KEPT.labels, np.random.default_rng([0, 4, j]))) for j in range(20)]
    note = "Left out 9 shots: the smallest class has 8 real images."
    again = np.stack([right(drawn) for drawn in sets])
    expected = exchange_rate(Curve((1, 4), correct, None, note), right(KEPT), seed=0, resampled=again)
    got = results["exchange_rate"]
    assert (got.value, got.ci) == (expected.value, expected.ci)
    assert {**expected.details, "learner": "images only"}.items() <= got.details.items()
    assert results["top1/real_4"].value == correct[:, 1].mean() and "top1/real_9" not in results


def test_a_learner_without_an_untrained_classifier_has_no_gain_over_one():
    results = {r.metric: r for r in measures.take(trial(Blind(), network())).results}
    of_evidence = {"top1/placebo", "top1/images_only", "gain/over_placebo", "content", "worth"}
    of_curve = {"exchange_rate", "top1/real_1", "top1/real_4"}
    of_leaks = {"leaks/test", "leaks/train", "leaks/generated"}
    assert set(results) == {"top1/synthetic", "top1/real_all"} | of_curve | of_evidence | of_leaks
    assert set(results["worth"].details["differences"]) == {"chance", "top1/placebo"}
    rate = results["exchange_rate"]
    assert rate.details["zero_shot"] is None and "untuned" not in rate.details["text"]
    json.dumps(rate.details, allow_nan=False)
    assert not rate.details["with_real"]
    of_few = measures.take(trial(Blind(), network(few_shot={"shots": 2}, real_all=False))).results
    few = {r.metric: r for r in of_few}
    assert few["exchange_rate"].details[
        "with_real"
    ]  # what it is worth is the generated images' and the shots' together
    assert {"top1/real_only", "gain/over_real_only"} <= set(few) and not {"gain/real_only", "gain/synthetic"} & set(few)


class Pixels(Learner):
    """A backbone by count: the more different images it saw, the more test images it gets right; a caption is worth a third."""

    name, fingerprint = "pixels", "pixels-1"

    def learn(self, synthetic, real, seed):
        assert synthetic is None or real is SHOTS or real is None  # what judges it stays as it is
        captions = 4 / 3 if isinstance(synthetic, Captioned) else 1.0
        seen = real if synthetic is None else synthetic
        share = 0.2 + 0.1 * np.log2(captions * len(set(seen.digests)) / 3)
        right = np.random.default_rng(seed).permutation(len(TEST)) < round(share * len(TEST))
        answers = np.where(right, TEST.labels, (TEST.labels + 1) % 3)
        return SimpleNamespace(logits=lambda images: np.eye(3, dtype=np.float32)[answers], facts={}, history=[])

    def untrained(self):
        return self.learn(TRAIN.take([0, 8, 16]), None, 0)


class Captioned(ArrayImages):
    """Generated images."""

    def take(self, indices):
        return Captioned([self.arrays[i] for i in indices], self.labels[np.asarray(indices, int)])


@pytest.mark.parametrize("few_shot", [None, {"shots": 2}])
@pytest.mark.parametrize(("kept", "worth", "placebo"), [(1, 4 / 3, 1), (2, 8 / 3, 2), (4, 16 / 3, 4)])
def test_the_exchange_rate_of_a_backbone_is_that_of_pixels(few_shot, kept, worth, placebo):
    """Generated images stand in the place of real ones, and the placebo, whose captions are spread, is worth its pixels."""
    own = recipe(few_shot=few_shot, shots=[1, 2, 4, 8], draws=2)
    own = own.model_copy(update={"train": StableRepSettings(steps=5)})
    made = colours(kept, 3)
    made = Captioned(made.arrays, made.labels)
    learner = Pixels()
    shots = SHOTS if few_shot else None
    models = [learner.learn(made, shots, seed) for seed in own.training_seeds]
    given = {"train": TRAIN, "test": TEST, "leaks": Leaks(), "features": lambda name: Colours()}
    own_trial = Trial(own, learner, lambda: models, made, made, shots=shots, **given)
    found = {r.metric: r for r in measures.take(own_trial).results}
    rate = found["exchange_rate"]
    assert rate.value == pytest.approx(worth, rel=0.05) and rate.ci[0] <= worth <= rate.ci[1]
    assert rate.details["pixels"] and not rate.details["with_real"]
    number = float(re.search(r"about ([0-9.]+)", rate.details["placebo"])[1])
    assert number == pytest.approx(placebo, rel=0.05)
    assert found["exchange_rate/placebo"].value == pytest.approx(placebo, rel=0.05)
    assert set(found) == set(measures.metrics(own))
    said = conclusion_of(found, 3).exchange
    assert said.startswith("To pre-train on, in as many steps, the generated images are worth about")
    assert "With captions spread over them they are worth about" in said


def test_what_other_real_images_do_is_in_the_intervals():
    """Of each rival that learnt from them, as a plain loop has it."""
    learner, others = Means(), [colours(2, 100 + j, noise=150) for j in range(5)]
    own = recipe(few_shot={"shots": 2}, shots=[1], draws=2, shot_draws=5)
    found = {r.metric: r for r in measures.take(trial(learner, own, other_shots=others.__getitem__)).results}
    right = lambda *training: (learner.learn(*training).logits(TEST).argmax(1) == TEST.labels).astype(float)
    of_alone, of_repeated = [], []
    for j, shots in enumerate(others):
        with_made = right(KEPT.take(resample(KEPT.labels, np.random.default_rng([0, 2, j]))), shots, j)
        repeated = shots.take(np.resize(np.arange(len(shots)), len(KEPT)))
        of_alone.append(with_made - right(None, shots, j))
        of_repeated.append(with_made - right(repeated, shots, j))
    for rival, sets in (("real_only", of_alone), ("real_repeated", of_repeated)):
        spread = found["worth"].details["differences"][f"top1/{rival}"]["set_se"]
        assert spread == pytest.approx(np.sqrt(variance_between(np.stack(sets)))) and spread > 0
    assert found["worth"].details["claim"] == "other sets and other real images"


# ---- what is remembered ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("usual_trainings")
def test_what_two_runs_have_in_common_is_trained_once():
    memory: dict[str, np.ndarray] = {}

    def remember(key, make):
        name = json.dumps(key, sort_keys=True)
        if name not in memory:
            memory[name] = make()
        return memory[name]

    first, second = Means(), Means()
    one = measures.take(trial(first, remember=remember))
    # synthetic, real alone, real repeated, the ceiling; placebos, sets drawn again and their placebos
    assert first.trained == 3 + 3 + 3 + 3 + 6 + 20 + 20
    two = measures.take(trial(second, remember=remember))
    assert second.trained == 3 and two.results == one.results


def test_the_key_holds_all_that_a_training_depends_on_and_nothing_else():
    keys: list[str] = []

    def remember(key, make):
        keys.append(json.dumps(key, sort_keys=True))
        return make()

    def key(learner=None, own=None, training=None, **more) -> str:
        trial(learner or Means(), own, remember, **more).predictions("x", [training or Training(real=SHOTS, seed=1)])
        return keys[-1]

    first, other = key(), Means()
    other.fingerprint = "means-2"
    relabelled = colours(2, 4)
    relabelled.labels[0] = 2
    assert key(own=recipe(measures=["frechet"])) == first and key(train=colours(3, 9)) == first
    others = [
        key(learner=other),
        key(test=colours(5, 5)),
        key(training=Training(real=SHOTS, seed=2)),
        key(training=Training(synthetic=SHOTS, seed=1)),
        key(training=Training(real=relabelled, seed=1)),
        key(training=Training(real=KEPT, seed=1)),
    ]
    assert len({first, *others}) == 7


def test_logits_that_are_not_finite_are_refused():
    class Broken(Means):
        def learn(self, synthetic, real, seed):
            model = super().learn(synthetic, real, seed)
            model.means = model.means * np.nan
            return model

    with pytest.raises(FigmentError, match="NaN or infinite"):
        measures.take(trial(Broken()))


@pytest.mark.usefixtures("usual_trainings")
def test_long_trainings_are_not_repeated_for_sets_drawn_again(monkeypatch):
    asked = lambda **evaluate: numbers(recipe(**evaluate), len(KEPT))
    assert asked() == (6, 20) and asked(placebos=3, resamples=5) == (3, 5)
    monkeypatch.setattr("figment.measures.evidence.LARGE_FROM", 36 * 3 * 30)  # images, classes, epochs
    assert asked() == (6, 0) and asked(resamples=4) == (6, 4)
    own = network(few_shot=None).model_copy(update={"train": NetworkSettings(architecture="small_cnn")})
    assert numbers(own, len(KEPT)) == (2, 0)


def test_coverage_is_of_the_kept_images_and_all_real_training_images():
    own = recipe(measures=["coverage"], exchange_rate=False, real_all=False, evidence=False, leaks=False)
    results = {r.metric: r for r in measures.take(trial(Means(), own)).results}
    expected = coverage(Colours()(TRAIN), Colours()(KEPT), own.encoder_name, own.seed)
    for one in expected:
        got = results[one.metric]
        assert (got.value, got.ci, got.n) == (one.value, one.ci, one.n) and one.details.items() <= got.details.items()
    assert (expected[0].n, expected[0].details["n_real"], expected[0].details["n_generated"]) == (24, 24, 36)
    few = {r.metric for r in measures.take(trial(Means(), own, train=colours(6, 2))).results}
    assert "coverage" not in few and "top1/synthetic" in few


OF_SETS = [
    "coverage",
    "frechet",
    "frechet_raw",
    "cmmd",
    "mind",
    "vendi",
    "diversity",
    "memorisation",
    "precision_recall_f1",
]
OF_INCEPTION = ["fid", "kid", "inception_score"]


class Seen(Colours):
    """Colours as if by another encoder: of 2,060 numbers, of which the first 2,048 are what FID is of."""

    encoder = SimpleNamespace(
        name="seen", fingerprint="abc", resize="4 nearest", dtype="torch.float32", logit_scale=1.0
    )

    def __call__(self, images):
        turned = np.random.default_rng(0).normal(size=(3, 2060))
        return (super().__call__(images) @ turned / 100).astype(np.float32)


def asking(*names):
    return recipe(measures=list(names), exchange_rate=False, real_all=False, evidence=False, leaks=False)


@pytest.mark.parametrize("name", OF_SETS + OF_INCEPTION)
def test_what_compares_two_sets_says_what_it_depends_on_and_has_floors(name):
    asked = []
    own = trial(Means(), asking(name), features=lambda encoder, raw=False: asked.append((encoder, raw)) or Seen())
    found = [r for r in measures.take(own).results if not r.metric.startswith(("top1", "gain"))]
    assert {r.metric for r in found} == {m.name for m in measures.found()[name].metrics}
    assert set(asked) == {("inception" if name in OF_INCEPTION else None, name == "frechet_raw")}
    for result in found:
        assert result.ci[0] <= result.value <= result.ci[1] and np.isfinite(result.value)
        told = {"encoder": "seen", "weights": "abc", "resize": "4 nearest", "dtype": "float32"}
        told["features"] = "unit length"
        assert told.items() <= result.details.items() and result.details["implementation"].startswith("figment ")
        assert {"floor_real", "floor_generated"} <= result.details.keys()
        json.dumps(result.details, allow_nan=False)
        assert measures.known(result.metric).what.format_map(result.details)


def test_what_compares_may_have_an_encoder_of_its_own():
    named = {"timm": "test_efficientnet", "weights": "w.pth"}
    own = asking("frechet", "frechet_raw", "fid").changed({"evaluate.encoder": named})
    asked: list = []
    results = measures.take(
        trial(Means(), own, features=lambda encoder, raw=False: asked.append((encoder, raw)) or Seen())
    )
    other = own.evaluate.encoder
    assert [one for one in asked if one[0]] == [("inception", False), (other, False), (other, True)]
    assert {r.details["extractor"] for r in results.results if r.metric.startswith("frechet")} == {
        "timm/test_efficientnet"
    }


def test_fid_kid_and_the_inception_score_are_each_of_their_part_of_the_same_features():
    results = {
        r.metric: r for r in measures.take(trial(Means(), asking(*OF_INCEPTION), features=lambda _: Seen())).results
    }
    real, made = Seen()(TRAIN), Seen()(KEPT)
    assert results["fid"].value == pytest.approx(frechet_distance(made[:, :2048], real[:, :2048]), rel=1e-9)
    assert results["kid"].value == kid(real[:, :2048], made[:, :2048], "x").value
    assert results["inception_score"].value == inception_scores(made[:, 2048:]).mean()


@pytest.mark.parametrize(("name", "few"), [("diversity", 1), ("precision_recall_f1", 6), ("frechet", 1), ("vendi", 1)])
def test_a_measure_with_too_few_kept_images_is_left_out_and_that_is_said(name, few, caplog):
    own = trial(Means(), asking(name))
    own.kept = KEPT.take(np.concatenate([np.flatnonzero(KEPT.labels == c)[:few] for c in range(3)]))
    assert not [r for r in measures.take(own).results if r.metric == name]
    assert f"{name} needs" in caplog.text and "left out" in caplog.text


def test_features_with_nan_are_refused_by_name():
    class Broken(Colours):
        def __call__(self, images):
            return np.where(np.arange(len(images))[:, None] == 1, np.nan, super().__call__(images))

    with pytest.raises(FigmentError, match="Fréchet distance: the features of 1 of .* images are NaN.*encoder"):
        measures.take(trial(Means(), asking("frechet"), features=lambda _: Broken()))


@pytest.mark.parametrize("reads", [False, True])
def test_what_a_learner_reads_is_in_the_key_of_what_it_predicts(reads: bool, tmp_path):
    def captioned(name: str, groups: list[int]) -> ShardImages:
        made = [
            Sample(f"p/{i}", "p", f"text {g}", i % 3, i, f"g{g}", np.full((4, 4, 3), 20 * i, np.uint8))
            for i, g in enumerate(groups)
        ]
        folders.write_images(tmp_path / name, [made], ["a", "b", "c"])
        return open_shards(tmp_path / name)[0]

    keys: list = []
    learner = Means()
    learner.reads_captions = reads
    own = trial(learner, remember=lambda key, make: keys.append(key) or make())
    for images in (captioned("halves", [0, 0, 0, 1, 1, 1]), captioned("in turns", [0, 1, 0, 1, 0, 1])):
        own.predictions("", [Training(images, None, 0)])
    assert (keys[0] != keys[1]) == reads
