#!/bin/sh
# diffusers 0.42.1: load_lora_weights, fuse_lora and unload_lora_weights run to their end with a LoRA none of whose layers is in the
# pipeline, if their names begin with another part's than the pipeline has (a LoRA for a transformer on a UNet), or with none (as peft
# saves the adapter of a bare UNet). fuse_lora takes the name of the adapter that was never made, too. The log has a warning for each part,
# which it calls safe to ignore, and gives as well for every good LoRA without changes to the text encoder. The weights stay as they were.
# Seen: with "unet." all 16 matrices of queries and values change; with "transformer." and with no prefix none does, and nothing raises.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.24.0 peft==0.21.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'XXX'
import diffusers, torch

diffusers.utils.logging.set_verbosity_error()


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


def changed(prefix):
    """How many of the weights of to_q and to_v are others after a LoRA was loaded, fused and taken off again; and of how many."""
    pipe, lora = pipeline(), {}
    layers = {n: m for n, m in pipe.unet.named_modules() if n.endswith(("to_q", "to_v"))}
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    for name, layer in layers.items():
        lora[f"{prefix}{name}.lora_A.weight"] = torch.ones(4, layer.weight.shape[1])
        lora[f"{prefix}{name}.lora_B.weight"] = torch.ones(layer.weight.shape[0], 4)
    pipe.load_lora_weights(lora, adapter_name="style")
    pipe.fuse_lora(adapter_names=["style"])
    pipe.unload_lora_weights()
    after = dict(pipe.unet.named_parameters())
    return sum(not torch.equal(after[f"{name}.weight"], weight) for name, weight in before.items()), len(before)


print("diffusers", diffusers.__version__)
for prefix, all_of_them in (("unet.", True), ("transformer.", False), ("", False)):
    n, most = changed(prefix)
    print(f"names that begin with {prefix!r}: {n} of {most} weights changed")
    assert n == (most if all_of_them else 0)
XXX
