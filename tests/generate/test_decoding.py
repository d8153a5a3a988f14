"""A batch whose decoding runs out of memory is decoded in slices, and not denoised again."""

from __future__ import annotations

from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderOutput

from figment.errors import DeviceFailed
from figment.generate import decoding
from figment.generate.decoding import Slices, values_a_latent
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


def largest(decoder: torch.nn.Module, decode) -> int:
    """Values in the largest tensor that any of its modules gives."""
    seen: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: seen.append(out.numel() if torch.is_tensor(out) else 0))
        for module in decoder.modules()
    ]
    with torch.inference_mode():
        decode()
    for hook in hooks:
        hook.remove()
    return max(seen)


VAES = {
    "kl": lambda: diffusers.AutoencoderKL(
        block_out_channels=(8, 32, 32, 64),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ),
    "one level": lambda: diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4),
    "tiny": lambda: diffusers.AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4
    ),
    "qwen": lambda: diffusers.AutoencoderKLQwenImage(base_dim=8, z_dim=4, dim_mult=[1, 2, 2], num_res_blocks=1),
}


@pytest.mark.parametrize("name", VAES)
def test_the_largest_tensor_of_a_decoder_is_known_by_its_configuration(name):
    vae = VAES[name]()
    latents = torch.randn(1, 4, *([1] if name == "qwen" else []), 8, 8)
    told = values_a_latent(vae.config) * 64
    most = largest(vae.decoder, lambda: vae.decode(latents))
    assert most <= told <= 2 * most


def test_no_tensor_of_a_slice_has_more_elements_than_kernels_count(folders, monkeypatch):
    settings = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 5, "guidance_scale": 1.0}
    generator = DiffusersGenerator(model=str(folders["sd15"]), **settings)
    prompts, seeds = ["a dog", "a cat", "a red bird", "a dog", "a tree"], [1, 2, 3, 4, 5]
    expected = np.stack(generator(prompts, seeds)).astype(int)
    vae, decoded = generator.pipe.vae, []
    side = 64 // generator.pipe.vae_scale_factor
    one = largest(vae.decoder, lambda: vae.decode(torch.randn(1, vae.config.latent_channels, side, side)))
    monkeypatch.setattr(decoding, "ELEMENTS", 2 * one + 1)
    vae.decoder.register_forward_pre_hook(lambda module, given: decoded.append(len(given[0])))
    made: list = []
    most = largest(vae.decoder, lambda: made.extend(generator(prompts, seeds)))
    assert most == 2 * one and decoded == [2, 2, 1]
    assert np.abs(np.stack(made).astype(int) - expected).max() <= 1
    monkeypatch.setattr(decoding, "ELEMENTS", one - 1)  # a single image is decoded, whatever it takes
    assert len(generator(prompts, seeds)) == 5 and decoded[3:] == [1] * 5
    monkeypatch.undo()
    generator(prompts, seeds)
    assert decoded[8:] == [5]  # it was no memory that ran out: nothing is remembered


def test_512_pixels_of_stable_diffusion_are_31_at_a_time():
    config = {"block_out_channels": (128, 256, 512, 512)}
    assert decoding.ELEMENTS // (values_a_latent(config) * 64 * 64) == 31 and 32 * 256 * 512**2 == 2**31
    assert values_a_latent({}) == 0
