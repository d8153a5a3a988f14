#!/bin/sh
# diffusers 0.42.1: load_lora_weights takes a file or a dict of its tensors, and makes two different models of them. The file that
# save_lora_weights writes has lora_alpha in its header; a dict of tensors has no header, so alpha is taken to be the rank. Whoever
# opens the file with safetensors first, to look at it or to rename layers, and hands over what is in it, gets the change at another
# strength than it was trained with. Nothing says so: no error, no warning, no line of the log.
# Seen: of a LoRA of rank 4 and alpha 8 the layer's scaling is 2.0 by its file, and 1.0 by its tensors.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 peft==0.21.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder/lora" <<'XXX'
import logging, sys

import diffusers, torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
diffusers.utils.logging.set_verbosity_warning()
diffusers.utils.logging.get_logger("diffusers").addHandler(handler)


def pipeline():
    """Stable Diffusion's, tiny, with untrained weights and without a text encoder."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
    )
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)
    return diffusers.StableDiffusionPipeline(
        vae, None, None, unet, diffusers.DDIMScheduler(), None, None, requires_safety_checker=False
    )


def scaling(lora):
    pipe = pipeline()
    pipe.load_lora_weights(lora, adapter_name="it")
    return {layer.scaling["it"] for layer in pipe.unet.modules() if hasattr(layer, "lora_A")}


folder, kind = sys.argv[1], diffusers.StableDiffusionPipeline
pipe = pipeline()
config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_v"])
pipe.unet.add_adapter(config)
kind.save_lora_weights(
    folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet), unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict()
)
path = f"{folder}/pytorch_lora_weights.safetensors"
with safe_open(path, "pt") as file:
    assert LORA_ADAPTER_METADATA_KEY in file.metadata()
said.clear()
by_file, by_tensors = scaling(folder), scaling(load_file(path))
about = [line for line in said if "alpha" in line.lower() or "metadata" in line.lower()]
print(f"diffusers {diffusers.__version__}: scaling by file {by_file}, by its tensors {by_tensors}; said of it: {about}")
assert by_file == {2.0} and by_tensors == {1.0} and not about
XXX
