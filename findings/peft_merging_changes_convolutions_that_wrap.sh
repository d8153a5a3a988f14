#!/bin/sh
# peft 0.21.2: an adapter of a convolution with padding_mode "circular" or "reflect" pads with zeros: it takes over the layer's padding,
# stride and size, and not its mode. The model that was trained and looked at is so not the model that merge_and_unload gives, whose one
# convolution pads as the layer does; the two differ along the image's borders, silently, for LoRA, DoRA, LoHa, LoKr, BOFT and HRA alike. Stable
# Diffusion whose convolutions are set to "circular" for seamless textures has a seam again with a LoRA of these convolutions that is added after
# that, and none once it is merged. Set padding_mode of the adapter's own convolution (lora_A) too, before it is trained.
# Seen: LoRA of a circular 3 x 3 convolution, an image moved round by 5 pixels: the layer's output moves along exactly; with the adapter it
# differs by .32 of its largest value, merged by nothing. Merging changes the outermost ring of pixels, by as much, and no other pixel
# (DoRA .26, LoHa .09, LoKr .27; with zero padding below 1e-6).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet peft==0.21.2 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import peft, torch
from torch import nn

KINDS = {
    "LoRA": peft.LoraConfig(r=4, target_modules=["0"]),
    "DoRA": peft.LoraConfig(r=4, use_dora=True, target_modules=["0"]),
    "LoHa": peft.LoHaConfig(r=4, target_modules=["0"]),
    "LoKr": peft.LoKrConfig(r=4, target_modules=["0"]),
}
x = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))


def share(a, b):
    """The largest difference, as a share of the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


def moved(layer):
    """How far the output of a moved image is from the moved output: 0 for a layer that wraps around."""
    return share(layer(x.roll(5, dims=-1)), layer(x).roll(5, dims=-1))


@torch.no_grad()
def look(kind, mode):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, padding_mode=mode)).eval()
    before = moved(base)
    model = peft.get_peft_model(base, KINDS[kind]).eval()
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(0.1 * torch.randn(weight.shape))
    unmerged, with_it = model(x), moved(model)
    merged = model.merge_and_unload()
    after = merged(x)
    return share(unmerged, after), share(unmerged[..., 1:-1, 1:-1], after[..., 1:-1, 1:-1]), before, with_it, moved(merged)


print("peft", peft.__version__)
for kind in KINDS:
    for mode in ("circular", "reflect", "zeros"):
        all_over, inside, before, with_it, after = look(kind, mode)
        line = f"{kind}, {mode}: merging changes {all_over:.2g} of the largest output, {inside:.1g} inside of the border"
        assert inside < 1e-5 and (all_over < 1e-5 if mode == "zeros" else all_over > 0.05)
        if mode == "circular":
            line += f"; a moved image differs by {before:.1g} in the layer, {with_it:.2g} with the adapter, {after:.1g} merged"
            assert before < 1e-5 and after < 1e-5 and with_it > 0.05
        print(line)
PYTHON
