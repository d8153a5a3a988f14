#!/bin/sh
# peft 0.21.2: OFT on a convolution of more than 1 x 1 is not the identity before it is trained, as OFT is by its construction (a rotation that begins
# as "no rotation") and as it is for linear layers and 1 x 1 convolutions. The layer takes its input apart into patches, rotates them, and puts them
# together again in another order of axes and with the overlaps added up: the convolution reads a scrambled image. Training makes
# the best of it; merge_and_unload then rotates the weights, which is another function: of an untrained adapter the base model, of a trained
# one neither the base nor what was trained. No warning. LoRA, LoHa, LoKr, BOFT and HRA of the same layer agree before and after merging.
# Seen: a 3 x 3 convolution, untrained OFT: correlation of its output with the base layer's -.02, after merge_and_unload exactly the base layer.
# With trained-like weights the largest difference between unmerged and merged is 1.2 times the output's largest value; LoRA, and OFT of 1 x 1: below 1e-6.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet peft==0.21.2 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import peft, torch
from torch import nn

KINDS = {"OFT": peft.OFTConfig(target_modules=["0"], oft_block_size=4), "LoRA": peft.LoraConfig(r=4, target_modules=["0"])}
x = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs(kind, size, trained):
    """Of the layer, of the layer with the adapter, and with the adapter merged."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(8, 16, size, padding=size // 2)).eval()
    plain = base(x)
    model = peft.get_peft_model(base, KINDS[kind]).eval()
    for weight in model.parameters():
        if weight.requires_grad and trained:
            weight.add_(0.1 * torch.randn(weight.shape))
    return plain, model(x), model.merge_and_unload()(x)


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


print("peft", peft.__version__)
for kind in KINDS:
    for size in (1, 3):
        plain, with_it, merged = outputs(kind, size, trained=False)
        _, trained, after = outputs(kind, size, trained=True)
        apart = ((trained - after).abs().max() / trained.abs().max()).item()
        r = correlation(plain, with_it)
        print(f"{kind}, {size} x {size}: untrained, correlation with the base layer {r:.2f}; trained, merging changes {apart:.2g} of the largest output")
        assert torch.allclose(plain, merged, atol=1e-5)
        wrong = (kind, size) == ("OFT", 3)
        assert r < 0.5 and apart > 0.3 if wrong else r > 0.9999 and apart < 1e-4
PYTHON
