"""Put what was trained into the package: half precision, the folders of diffusers, transformers and open_clip, the real images.
And take it out again, to train the denoiser on."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from figment.shards import with_features

from . import clip, clip_rn, data, training, unet

TRAININGS = "trainings.json"  # in a package: stage -> steps and seconds of all that its weights were trained
#: Stage -> folder of a package -> the working folder's.
TAKEN = {
    "clip": {"clip": "clip"},
    "clip_rn": {"clip_rn": "clip_rn"},
    "text": {"pipeline/text_encoder": "pipeline/text_encoder", "pipeline/tokenizer": "pipeline/tokenizer"},
    "vae": {"pipeline/vae": "pipeline/vae"},
    "decoder": {"pipeline/vae": "pipeline/vae_refined"},
    "unet": {"pipeline/unet": unet.START},
}


def take(package: Path, out: Path) -> None:
    """The finished trainings of a package become those of the working folder ``out``, and its denoiser what the next one begins with.

    Of what lies in ``out`` nothing is replaced, so that the same command again goes on.
    """
    notes = package / TRAININGS
    told = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    if missing := sorted(TAKEN.keys() - told.keys()):
        raise SystemExit(
            f"{notes} does not say how {', '.join(missing)} came about: --begin takes packages of today's stages."
        )
    for stage, folders in TAKEN.items():
        for folder, working in folders.items():
            if not (out / working).exists():
                half = out / f"{working}.half"
                shutil.rmtree(half, ignore_errors=True)
                shutil.copytree(package / folder, half)
                half.rename(out / working)
        if stage != "unet" and not training.is_over(stage, out):
            (out / f"{stage}.json").write_text(json.dumps(told[stage]) + "\n", encoding="utf-8")
    (out / unet.START / TRAININGS).write_text(json.dumps(told["unet"]) + "\n", encoding="utf-8")


def trainings(out: Path) -> dict[str, dict[str, float]]:
    """Stage -> steps and seconds; of a denoiser that was trained on those of all its trainings."""
    told = {
        stage: json.loads((out / f"{stage}.json").read_text("utf-8")) for stage in TAKEN if training.is_over(stage, out)
    }
    before = out / unet.START / TRAININGS
    if before.is_file():
        known = json.loads(before.read_text(encoding="utf-8"))
        told["unet"] |= {key: told["unet"][key] + known[key] for key in ("steps", "seconds")}
    return told


def pack(out: Path, data_folder: Path, package: Path) -> None:
    """Fill ``package`` (``src/figment/starter``) with ``pipeline``, ``clip``, ``clip_rn``, ``pool`` and ``test``."""
    package.mkdir(parents=True, exist_ok=True)
    half = torch.float16
    for part in ("pipeline", "clip", "pool", "test"):
        shutil.rmtree(package / part, ignore_errors=True)

    tokenizer = CLIPTokenizer.from_pretrained(out / "clip")
    CLIPModel.from_pretrained(out / "clip").to(half).save_pretrained(package / "clip")
    tokenizer.save_pretrained(package / "clip")
    clip.image_processor().save_pretrained(package / "clip")

    if (out / "clip_rn").is_dir():  # else the package keeps the one it has, or has none yet
        clip_rn.pack(out / "clip_rn", package / "clip_rn")

    denoiser = UNet2DConditionModel.from_pretrained(out / "pipeline" / "unet")
    pipeline = unet.pipeline(out, denoiser, "vae_refined")
    pipeline.to(dtype=half).save_pretrained(package / "pipeline")
    for part in ("clip", "pipeline/text_encoder"):
        load_as_float32(package / part / "config.json")
    for config in package.rglob("config.json"):  # diffusers notes the folder that it loaded from
        text = re.sub(r'\n *"_name_or_path": ".*",', "", config.read_text(encoding="utf-8"))
        config.write_text(text, encoding="utf-8")
    (package / TRAININGS).write_text(json.dumps(trainings(out), indent=1) + "\n", encoding="utf-8")
    for split in ("pool", "test"):
        images, labels = data.load(split, data_folder)
        write_images(package / split, data.pad(images), labels)


def load_as_float32(config: Path) -> None:
    """Half precision is for the disk: without this, plain diffusers code gets a float16 text encoder and a float32 UNet."""
    text = config.read_text(encoding="utf-8").replace('"dtype": "float16"', '"dtype": "float32"')
    config.write_text(text, encoding="utf-8")


def write_images(folder: Path, images, labels) -> None:
    """32x32 grey images as a Parquet data set of PNGs, as the ``datasets`` library lays one out."""
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("id", pa.string()),
        ]
    )
    rows = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        rows.append(
            {
                "image": {"bytes": buffer.getvalue(), "path": f"{i:05d}.png"},
                "label": int(label),
                "id": f"{folder.name}/{i:05d}",
            }
        )
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows, with_features(schema, data.CLASS_NAMES))
    pq.write_table(table, folder / "train-00000-of-00001.parquet", compression="zstd", row_group_size=1000)
