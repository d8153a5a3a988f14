#!/bin/sh
# peft 0.21.2: add_weighted_adapter(..., combination_type="linear") does not add the adapters' changes up. It adds up their A and their B, each times the
# square root of the weight, and multiplies the sums: beside w1 B1 A1 + w2 B2 A2 there stand the products of the one's B with the other's A.
# The more alike the adapters are (two epochs of one training, two seeds from one start), the larger is that part: half of a LoRA and half of its
# own copy is twice the LoRA. So for "dare_linear" and "magnitude_prune" at density 1. "cat" and "svd" give the weighted sum, as do
# diffusers' set_adapters([...], [...]) and weighted merging by hand; one script with "linear" in place of "cat" makes another model.
# Seen: two copies, weights .5 and .5: strength 2.0 with "linear", 1.0 with "cat" and "svd"; weights .3 and .7 1.92; two independent LoRA, .5
# and .5: 1.41 times as long as the weighted sum, at a cosine of .72 to it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet peft==0.21.2 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import peft, torch
from torch import nn


@torch.no_grad()
def combined(kind, weights, copies):
    """The change of the combined adapter, and the weighted sum of the changes of the two."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=["0"], init_lora_weights=False)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(32, 32, bias=False)), config, adapter_name="a")
    model.add_adapter("b", config)
    layer = model.base_model.model[0]
    if copies:
        for part in (layer.lora_A, layer.lora_B):
            part["b"].weight.copy_(part["a"].weight)
    more = {} if kind in ("linear", "cat", "svd") else {"density": 1.0}
    model.add_weighted_adapter(["a", "b"], weights, "both", combination_type=kind, svd_rank=8 if kind == "svd" else None, **more)
    change = {name: layer.get_delta_weight(name) for name in ("a", "b", "both")}
    return change["both"], weights[0] * change["a"] + weights[1] * change["b"]


print("peft", peft.__version__)
for copies in (True, False):
    for kind in ("cat", "svd", "linear", "dare_linear", "magnitude_prune"):
        for weights in ([0.5, 0.5], [0.3, 0.7]):
            got, total = combined(kind, weights, copies)
            length, cosine = (got.norm() / total.norm()).item(), nn.functional.cosine_similarity(got.flatten(), total.flatten(), dim=0).item()
            print(f"{'two copies' if copies else 'two LoRA'}, {weights}, {kind}: {length:.2f} times as long as the weighted sum, cosine {cosine:.2f}")
            if kind in ("cat", "svd"):
                assert abs(length - 1) < 1e-3 and cosine > 0.999
            elif copies:
                assert cosine > 0.999 and abs(length - (weights[0] ** 0.5 + weights[1] ** 0.5) ** 2) < 1e-3
            else:
                assert cosine < 0.9
PYTHON
