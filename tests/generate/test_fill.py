"""The generation stage with small generators: interruption, failures, retries, stale settings, real images to start from."""

from __future__ import annotations

import pickle
from math import lcm

import markdown_it
import numpy as np
import pytest
import yaml
from PIL import Image

import folders
from damage import flip, image_at
from figment import layout, records
from figment.errors import FigmentError
from figment.generate.card import dataset_card
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.fill import NOT_FINITE, Work, fill, generate_images, shots_fingerprint
from figment.generate.mend import Mend
from figment.generate.plan import Plan, ids_by_class
from figment.generate.procedural import ProceduralGenerator
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.images_in import open_images
from figment.recipe import validate
from figment.records import Record
from figment.run import make_images
from figment.shards import ShardFolder
from figment.types import Prompt
from figment.verify import verify
from folders import rows, shard_files

NAMES = ["ankle boot", "bag"]
PROMPTS = [
    Prompt(f"{label:03d}-x/{i:05d}", f"text {label} {i}", label, f"g{label}{i}") for label in (0, 1) for i in range(3)
]


class Noise:
    """Pixels from the seed; fails where it is told to."""

    fingerprint = "noise"
    batch_size = 4

    def __init__(self, broken: tuple[str, ...] = (), nan: tuple[str, ...] = (), stop_after: int = 10**9):
        self.broken, self.nan, self.stop_after, self.calls = broken, nan, stop_after, 0

    def __call__(self, prompts, seeds, init=None):
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        for prompt in prompts:
            if prompt in self.broken:
                raise RuntimeError(f"cannot draw {prompt}")
        images = [np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8) for seed in seeds]
        return [None if p in self.nan else image for p, image in zip(prompts, images, strict=True)]


def make(folder, generator, n: int = 10, **changes):
    return generate_images(PROMPTS, generator, folder, NAMES, images_per_class=n, shard_size=6, **changes)


def test_the_plan_is_balanced_at_every_point_and_more_images_come_at_the_end():
    short, long = list(Plan(PROMPTS, 7, seed=0)), list(Plan(PROMPTS, 9, seed=0))
    assert long[: len(short)] == short
    assert [s.label for s in short] == [0, 1] * 7
    assert [s.id for s in short if s.label == 0][:4] == [
        "000-x/00000/0",
        "000-x/00001/0",
        "000-x/00002/0",
        "000-x/00000/1",
    ]
    assert len({s.seed for s in long}) == len({s.id for s in long}) == 18
    assert {s.seed for s in Plan(PROMPTS, 7, seed=1)}.isdisjoint(s.seed for s in short)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    whole = make(tmp_path / "whole", Noise())
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "cut", Noise(stop_after=stop))
        assert not (tmp_path / "cut" / "stage.json").exists()
    cut = make(tmp_path / "cut", Noise())
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert cut.ids == whole.ids
    nothing_left = Noise()
    make(tmp_path / "cut", nothing_left)
    assert nothing_left.calls == 0


def test_one_that_fails_is_a_row_with_a_reason_takes_no_other_with_it_and_is_tried_again(tmp_path):
    good = make(tmp_path / "good", Noise())
    made = make(tmp_path / "run", Noise(broken=("text 0 1",), nan=("text 1 2",)))
    failed = {r["prompt"]: r for r in rows(tmp_path / "run") if r["error"]}
    assert failed["text 0 1"]["error"] == "RuntimeError: cannot draw text 0 1"
    assert failed["text 1 2"]["error"] == NOT_FINITE
    assert all(r["image"] is None and r["digest"] == "" for r in failed.values())
    assert set(made.ids) == {r["id"] for r in rows(tmp_path / "good") if r["prompt"] not in failed}
    assert make(tmp_path / "run", Noise()).ids == good.ids
    assert rows(tmp_path / "run") == rows(tmp_path / "good")


def test_when_none_succeeds_the_run_stops_and_says_why(tmp_path):
    with pytest.raises(FigmentError, match="None of the 6 images of shard 0 could be made: the model gave NaN"):
        make(tmp_path, Noise(nan=tuple(p.text for p in PROMPTS)))
    assert not shard_files(tmp_path)


def test_memory_that_does_not_hold_one_image_ends_the_run_at_once(tmp_path):
    """Not a row with an error for each image, after each was tried."""

    class Full(Noise):
        def __call__(self, prompts, seeds, init=None):
            self.calls += 1
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\nand more")

    generator = Full()
    with pytest.raises(
        FigmentError, match="^Out of memory for a single image: CUDA out of memory.*20.00 GiB. What was"
    ):
        make(tmp_path, generator)
    assert generator.calls == 2 and not shard_files(tmp_path)  # a batch, and one of it alone


def test_a_generator_is_told_beforehand_what_a_shard_asks_for(tmp_path):
    class Reader(Noise):
        told: list = []

        def read_ahead(self, prompts, labels):
            self.told.append((list(prompts), list(labels), self.calls))

    make(tmp_path, Reader(), n=3)
    ((prompts, labels, calls),) = Reader.told
    assert len(prompts) == 6 and set(labels) == {0, 1} and calls == 0


def test_a_later_shard_in_which_every_image_failed_with_an_error_is_not_written(tmp_path):
    class Tired(Noise):
        def __call__(self, prompts, seeds, init=None):
            if self.calls >= 3:  # 6 images are two calls
                raise RuntimeError("no more")
            return super().__call__(prompts, seeds)

    with pytest.raises(
        FigmentError, match="None of the 6 images of shard 2 could be made: RuntimeError: no more.*again"
    ) as told:
        make(tmp_path, Tired())
    assert "\n" not in str(told.value)
    # The last one has two rows, too few to tell: they are written, and made again by the next run.
    assert [p.name[12:14] for p in shard_files(tmp_path)] == ["0.", "1.", "3."]
    assert not (tmp_path / "stage.json").exists()
    make(tmp_path, Noise())
    whole = tmp_path / "whole"
    make(whole, Noise())
    assert rows(tmp_path) == rows(whole)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("bfloat16", "set generate.dtype: float32"),
        ("float32", "Lower generate.guidance_scale"),
        (None, "Lower generate"),
    ],
)
def test_advice_on_nan_is_what_applies(tmp_path, dtype, advice):
    class Described(Noise):
        def describe(self):
            return {"dtype": dtype} if dtype else {}

    with pytest.raises(FigmentError, match=advice) as told:
        make(tmp_path, Described(nan=tuple(p.text for p in PROMPTS)))
    assert ("float32" in str(told.value)) == (dtype == "bfloat16")


def test_advice_on_nan_is_for_nan(tmp_path):
    with pytest.raises(FigmentError, match=r"cannot draw text 0 0\. Check generate\.model") as told:
        make(tmp_path, Noise(broken=tuple(p.text for p in PROMPTS)))
    assert "NaN" not in str(told.value)


def test_images_of_other_settings_are_never_reused(tmp_path):
    make(tmp_path, Noise())
    with pytest.raises(FigmentError, match="seed was 0 and is now 1"):
        make(tmp_path, Noise(), seed=1)


def test_the_datasets_library_opens_it(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    decoded = make(tmp_path / "images", Noise(broken=("text 0 1",)))
    opened = datasets.load_dataset(str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.features["label"].names == NAMES
    assert len(opened) == 20
    images = [row for row in opened if row["image"] is not None]
    assert [row["id"] for row in images] == decoded.ids
    np.testing.assert_array_equal(np.asarray(images[5]["image"]), decoded.load([5])[0])


def test_going_on_touches_no_finished_shard_and_makes_a_lost_one_again(tmp_path):
    make(tmp_path, Noise())
    whole = rows(tmp_path)
    layout.shard_path(tmp_path, 1).unlink()
    before = {p: p.stat().st_mtime_ns for p in shard_files(tmp_path)}
    again = Noise()
    make(tmp_path, again)
    assert rows(tmp_path) == whole
    assert again.calls == 2  # six images, four at a time
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("batch_size", [1, 5, 0])
def test_the_batch_changes_nothing(tmp_path, batch_size):
    other = Noise()
    other.batch_size = batch_size
    make(tmp_path / "one", other)
    make(tmp_path / "two", Noise())
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_a_last_shard_of_nothing_but_failures_harms_no_one(tmp_path):
    """19 and 20 stand alone in the last shard: that both fail does not mean that the generator is broken."""
    lost = {s.seed for s in list(Plan(PROMPTS, 10, 0))[18:]}

    class Unlucky(Noise):
        def __call__(self, prompts, seeds, init=None):
            images = super().__call__(prompts, seeds)
            return [None if seed in lost else image for seed, image in zip(seeds, images, strict=True)]

    assert len(make(tmp_path, Unlucky())) == 18
    assert [bool(r["error"]) for r in rows(tmp_path)] == [False] * 18 + [True] * 2
    assert len(make(tmp_path, Noise())) == 20


def test_a_generator_that_returns_too_few_images_fails_for_that_batch_alone(tmp_path):
    class Short(Noise):
        def __call__(self, prompts, seeds, init=None):
            images = super().__call__(prompts, seeds)
            return images if len(images) == 1 else images[:-1]

    make(tmp_path / "short", Short())
    make(tmp_path / "good", Noise())
    assert rows(tmp_path / "short") == rows(tmp_path / "good")


def test_another_generator_and_other_prompts_are_refused(tmp_path):
    make(tmp_path, Noise())
    other = Noise()
    other.fingerprint = "other"
    with pytest.raises(FigmentError, match="generator was 'noise' and is now 'other'"):
        make(tmp_path, other)
    with pytest.raises(FigmentError, match="prompts was"):
        generate_images(PROMPTS[:2], Noise(), tmp_path, NAMES, images_per_class=10, shard_size=6)


def test_the_dataset_card_of_hostile_names_still_opens(tmp_path):
    import datasets

    names = ["a: `b` # c", "---<script> \U0001f408"]
    generate_images(PROMPTS, Noise(), tmp_path / "images", names, images_per_class=2, shard_size=6)
    recipe = validate({"task": {"name": 'x: "y"\n--- \U0001f408', "class_names": names}}, "it")
    odd = "[MIT](https://example.org) <b>bold</b> *x*\n\n# More"  # a licence is what the model's own card says
    facts = {**records.finished(tmp_path / "images"), "generator": {"model": odd, "licence": odd, "sampler": odd}}
    card = dataset_card(recipe, facts)
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["pretty_name"] == 'Generated images: x: "y" --- \U0001f408'
    tokens = markdown_it.MarkdownIt("commonmark").parse(body)
    shown = [child for t in tokens for child in t.children or ()]
    assert {t.type for t in shown} <= {"text", "text_special", "code_inline", "softbreak"}
    assert not any(t.type == "html_block" for t in tokens) and sum(t.type == "heading_open" for t in tokens) == 1
    text = "".join(t.content for t in shown)
    assert text.count(" ".join(odd.split())) == 3 and ", ".join(names) in text
    (tmp_path / "images" / "README.md").write_text(card, encoding="utf-8")
    opened = datasets.load_dataset(str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.features["label"].names == names
    assert len(opened) == 4


def test_load_dataset_does_not_take_one_run_for_another(tmp_path):
    """``datasets`` caches a folder by its last name and its card, and the images of every run lie in ``images``."""
    import datasets

    for run, n in (("a", 3), ("b", 5)):
        recipe = {
            "task": {"class_names": NAMES},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": n},
        }
        make_images(validate(recipe, run), tmp_path / run)
    found = [
        datasets.load_dataset(str(tmp_path / run / "images"), split="train", cache_dir=tmp_path / "cache")
        for run in "ab"
    ]
    assert [len(f) for f in found] == [6, 10]


# ---- real images to start from -------------------------------------------------------------------------------------


class Tinted(Noise):
    """Half of it is the image it starts from, half noise from the seed."""

    fingerprint = "tinted"

    def size(self):
        return 8, 8

    def __call__(self, prompts, seeds, init=None):
        assert init.shape == (len(prompts), 8, 8, 3) and init.dtype == np.uint8
        return [
            image if image is None else image // 2 + own // 2
            for image, own in zip(super().__call__(prompts, seeds), init, strict=True)
        ]


TONES = {"bag": (30, 60), "ankle boot": (220, 250, 190)}  # grey levels of the shots: two bags, three boots


@pytest.fixture
def shots(tmp_path):
    """Class folders whose order is not that of the labels, of images of other sizes than the images."""
    for name, tones in TONES.items():
        for i, tone in enumerate(tones):
            path = tmp_path / "shots" / name.upper().replace(" ", "-") / f"{9 - i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20 + i, 30), (tone,) * 3).save(path)
    return open_images(tmp_path / "shots", NAMES).take([4, 0, 2, 3, 1])


@pytest.mark.parametrize(("prompts", "own"), [(3, 2), (4, 6), (5, 1), (2, 4), (1, 3), (6, 9)])
def test_prompts_and_shots_meet_evenly(prompts, own):
    asked = [Prompt(f"{c:03d}-x/{i}", f"{c} {i}", c, "g") for c in (1, 0) for i in range(prompts)]
    shots = {c: [f"{c}/{i}" for i in range(own)] for c in (0, 1)}
    plan = Plan(asked, 2 * prompts * own, 0, 7, shots)
    for label in (0, 1):
        mine = [s for s in plan if s.label == label]
        assert all(s.init.startswith(f"{label}/") and s.prompt.startswith(f"{label} ") for s in mine)
        pairs = [(s.prompt_id, s.init) for s in mine]
        assert len(set(pairs[: prompts * own])) == prompts * own  # all of them before any again
        for n in range(1, len(mine) + 1):
            counts = [sum(s.init == one for s in mine[:n]) for one in shots[label]]
            assert max(counts) - min(counts) <= 1
        together = lcm(prompts, own)
        assert [s.init for s in mine[:together]] == (shots[label] * prompts)[:together]
    assert list(Plan(asked, 3, 0, 7, shots)) == list(plan)[:6]
    assert [s.id for s in Plan(asked, 9, 0)] == [s.id for s in Plan(asked, 9, 0, shots=shots)]  # and their seeds
    assert {s.init for s in Plan(asked, 9, 0)} == {""}


def test_each_image_starts_from_a_shot_of_its_class(tmp_path, shots):
    made = make(tmp_path / "images", Tinted(), shots=shots)
    found = rows(tmp_path / "images")
    tone_of = {f"{n.upper().replace(' ', '-')}/{9 - i}.png": t for n, own in TONES.items() for i, t in enumerate(own)}
    plain = Noise()
    for row, image in zip(found, made.load(range(len(made))), strict=True):
        (noise,) = plain([row["prompt"]], [row["seed"]])
        assert np.array_equal(image, noise // 2 + tone_of[row["init"]] // 2)
        assert row["init"].startswith(NAMES[row["label"]].upper().replace(" ", "-"))
    assert {r["init"] for r in found} == set(tone_of) == set(shots.ids)
    boots = [r["init"] for r in found if r["label"] == 0]
    assert sorted(boots.count(i) for i in set(boots)) == [3, 3, 4]
    record = folders.record(tmp_path / "images")
    assert record["inputs"]["shots"] == shots_fingerprint(shots)
    assert verify(tmp_path / "images").ok


def test_interruptions_and_batches_change_nothing_here_either(tmp_path, shots):
    make(tmp_path / "whole", Tinted(), shots=shots)
    whole = rows(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", Tinted(stop_after=3), shots=shots)
    make(tmp_path / "cut", Tinted(broken=("text 0 1",)), shots=shots)
    failed = [r for r in rows(tmp_path / "cut") if r["error"]]
    assert failed and all(r["init"] for r in failed)
    single = Tinted()
    single.batch_size = 1
    make(tmp_path / "cut", single, shots=shots)
    assert rows(tmp_path / "cut") == whole


def test_a_shot_is_read_once_a_shard(tmp_path, shots):
    loaded = []

    class Counted(type(shots)):
        def load(self, indices):
            loaded.extend(indices)
            return super().load(indices)

    counted = Counted(shots.paths, shots.labels, shots.ids)
    make(tmp_path / "images", Tinted(), shots=counted)
    assert len(loaded) == sum(len({r["init"] for r in rows(tmp_path / "images")[i : i + 6]}) for i in range(0, 20, 6))


def test_one_row_is_made_again_from_its_shot(tmp_path, shots):
    make(tmp_path, Tinted(), shots=shots)
    path = layout.shard_path(tmp_path, 1)
    before = path.read_bytes()
    flip(path, image_at(path, 4) + 30)
    plan = Plan(PROMPTS, 10, 0, 6, ids_by_class(shots))
    again = Tinted()
    done = Mend(ShardFolder(records.read(tmp_path).record, 6), plan, again, tuple(NAMES), shots)(Work(1, (4,)))
    assert path.read_bytes() == before and done.same == done.known == again.calls == 1


def test_other_shots_are_refused(tmp_path, shots):
    make(tmp_path / "images", Tinted(), shots=shots)
    for other in (shots.take([0, 1, 2, 3]), shots.take([1, 0, 2, 3, 4])):
        with pytest.raises(FigmentError, match="shots was '[0-9a-f]+' and is now '[0-9a-f]+'"):
            make(tmp_path / "images", Tinted(), shots=other)
    with pytest.raises(FigmentError, match="shots was '[0-9a-f]+' and is now None"):
        make(tmp_path / "images", Tinted())


def test_shots_that_are_missing_damaged_or_not_wanted(tmp_path, shots):
    boots = shots.take(np.flatnonzero(shots.labels == 0))
    with pytest.raises(
        FigmentError, match=r"no real image that images could start from of 1 classes: class 1 \('text 1 0'\)"
    ):
        make(tmp_path / "images", Tinted(), shots=boots)
    with pytest.raises(FigmentError, match="ProceduralGenerator cannot start from real images"):
        make(tmp_path / "images", ProceduralGenerator(), shots=shots)
    plan = Plan(PROMPTS, 10, 0, 6, ids_by_class(shots))
    with pytest.raises(ValueError, match="plan with shots"):
        fill(ShardFolder(Record(tmp_path / "images", "images", {}, {}), 6), plan, Tinted(), NAMES)
    assert not shard_files(tmp_path / "images")
    lost = next(p for p in shots.paths if p.name == "8.png")
    lost.write_bytes(lost.read_bytes()[:60])
    with pytest.raises(FigmentError, match=f"{lost.parent.name}/8.png is not an image that can be read"):
        make(tmp_path / "images", Tinted(), shots=shots)


@pytest.mark.slow
def test_a_diffusion_pipeline_starts_from_shots(tmp_path, sd15, shots):
    settings = {
        "model": str(sd15),
        "num_inference_steps": 10,
        "guidance_scale": 1.0,
        "dtype": "float32",
        "batch_size": 4,
    }
    guided = DiffusersGenerator(real_guidance=RealGuidanceSettings().resolved(2), **settings)
    made = make(tmp_path / "images", pickle.loads(pickle.dumps(guided)), shots=shots)
    assert len(made) == 20 and made.load([0])[0].shape == (64, 64, 3)
    record = folders.record(tmp_path / "images")["generator"]
    assert record["real_guidance"]["t_star"] == 40 and record["sampler"].endswith("real guidance (4 of the steps)")
    again = make(
        tmp_path / "again", DiffusersGenerator(real_guidance=RealGuidanceSettings(t_star=40), **settings), shots=shots
    )
    assert again.digests == made.digests
    with pytest.raises(FigmentError, match="give generate_images shots"):
        make(tmp_path / "none", guided)
    with pytest.raises(FigmentError, match="takes no start images"):
        make(tmp_path / "none", DiffusersGenerator(**settings), shots=shots)
