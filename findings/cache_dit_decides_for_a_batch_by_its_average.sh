#!/bin/sh
# cache-dit 1.5.3: whether a step is computed or taken from the cache is decided once for a whole batch, by the change of the first block averaged
# over all rows. So an image depends on the others in its batch: the same prompt and seed, made alone and among three others, come out as
# different as if the cache had been switched on or off, where diffusers gives the same within rounding. Whoever makes a set again on a
# card with room for other batches gets another set. Steps chosen by number (steps_computation_mask with the policy "static") do not do that.
# Seen: largest change of a latent by company: 5e-7 without the cache, .03 with it; the cache itself changes them by .03.
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


def latents(pipe, rows):
    """Row by row, with the text and the seed of its own."""
    noise = [torch.Generator().manual_seed(row) for row in rows]
    return pipe(prompt_embeds=texts[rows], pooled_prompt_embeds=pooled[rows], num_inference_steps=20, guidance_scale=1.0,
                generator=noise, output_type="latent").images


def by_company(pipe):
    """Latents of four made one by one, and how far those made together are from them."""
    alone = torch.cat([latents(pipe, [row]) for row in range(4)])
    return alone, (latents(pipe, [0, 1, 2, 3]) - alone).abs().max().item()


torch.manual_seed(9)
texts, pooled = torch.randn(4, 7, 64), torch.randn(4, 64)
pipe = pipeline()
plain, differ = by_company(pipe)
dynamic = cache_dit.DBCacheConfig(Fn_compute_blocks=1, max_warmup_steps=2, residual_diff_threshold=0.6, num_inference_steps=20)
cache_dit.enable_cache(pipe, cache_config=dynamic)
cached, differ_cached = by_company(pipe)
effect = (cached - plain).abs().max().item()
print(f"cache-dit {version('cache-dit')}: company changes latents by {differ:.1g} without and by {differ_cached:.1g} with the cache,")
print(f"which itself changes them by {effect:.1g}")
assert differ < 1e-5 and differ_cached > 0.01 < effect
mask = [1] * 4 + [0, 1] * 8
cache_dit.disable_cache(pipe)
by_number = cache_dit.DBCacheConfig(
    Fn_compute_blocks=1, max_warmup_steps=0, num_inference_steps=20, steps_computation_mask=mask, steps_computation_policy="static"
)
cache_dit.enable_cache(pipe, cache_config=by_number)
_, differ_static = by_company(pipe)
print(f"steps by number: {differ_static:.1g}")
assert differ_static < 1e-5
PYTHON
