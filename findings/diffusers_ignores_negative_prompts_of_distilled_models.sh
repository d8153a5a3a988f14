#!/bin/sh
# diffusers 0.42.1: a Stable Diffusion pipeline whose UNet is told its guidance scale as a number (time_cond_proj_dim, as latent
# consistency models have it) takes a negative prompt, at a guidance scale of 8 too, and does nothing with it. There is no second
# pass that it could be used in, and nothing says so: no error, no warning, no line of the log. So whoever swaps Stable Diffusion for its
# distilled sister to save time, and leaves the call as it is, loses what kept watermarks, text or another class out.
# Seen: with and without, the latents differ by 69 for an ordinary UNet, and by 0 for one with time_cond_proj_dim=32.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'XXX'
import logging, warnings

import diffusers, torch

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
diffusers.utils.logging.set_verbosity_info()
diffusers.utils.logging.get_logger("diffusers").addHandler(handler)


def pipeline(time_cond_proj_dim):
    """Stable Diffusion's, tiny, with untrained weights; texts come encoded."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, time_cond_proj_dim=time_cond_proj_dim,
    )
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)
    own = diffusers.StableDiffusionPipeline(
        vae, None, None, unet, diffusers.LCMScheduler(), None, None, requires_safety_checker=False
    )
    own.set_progress_bar_config(disable=True)
    return own


def latents(pipe, negative):
    seed = torch.Generator().manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = pipe(prompt_embeds=torch.ones(1, 7, 16), negative_prompt_embeds=torch.full((1, 7, 16), negative),
                    guidance_scale=8.0, num_inference_steps=2, generator=seed, output_type="latent").images
    said.extend(str(warning.message) for warning in caught)
    return made


print("diffusers", diffusers.__version__)
for dimensions in (None, 32):
    pipe = pipeline(dimensions)
    said.clear()
    differ = (latents(pipe, 0.0) - latents(pipe, -5.0)).abs().max().item()
    print(f"time_cond_proj_dim={dimensions}: another negative prompt changes the latents by {differ:.3g}; said: {said}")
    assert (differ > 1) == (dimensions is None) and not said
XXX
