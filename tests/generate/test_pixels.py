"""Decoded images become the bytes that they became by numpy, one image at a time, and none that is not finite becomes any."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from figment.generate import diffusers as ours
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.pixels import pixels_of
from figment.generate.real_guidance_settings import RealGuidanceSettings

#: Families whose pipelines have diffusers' processor of images, and two that have not.
WITH = [
    "starter",
    "sd15",
    "sdxl",
    "sd3",
    "pixart",
    "flux",
    "z_image",
    "qwen_image",
    "lumina2",
    "aura_flow",
    "chroma",
    "krea2",
]
WITHOUT = ["ldm", "kandinsky3"]


def twin(image: np.ndarray) -> np.ndarray | None:
    """``float32 (H, W, C)`` in [0, 1], on the CPU."""
    if not np.isfinite(image).all():
        return None
    pixels = (image * 255).round().astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def same(made, expected) -> bool:
    assert all(one is None or (one.dtype == np.uint8 and one.flags.c_contiguous) for one in made)
    return [None if one is None else one.tolist() for one in made] == [
        None if one is None else one.tolist() for one in expected
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_level_is_rounded_as_numpy_rounds(dtype, channels):
    torch.manual_seed(0)
    halves = (torch.arange(256) + 0.5).clamp(max=255) / 255  # between two levels, where rounding is decided
    values = torch.cat([halves, torch.rand(4 * 3 * 16 * 16 - 256)]).to(dtype)
    decoded = values.reshape(4, 3, 16, 16)[:, :channels]
    decoded[1, 0, 3, 4], decoded[2, -1, 0, 0] = float("nan"), float("inf")
    arrays = decoded.permute(0, 2, 3, 1).float().numpy()
    expected = [twin(image) for image in arrays]
    assert [one is None for one in expected] == [False, True, True, False]
    assert all(same(pixels_of(given), expected) for given in (decoded, arrays, list(arrays)))


def watched(monkeypatch, generator, *given, **named):
    """What a call makes, and what was decoded."""
    seen = []
    monkeypatch.setattr(ours, "pixels_of", lambda decoded: (seen.append(decoded), pixels_of(decoded))[1])
    made = generator(*given, **named)
    monkeypatch.undo()
    return made, seen[0]


@pytest.mark.parametrize("name", [*WITH, *WITHOUT])
def test_images_are_those_of_arrays_to_the_bit(folders, monkeypatch, name):
    model = "starter" if name == "starter" else str(folders[name])
    size = {} if name in ("starter", "ldm") else {"height": 64, "width": 64}
    scale = 1.0 if name == "kandinsky3" else 2.0  # which takes 2 for none
    generator = DiffusersGenerator(
        model=model, num_inference_steps=2, guidance_scale=scale, dtype="float32", batch_size=2, **size
    )
    made, decoded = watched(monkeypatch, generator, ["a dog", "a red bird"], [1, 2])
    assert isinstance(decoded, torch.Tensor) == (name in WITH)
    if name in WITH:
        del generator.pipe.image_processor.postprocess  # diffusers' own again
    arrays = watched(monkeypatch, generator, ["a dog", "a red bird"], [1, 2])[1]
    assert isinstance(arrays, np.ndarray) and arrays.dtype == np.float32
    assert same(made, [twin(image) for image in arrays])


def test_real_guidance_keeps_them_there_too(folders, monkeypatch):
    settings = {"num_inference_steps": 4, "real_guidance": RealGuidanceSettings(t_star=50), "dtype": "float32"}
    generator = DiffusersGenerator(model=str(folders["sd15"]), **settings)
    init = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    assert isinstance(watched(monkeypatch, generator, ["a dog"], [1], init=init)[1], torch.Tensor)


def test_memory_that_runs_out_after_decoding_is_tried_in_less(folders, monkeypatch):
    tried: list[int] = []

    def full(decoded):
        tried.append(len(decoded))
        if len(decoded) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels_of(decoded)

    monkeypatch.setattr(ours, "pixels_of", full)
    generator = DiffusersGenerator(model=str(folders["sd15"]), num_inference_steps=2, dtype="float32", batch_size=2)
    assert len(generator(["a dog", "a cat"], [1, 2])) == 2 and tried == [2, 1, 1]
