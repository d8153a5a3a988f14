"""What ``guidance_scale`` is to each pipeline of diffusers: rows counted, sums taken apart, and the page of the docs held to them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import tiny
import tiny_families
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.few_steps import few_steps
from figment.generate.fits import check_class
from figment.generate.guidance import GUIDANCE, PRIOR_STEPS, Guidance, defaults_of, guidance_of

PAGE = Path(__file__).parents[2] / "docs" / "guidance.md"
#: Builder of a tiny pipeline -> its class. The first ones stand for all rules; the others are counted where there is time.
QUICK = {
    "sd15": "StableDiffusionPipeline",
    "z_image": "ZImagePipeline",
    "ldm": "LDMTextToImagePipeline",
    "kandinsky22": "KandinskyV22CombinedPipeline",
}
SLOW = {
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "pixart": "PixArtAlphaPipeline",
    "flux": "FluxPipeline",
    "if_base": "IFPipeline",
    "if_upscaler": "IFSuperResolutionPipeline",
    "sd_upscaler": "StableDiffusionUpscalePipeline",
    "krea2": "Krea2Pipeline",
    "qwen_image": "QwenImagePipeline",
    "kandinsky3": "Kandinsky3Pipeline",
    "flux2_klein": "Flux2KleinPipeline",
    "lcm": "LatentConsistencyModelPipeline",
    "chroma": "ChromaPipeline",
    "cogview4": "CogView4Pipeline",
    "lumina2": "Lumina2Pipeline",
    "aura_flow": "AuraFlowPipeline",
}
COUNTED = {**QUICK, **SLOW}
ELSEWHERE = ["SanaSprintPipeline"]  # counted in test_few_steps: its images are large
SIZES = {"pixart": None, "if_base": None, "if_upscaler": None, "sd_upscaler": None, "lumina2": 256}  # 64 pixels else
RENORMALISED = ("qwen_image", "lumina2")  # the sum is scaled to the length of the part with text: it is no sum any more
STEPS = 3


def make(folder: Path, scale: float | None = 3.0, **settings) -> DiffusersGenerator:
    side = SIZES.get(folder.name, 64)
    fixed = {"num_inference_steps": STEPS, "dtype": "float32", "height": side, "width": side}
    return DiffusersGenerator(model=str(folder), guidance_scale=scale, **{**fixed, **settings})


@pytest.fixture(scope="module", params=[*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def counted(request, folders) -> DiffusersGenerator:
    """A family's generator, opened once."""
    return make(folders[request.param])


def watched(generator: DiffusersGenerator, scale: float) -> tuple[dict[str, int], list[float]]:
    """How many rows each denoiser saw for two images, and in what shares the first step mixed the two answers of the last one.

    The shares are found by least squares: (scale, 1 - scale), of the answers with and without the text.
    """
    generator.sampling = replace(generator.sampling, guidance_scale=scale)
    pipe = generator.pipe
    scheduler = getattr(pipe, "decoder_pipe", pipe).scheduler
    rows: dict[str, int] = {}
    answers: list[torch.Tensor] = []
    shares: list[float] = []
    step = scheduler.step

    def note(name: str):
        def hook(module, given, output):
            answer = output[0]
            answer = torch.stack(list(answer)).squeeze(2) if isinstance(answer, list) else answer
            rows[name] = rows.get(name, 0) + len(answer)
            if name != "prior_prior":
                answers.append(answer)

        return hook

    def spy(mixed, t, sample, **more):
        if not shares:
            both = torch.cat(answers)
            n = min(both.shape[1], sample.shape[1])  # of channels: what follows them is the variance
            parts = torch.stack([part[:, :n].flatten() for part in both.split(len(mixed))], 1)
            found = np.linalg.lstsq(parts.double().numpy(), mixed[:, :n].flatten().double().numpy(), rcond=None)[0]
            shares.extend(np.abs(found))  # some step against the answer
        return step(mixed, t, sample, **more)

    denoisers = {name: getattr(pipe, name, None) for name in ("unet", "transformer", "prior_prior")}
    hooks = [part.register_forward_hook(note(name)) for name, part in denoisers.items() if part is not None]
    scheduler.step = spy
    init = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8) if generator.upscales else None
    try:
        images = generator(["a dog", "a cat"], [1, 2], init)
    finally:
        del scheduler.step
        for hook in hooks:
            hook.remove()
    assert all(image is not None for image in images)
    return rows, sorted(shares, reverse=True)


def test_one_is_off_and_above_it_there_is_a_second_pass(counted):
    name = type(counted.pipe).__name__
    assert COUNTED[counted.folder.path.name] == name
    steps = {"prior_prior": counted.guidance.tells(3.0, STEPS).get(PRIOR_STEPS, 0)}
    rows, shares = watched(counted, 1.0)
    assert rows == {part: 2 * steps.get(part, STEPS) for part in rows} and shares == pytest.approx([1], abs=1e-3)
    guided, shares = watched(counted, 3.0)
    assert guided == {part: n * (1 if counted.guidance.told else 2) for part, n in rows.items()}
    if counted.folder.path.name not in RENORMALISED:
        assert shares == pytest.approx([1] if counted.guidance.told else [3, 2], abs=1e-3)


def of(name: str, folder: Path) -> Guidance:
    return guidance_of({"_class_name": name}, folder)


@pytest.mark.slow  # it loads them all
def test_every_class_of_diffusers_that_makes_images_from_text_is_known():
    """A class of tomorrow is asked for here; until then its own scale is all that it is given."""
    unknown = []
    for name in dir(diffusers):
        if not name.endswith("Pipeline") or name in GUIDANCE or name == "DiffusionPipeline":
            continue
        kind = getattr(diffusers, name)
        if "_backends" in vars(kind):
            continue  # a stand-in for one whose packages are not installed
        try:
            check_class(name, "x/y")
        except FigmentError:
            continue
        unknown.append(name)
    assert unknown == []


def test_a_class_of_tomorrow_has_its_own_scale_or_none(tmp_path, monkeypatch):
    monkeypatch.delitem(GUIDANCE, "StableDiffusionPipeline")
    guidance = of("StableDiffusionPipeline", tmp_path)
    guidance.check(None, guidance.own(), "x/y")
    assert guidance.own() == 7.5
    with pytest.raises(FigmentError, match="class that figment does not know.*guidance_scale: null"):
        guidance.check(2.0, 2.0, "x/y")


@pytest.mark.parametrize("name", [name for name, own in GUIDANCE.items() if own.refused and hasattr(diffusers, name)])
def test_what_means_something_else_is_refused_by_name(name):
    if "_backends" in vars(getattr(diffusers, name)):
        pytest.skip("not installed")
    with pytest.raises(FigmentError, match=f"^The {name} of x/y {re.escape(GUIDANCE[name].refused)}"):
        check_class(name, "x/y")


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("OmniGenPipeline", 1.0, "second pass without the text at every scale.*above 1"),
        ("Kandinsky3Pipeline", 1.5, "guided from above 2 on.*Set guidance_scale: 1 for none, or above 2"),
        ("Flux2KleinKVPipeline", 2.0, "distilled, and takes no guidance: guidance_scale 2.*Set guidance_scale: 1, or null"),
    ],
)  # fmt: skip
def test_scales_that_a_pipeline_cannot_do_are_refused(tmp_path, name, scale, message):
    with pytest.raises(FigmentError, match=f"^The {name} of x/y .*{message}"):
        of(name, tmp_path).check(scale, scale, "x/y")
    of(name, tmp_path).check(scale, 3.0 - scale if scale == 2 else 2 * scale, "x/y")


def test_a_distilled_flux_takes_no_guidance_and_a_negative_prompt_neither(folders, tmp_path):
    """FLUX.2-klein says so in its index, FLUX.1-schnell by a transformer without an input for the number."""
    for builder, name in (("flux2_klein", "Flux2KleinPipeline"), ("flux", "FluxPipeline")):
        folder = tmp_path / builder
        build = getattr(tiny_families, builder, None) or getattr(tiny, builder)
        build(folder)
        make(folder, 3.0)
        for place, old, new in (
            ("model_index.json", '"is_distilled": false', '"is_distilled": true'),
            ("transformer/config.json", '"guidance_embeds": true', '"guidance_embeds": false'),
        ):
            (folder / place).write_text((folder / place).read_text().replace(old, new))
        with pytest.raises(FigmentError, match=f"{name} .*takes no guidance"):
            make(folder, 3.0)
        assert make(folder, None, num_inference_steps=None).sampling.num_inference_steps == 4


def test_klein_of_fifty_steps_is_not_taken_for_distilled(folders):
    folder = folders["flux2_klein"]
    assert few_steps(folder, "a/klein", {"_class_name": "Flux2KleinPipeline", "scheduler": ["", ""]}) is None
    assert (make(folder, None).guidance_scale, make(folder, None, num_inference_steps=None).num_inference_steps) == (
        4,
        50,
    )


@pytest.mark.parametrize(
    ("name", "own", "told"),
    [
        ("StableDiffusionPipeline", 7.5, {"guidance_scale": 7.5}),
        ("ZImagePipeline", 6.0, {"guidance_scale": 5.0}),
        ("QwenImagePipeline", 4.0, {"true_cfg_scale": 4.0}),
        ("FluxKontextPipeline", 3.5, {"guidance_scale": 3.5}),
        ("KandinskyV22CombinedPipeline", 4.0, {"guidance_scale": 4.0, "prior_guidance_scale": 4.0, PRIOR_STEPS: 25}),
        ("StableCascadeCombinedPipeline", 4.0, {"prior_guidance_scale": 4.0, PRIOR_STEPS: 60}),
        ("Flux2KleinKVPipeline", 1.0, {}),
    ],
)
def test_null_is_what_the_pipeline_does_by_itself(tmp_path, name, own, told):
    guidance, defaults = of(name, tmp_path), defaults_of(name)
    assert guidance.own() == own and guidance.tells(own, defaults["num_inference_steps"]) == told
    assert all(defaults[argument] == number for argument, number in told.items())


def test_two_scales_of_their_own_want_a_number(tmp_path):
    with pytest.raises(
        FigmentError, match=r"StableUnCLIPPipeline has no guidance_scale of its own. Set guidance_scale to a"
    ):
        of("StableUnCLIPPipeline", tmp_path).own()


def test_a_prior_takes_its_share_of_the_steps(tmp_path):
    asked = {n: of("KandinskyV22CombinedPipeline", tmp_path).tells(1.0, n) for n in (1, 20, 50, 100, 400)}
    assert [told[PRIOR_STEPS] for told in asked.values()] == [2, 5, 12, 25, 25]
    assert all(told["prior_guidance_scale"] == 1 for told in asked.values())


def test_what_is_told_is_recorded_and_fingerprinted_where_it_is_not_the_scale(folders):
    assert "told" not in make(folders["sd15"]).settings
    assert make(folders["z_image"]).settings["told"] == {"guidance_scale": 2.0}
    with pytest.raises(FigmentError, match="schedulers of its own. Leave scheduler out"):
        make(folders["kandinsky22"], scheduler="DDIMScheduler")
    with pytest.raises(FigmentError, match="FluxPipeline.*takes no negative prompt"):
        _ = make(folders["flux"], negative_prompt="blurry").pipe


def row(name: str) -> str:
    own = GUIDANCE[name]
    one, more = "one row", "two rows"
    if own.refused:
        one = more = "refused"
    elif not own.arguments:
        more = "refused"
    elif own.always:
        one = "refused"
    elif own.told:
        one, more = "one row, told 1", "one row, told the number"
    elif own.prior:
        both = len(own.arguments) == 2
        one, more = (
            "one row, in the prior too",
            "two rows, in the prior too" if both else "two rows in the prior, one in the decoder",
        )
    if own.offset:
        more += ", told one less"
    if own.unguided_to > 1:
        more += f"; refused up to {own.unguided_to:g}"
    if own.needs_negative:
        more += ", told as true_cfg_scale"
    how = "refused" if own.refused else "tested" if name in (*COUNTED.values(), *ELSEWHERE) else "by source"
    return f"| `{name}` | {one} | {more} | {how} |"


def test_the_page_says_what_each_pipeline_does():
    told = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    expected = [row(name) for name in sorted(GUIDANCE)]
    assert told == expected, "\n".join(expected)
