"""A batch whose decoding runs out of memory is decoded in slices, and not denoised again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderOutput

from figment.errors import DeviceFailed
from figment.generate.decoding import Slices
from figment.generate.diffusers import DiffusersGenerator

CPU = torch.device("cpu")
LATENTS = torch.arange(5.0)[:, None]
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


def decoder(tried: list[int], largest: int, error: Exception = OUT_OF_MEMORY):
    def decode(latents, return_dict=True, generator=None):
        tried.append(len(latents))
        if len(latents) > largest:
            raise error
        return DecoderOutput(sample=2 * latents) if return_dict else (2 * latents,)

    return SimpleNamespace(decode=decode)


@pytest.mark.parametrize("return_dict", [True, False])
def test_slices_are_halved_and_remembered(return_dict):
    tried: list[int] = []
    decode = Slices(decoder(tried, largest=2), CPU)
    for _ in range(2):
        told = decode(LATENTS, return_dict=return_dict, generator=None)
        assert torch.equal(told[0], 2 * LATENTS)
    assert tried == [5, 2, 2, 1] + [2, 2, 1]


def test_what_fits_is_decoded_at_once():
    tried: list[int] = []
    Slices(decoder(tried, largest=5), CPU)(LATENTS)
    assert tried == [5]


def test_a_single_image_that_does_not_fit_is_an_error_and_halves_nothing_for_others():
    tried: list[int] = []
    decode = Slices(decoder(tried, largest=0), CPU)
    with pytest.raises(torch.OutOfMemoryError):
        decode(LATENTS)
    assert tried == [5, 2, 1] and decode.most > 5


def test_a_failed_device_is_not_tried_again():
    tried: list[int] = []
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(torch.AcceleratorError):
        Slices(decoder(tried, largest=0, error=lost), CPU)(LATENTS)
    assert tried == [5]


def test_a_batch_is_not_denoised_again_because_its_decoding_ran_out(folders):
    settings = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 4, "guidance_scale": 1.0}
    generator = DiffusersGenerator(model=str(folders["sd15"]), **settings)
    prompts, seeds = ["a dog", "a cat", "a red bird", "a dog"], [1, 2, 3, 4]
    expected = np.stack(generator(prompts, seeds)).astype(int)
    denoised, decoded = [], []
    unet, decode = generator.pipe.unet, generator.pipe.vae.decoder.forward
    unet.register_forward_pre_hook(lambda module, given: denoised.append(len(given[0])))

    def small(latents, *more, **named):
        decoded.append(len(latents))
        if len(latents) > 1:
            raise OUT_OF_MEMORY
        return decode(latents, *more, **named)

    generator.pipe.vae.decoder.forward = small
    assert np.abs(np.stack(generator(prompts, seeds)).astype(int) - expected).max() <= 1
    assert denoised == [4, 4] and decoded == [4, 2, 1, 1, 1, 1] and generator.batch_size == 4


def test_a_device_that_fails_while_decoding_ends_the_worker(folders):
    generator = DiffusersGenerator(model=str(folders["sd15"]), num_inference_steps=2, dtype="float32", batch_size=2)

    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    generator.pipe.vae.decoder.forward = lost
    with pytest.raises(DeviceFailed):
        generator(["a", "b"], [1, 2])
