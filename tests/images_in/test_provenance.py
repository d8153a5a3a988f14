"""Who says that an image was generated: marks of figment and of others, in real files of each format."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from figment import png
from figment.images_in.provenance import is_signed, maker_of, xmp

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
PARAMETERS = (
    "a coat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: v1-5"
)
COMFY = json.dumps({"3": {"inputs": {"seed": 1}, "class_type": "KSampler"}})
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def saved(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def texts(international: bool = False, **told: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in told.items():
        (info.add_itxt if international else info.add_text)(name, text)
    return saved("PNG", pnginfo=info)


def exif(comment: bytes) -> bytes:
    own = Image.Exif()
    own.get_ifd(0x8769)[0x9286] = comment
    return own.tobytes()


def packet(kind: str) -> bytes:
    return xmp(True).replace("trainedAlgorithmicMedia", kind).replace('xmp:CreatorTool="figment"', "").encode()


@pytest.mark.parametrize("international", [False, True])
@pytest.mark.parametrize(
    ("told", "maker"),
    [
        ({"parameters": PARAMETERS}, "Stable Diffusion web UI"),
        ({"prompt": COMFY, "workflow": '{"nodes": []}'}, "ComfyUI"),
        ({"invokeai_metadata": '{"app_version": "4.2"}'}, "InvokeAI"),
        ({"sd-metadata": "{}"}, "InvokeAI"),
        ({"prompt": "say cheese", "Software": "Adobe Photoshop", "parameters": "f/8, ISO 100"}, ""),
    ],
)
def test_texts_in_png(told, maker, international):
    assert maker_of(texts(international, **told)) == maker


def test_novelai_says_so_in_its_software():
    assert maker_of(texts(Software="NovelAI")) == "NovelAI" and maker_of(texts(Title="of NovelAI")) == ""


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_parameters_in_exif(kind):
    """As the web UI writes them with piexif: UTF-16, big-endian."""
    comment = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    assert maker_of(saved(kind, exif=exif(comment))) == "Stable Diffusion web UI"
    assert maker_of(saved(kind, exif=exif(b"ASCII\0\0\0in the Alps"))) == ""


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("trainedAlgorithmicMedia", True),
        ("compositeWithTrainedAlgorithmicMedia", True),
        ("algorithmicMedia", True),
        ("digitalCapture", False),
        ("computationalCapture", False),
    ],
)
def test_the_digital_source_type_in_every_format(kind, source, is_one):
    told = packet(source)
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", told.decode())
        data = saved(kind, pnginfo=info)
    else:
        data = saved(kind, **({"tiffinfo": {700: told}} if kind == "TIFF" else {"xmp": told}))
    assert maker_of(data) == ("its digital source type" if is_one else "")


def jpeg_with_manifest(source: str) -> bytes:
    """A JPEG with a C2PA manifest as far as it is looked at: JUMBF boxes in APP11, actions in CBOR, no signature."""
    said = (IPTC + source).encode()
    cbor = b"\xa1\x71digitalSourceType\x78" + bytes([len(said)]) + said  # {"digitalSourceType": "..."}

    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + name + body

    label = box(b"jumd", b"c2pa" + bytes.fromhex("00110010800000aa00389b71") + b"\x03c2pa.actions\0")
    body = b"JP\0\1\0\0\0\1" + box(b"jumb", label + box(b"cbor", cbor))
    data = saved("JPEG")
    return data[:2] + b"\xff\xeb" + struct.pack(">H", 2 + len(body)) + body + data[2:]


def test_a_manifest_is_noticed_and_its_source_type_believed():
    made, taken = jpeg_with_manifest("trainedAlgorithmicMedia"), jpeg_with_manifest("digitalCapture")
    assert Image.open(io.BytesIO(made)).size == (20, 24)
    assert (maker_of(made), maker_of(taken)) == ("its digital source type", "")
    assert is_signed(made) and is_signed(taken) and not is_signed(saved("JPEG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_plain_files_say_nothing(kind):
    assert maker_of(saved(kind)) == ""


@pytest.mark.parametrize(("trained", "source"), [(True, "trainedAlgorithmicMedia"), (False, "algorithmicMedia")])
def test_our_own_mark_is_standard_xmp_and_costs_no_speed(trained, source):
    plain = png.encode(PIXELS)
    data = png.with_xmp(plain, xmp(trained))
    assert maker_of(plain) == "" and maker_of(data) == "figment"
    found = png.decode(data)
    assert found is not None and (found == PIXELS).all()  # by the fast way
    image = Image.open(io.BytesIO(data))
    assert (np.array(image) == PIXELS).all() and f"{IPTC}{source}" in image.info["XML:com.adobe.xmp"]
    Image.open(io.BytesIO(data)).verify()  # its checksums
    assert png.decode(data[:-20] + data[-12:]) is None and png.decode(data[:60]) is None
