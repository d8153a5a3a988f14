#!/bin/sh
# cache-dit 1.5.3: enable_cache wraps `__call__` of the pipeline's class, not of the pipeline. With two pipelines of one class (two checkpoints
# of Stable Diffusion 3, say) disable_cache on both, in either order, or on the first alone leaves a wrapper on that belongs to a pipeline
# which has no cache any more. From then on every pipeline of the class computes all of its steps and raises AttributeError at the end: the
# two, and any that is opened later and was never given to cache-dit. Give each pipeline a class of its own, of the same name, first.
# Seen: enabled for a and b, disabled for a, or for b and then a: a, b and a new c all raise after 20 steps; with own classes all three work.
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


def outcome(pipe):
    """What a call comes to, and after how many steps."""
    steps = []
    hook = pipe.transformer.register_forward_hook(lambda *_: steps.append(1))
    try:
        pipe(prompt_embeds=torch.ones(1, 7, 64), pooled_prompt_embeds=torch.ones(1, 64), num_inference_steps=20, guidance_scale=1.0,
             output_type="latent")
        return f"made in {len(steps)} steps"
    except AttributeError as error:
        return f"AttributeError after {len(steps)} steps: {error}"
    finally:
        hook.remove()


def after(*order, apart=False):
    """Two pipelines, enabled in turn and disabled in ``order``; what becomes of them and of a third one."""
    own = {"a": pipeline(0), "b": pipeline(1)}
    for pipe in own.values():
        if apart:
            pipe.__class__ = type(type(pipe).__name__, (type(pipe),), {})
        config = cache_dit.DBCacheConfig(Fn_compute_blocks=1, residual_diff_threshold=0.6, num_inference_steps=20)
        cache_dit.enable_cache(pipe, cache_config=config)
    assert all(outcome(pipe) == "made in 20 steps" for pipe in own.values())
    for name in order:
        cache_dit.disable_cache(own[name])
    found = {name: outcome(pipe) for name, pipe in {**own, "c": pipeline(2)}.items()}
    for name, what in found.items():
        print(f"{'own classes' if apart else 'one class'}, disabled {' and then '.join(order)}: {name} {what}")
    return set(found.values())


print(f"cache-dit {version('cache-dit')}, diffusers {version('diffusers')}")
assert after("a", "b", apart=True) == {"made in 20 steps"}
as_it_was = diffusers.StableDiffusion3Pipeline.__call__
for order in ("b", "a"), ("a",):
    (what,) = after(*order)
    assert what.startswith("AttributeError after 20 steps")
    diffusers.StableDiffusion3Pipeline.__call__ = as_it_was  # which cache-dit did not see to
PYTHON
