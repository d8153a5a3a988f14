#!/bin/sh
# diffusers 0.42.1: IFSuperResolutionPipeline joins the noisy sample and the image to enlarge, and then gives both to the scheduler's
# scale_model_input. Schedulers that scale, as Euler's do, shrink the image to enlarge with the noise: at the first step it reaches the UNet
# at almost none of its contrast, so that the model does not see what it is to enlarge. StableDiffusionUpscalePipeline scales first and
# joins then. EulerDiscreteScheduler is among the `compatibles` of DeepFloyd IF's own DDPMScheduler, and nothing is said.
# Seen: of an image of all 1, what the UNet is shown in 10 steps: 1 at every step with DDPMScheduler, and with EulerDiscreteScheduler .00005 at
# the first step, .17, .34, .50 and .64 at the next, and 1 at the last alone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'XXX'
import diffusers, torch

own = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
assert diffusers.EulerDiscreteScheduler in own.compatibles
torch.manual_seed(0)
unet = diffusers.UNet2DConditionModel(
    sample_size=8, in_channels=6, out_channels=6, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=16, attention_head_dim=4, class_embed_type="timestep",
)


def shown(scheduler):
    """What the UNet is shown of an image of all 1, step by step, next to no noise added."""
    pipe = diffusers.IFSuperResolutionPipeline(
        None, None, unet, scheduler, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), None, None, None, False
    )
    pipe.set_progress_bar_config(disable=True)
    seen = []
    hook = unet.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 3:].mean().item()))
    pipe(image=torch.ones(1, 3, 8, 8), prompt_embeds=torch.zeros(1, 7, 16), guidance_scale=1.0, noise_level=0,
         num_inference_steps=10, generator=torch.Generator().manual_seed(0), output_type="pt")
    hook.remove()
    return seen


print("diffusers", diffusers.__version__)
for kind in (diffusers.DDPMScheduler, diffusers.EulerDiscreteScheduler):
    scheduler = kind.from_config(own.config)
    if kind is not diffusers.DDPMScheduler:  # else its pipeline hands it six channels
        scheduler.register_to_config(variance_type="fixed_small")
    seen = shown(scheduler)
    print(f"{kind.__name__}: the image to enlarge, of all 1, reaches the UNet as", " ".join(f"{v:.3g}" for v in seen))
    low, high = min(seen), max(seen)
    assert low > 0.99 if kind is diffusers.DDPMScheduler else low < 0.02 < 0.9 < high
XXX
