#!/bin/sh
# cache-dit 1.5.3: enable_cache on a text-to-image pipeline changes its transformer, and lets the cache start anew at each call of that
# pipeline's class. An image-to-image pipeline made from it by from_pipe has the same transformer and another class: it is cached too,
# unasked, and nothing starts anew. Its first steps add again what the last image left behind, whoever that image was of, so that one call
# with one seed gives another image each time. It does not raise, is no slower, and the text-to-image pipeline is all right.
# Enable it for a pipeline whose transformer nobody else has.
# Seen: the same image-to-image call four times: 0 apart before enable_cache, .019 after it; text to image 0 apart in both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet cache-dit==1.5.3 diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
from importlib.metadata import version

import cache_dit, diffusers, torch

logging.disable(logging.WARNING)  # cache-dit tells its settings, at length


def pipeline(seed=0):
    """Stable Diffusion 3's, tiny, with untrained weights; texts come encoded."""
    torch.manual_seed(seed)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=4, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64,
    )
    for weights in transformer.parameters():
        if weights.dim() > 1:  # large enough for its blocks to do something
            torch.nn.init.normal_(weights, std=0.1)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(8,) * 4,
        norm_num_groups=4, latent_channels=4, shift_factor=0.0,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = diffusers.StableDiffusion3Pipeline(transformer, scheduler, vae, *[None] * 6)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def apart(pipe, **given):
    """The most that latents of four calls differ, all with the same seed."""
    made = [
        pipe(prompt_embeds=text, pooled_prompt_embeds=pooled, num_inference_steps=20, guidance_scale=1.0, output_type="latent",
             generator=torch.Generator().manual_seed(0), **given).images
        for _ in range(4)
    ]
    return max((other - made[0]).abs().max().item() for other in made)


torch.manual_seed(9)
text, pooled, image = torch.randn(1, 7, 64), torch.randn(1, 64), torch.rand(1, 3, 64, 64)
pipe = pipeline()
other = diffusers.StableDiffusion3Img2ImgPipeline.from_pipe(pipe)
other.set_progress_bar_config(disable=True)
print(f"cache-dit {version('cache-dit')}, diffusers {version('diffusers')}")
for enabled in (False, True):
    if enabled:
        config = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, max_warmup_steps=2, residual_diff_threshold=0.8, num_inference_steps=20
        )
        cache_dit.enable_cache(pipe, cache_config=config)
    to_image, from_image = apart(pipe), apart(other, image=image, strength=0.6)
    print(f"cache enabled: {enabled}; four equal calls are apart by {to_image:.2g} (text to image), {from_image:.2g} (image to image)")
    assert to_image == 0 and (from_image > 0.005) == enabled
PYTHON
