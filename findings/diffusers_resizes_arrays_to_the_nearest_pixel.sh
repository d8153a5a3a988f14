#!/bin/sh
# diffusers 0.42.1: VaeImageProcessor.preprocess(image, height, width), which image-to-image, inpainting and control pipelines hand their images to,
# resizes a Pillow image with its `resample` (Lanczos by default) and the same image as a tensor or an array by the nearest pixel, whatever `resample`
# says. Whoever loads images with a data loader, and so has tensors, gets every fourth pixel of a four times larger photograph: hair, cloth
# and grass turn to noise, which the pipeline then keeps. resize_mode ("fill", "crop") is left aside as well: the array is squeezed. Nothing
# warns. Resize before, with antialiasing.
# Seen: a 256 x 256 image of white and black pixels by chance to 64 x 64: standard deviation .22 as a Pillow image, 1.0 as a tensor and as an
# array, all of it black and white as before, whatever resample says; a 256 x 128 image to a square with "fill" has the
# image's blurred sides as a Pillow image, and as a tensor is the squeezed image, the same as with "default".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet diffusers==0.42.1 torch==2.14.1 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import diffusers, numpy as np, torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

grey = np.random.default_rng(0).integers(0, 2, (256, 256), np.uint8) * 255
image = Image.fromarray(np.stack([grey] * 3, axis=2))


def forms(image):
    """One image in the three forms that preprocess takes."""
    array = np.asarray(image).astype(np.float32) / 255
    return {"Pillow": image, "tensor": torch.from_numpy(array).permute(2, 0, 1)[None], "array": array[None]}


print("diffusers", diffusers.__version__)
for resample in ("lanczos", "bilinear"):
    processor = VaeImageProcessor(resample=resample)
    whole = {form: processor.preprocess(it) for form, it in forms(image).items()}
    assert all(torch.equal(whole["Pillow"], it) for it in whole.values())
    small = {form: processor.preprocess(it, height=64, width=64) for form, it in forms(image).items()}
    print(f"resample={resample!r}: standard deviation", {form: round(it.std().item(), 2) for form, it in small.items()})
    assert small["Pillow"].std() < 0.4
    for form in ("tensor", "array"):
        assert torch.equal(small[form], whole["Pillow"][..., ::4, ::4])

wide = forms(image.resize((256, 128), Image.Resampling.BOX))
modes = {form: [processor.preprocess(it, 64, 64, resize_mode=mode) for mode in ("default", "fill", "crop")] for form, it in wide.items() if form != "array"}
same = {form: all(torch.equal(it, made[0]) for it in made) for form, made in modes.items()}
print("default, fill and crop give one and the same image:", same)
assert same == {"Pillow": False, "tensor": True}
PYTHON
