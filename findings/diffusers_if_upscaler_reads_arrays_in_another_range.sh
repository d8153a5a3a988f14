#!/bin/sh
# diffusers 0.42.1: IFPipeline gives images as PIL, or with output_type="np" as arrays in [0, 1]. IFSuperResolutionPipeline takes both, and takes
# arrays to lie in [-1, 1]: it scales PIL images to that range and leaves arrays as they are. So the output of the first stage, handed on as
# arrays, is enlarged as an image without darks: black is read as middle grey. No error, no warning.
# StableDiffusionUpscalePipeline, and every other pipeline that takes images through VaeImageProcessor, read arrays in [0, 1].
# Seen: a black image reaches the UNet as -1.00 when it is PIL, and as 0.00 when it is an array.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 numpy==2.4.6 pillow==13.0.0
"$folder/venv/bin/python" -W ignore - <<'XXX'
import logging, warnings

import diffusers, numpy as np, torch
from PIL import Image

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
options = dict(
    sample_size=8, out_channels=6, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=16, attention_head_dim=4,
)
scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range")
base = diffusers.IFPipeline(
    None, None, diffusers.UNet2DConditionModel(in_channels=3, **options), scheduler, None, None, None, False
)
upscaler = diffusers.IFSuperResolutionPipeline(
    None, None, diffusers.UNet2DConditionModel(in_channels=6, class_embed_type="timestep", **options), scheduler,
    diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), None, None, None, False,
)
more = {"prompt_embeds": torch.zeros(1, 7, 16), "guidance_scale": 1.0, "num_inference_steps": 2}
for pipe in (base, upscaler):
    pipe.set_progress_bar_config(disable=True)
made = base(output_type="np", generator=torch.Generator().manual_seed(0), **more).images
assert made.min() >= 0 and made.max() <= 1, "what the first stage gives as arrays"


def reaches(image):
    """The image to enlarge as the UNet is shown it, next to no noise added."""
    seen = []
    hook = upscaler.unet.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 3:].mean().item()))
    upscaler(image=image, noise_level=0, generator=torch.Generator().manual_seed(0), output_type="np", **more)
    hook.remove()
    return seen[0]


print("diffusers", diffusers.__version__)
diffusers.utils.logging.get_logger("diffusers").addHandler(handler)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    black = {"PIL": Image.new("RGB", (8, 8)), "array": np.zeros_like(made)}
    found = {name: reaches(image) for name, image in black.items()}
said += [str(w.message) for w in caught if "arra" in str(w.message).lower() and "copy" not in str(w.message)]
for name, value in found.items():
    print(f"a black image as {name} reaches the UNet as {value:.2f}; said: {said}")
assert abs(found["PIL"] + 1) < 0.05 and abs(found["array"]) < 0.05 and not said
XXX
