#!/bin/sh
# torch 2.14.1, peft 0.21.2: an nn.TransformerEncoderLayer in eval mode reads the weights of linear1 and linear2 itself and does not call these two. A
# LoRA on them is a layer around them, whose weight is that of the layer inside. So the LoRA works in training mode, and its loss goes down;
# in eval mode the model is the one that it was before training, to the last bit, under torch.no_grad, under inference_mode and with
# gradients on (peft has frozen the weights that torch looks at to see whether gradients are wanted). No error, no warning. A test
# accuracy that does not move for any rank, rate or number of steps looks like a LoRA that learns nothing.
# Merge before testing (merge_and_unload), or switch the short cut off: torch.backends.mha.set_fastpath_enabled(False).
# Seen: outputs apart from those of the model without LoRA: 2.16 in training mode (without dropout), 0 in eval mode in all three ways, 2.16
# merged, 2.16 without the short cut.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet peft==0.21.2 torch==2.14.1 transformers==5.24.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import warnings

import peft, torch
from torch import nn

torch.manual_seed(0)
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True), 2).eval()
before = copy.deepcopy(encoder)
tokens = torch.randn(3, 7, 16)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    model = peft.get_peft_model(encoder, peft.LoraConfig(r=4, target_modules=["linear1", "linear2"], init_lora_weights=False))
    apart = lambda found: round((found - before(tokens)).abs().max().item(), 3)
    seen = {"training mode": apart(model.train()(tokens)), "eval": apart(model.eval()(tokens))}
    with torch.no_grad():
        seen["no_grad"] = apart(model(tokens))
        torch.backends.mha.set_fastpath_enabled(False)
        seen["no_grad, no short cut"] = apart(model(tokens))
        torch.backends.mha.set_fastpath_enabled(True)
    with torch.inference_mode():
        seen["inference_mode"] = apart(model(tokens))
    with torch.no_grad():
        seen["no_grad, merged"] = apart(model.merge_and_unload()(tokens))
print(f"torch {torch.__version__}, peft {peft.__version__}, apart from the model without LoRA: {seen}; warnings: {len(said)}")
assert seen["eval"] == seen["no_grad"] == seen["inference_mode"] == 0 and not said
assert min(seen["training mode"], seen["no_grad, no short cut"], seen["no_grad, merged"]) > 0.5
PYTHON
