"""Exports with content credentials: c2pa-python's own reader validates every file, and nothing else of the export changes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import folders
from figment import records
from figment.cli import app
from figment.errors import FigmentError
from figment.exports.credentials import Credentials, manifest
from figment.exports.export import export
from figment.images_in import open_images
from figment.images_in.provenance import FIGMENT, is_signed, maker_of
from figment.saving import Saving, with_xmp
from figment.types import Sample

certificates = pytest.importorskip("certificates", reason="makes certificates with cryptography")
NAMES = ["zebra", "ankle boot"]
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of images alone, as a run makes them: three of each class."""
    folder = tmp_path_factory.mktemp("run") / "images"
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            f"{label}/{k}",
            f"{label}/{k}",
            f"a photo of a {name}",
            label,
            k,
            "",
            rng.integers(0, 256, (9, 8, 3), np.uint8),
        )
        for k in range(3)
        for label, name in enumerate(NAMES)
    ]
    folders.write_images(folder, [samples[:4], samples[4:]], NAMES, generator={"model": "/home/me/models/sd-pets"})
    return folder


@pytest.fixture(scope="module")
def authority():
    return certificates.Authority()


@pytest.fixture
def mine(authority, tmp_path):
    """A certificate and its key."""
    return authority.give(tmp_path / "mine")


@pytest.fixture
def c2pa():
    return pytest.importorskip("c2pa")


def validated(c2pa, data: bytes, kind: str, authority) -> dict:
    """What the library's reader says of a file, to somebody who trusts the authority."""
    context = c2pa.Context.from_dict({"trust": {"trust_anchors": authority.pem.decode()}})
    with c2pa.Reader(kind, io.BytesIO(data), context=context) as reader:
        return json.loads(reader.json())


def test_every_file_of_an_export_is_signed_and_validates(c2pa, run, mine, authority, tmp_path):
    out, plain = tmp_path / "out", tmp_path / "plain"
    export(run, "imagefolder", out, sign=mine)
    export(run, "imagefolder", plain)
    paths = sorted(out.rglob("*.png"))
    assert len(paths) == 6
    for path in paths:
        said = validated(c2pa, path.read_bytes(), "image/png", authority)
        assert said["validation_state"] == "Trusted", said["validation_results"]
        active = said["manifests"][said["active_manifest"]]
        assert active["claim_generator_info"][0]["name"] == "figment"
        ((action,),) = [one["data"]["actions"] for one in active["assertions"] if "actions" in one["label"]]
        assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", TRAINED)
        assert action["softwareAgent"]["name"] == "sd-pets"  # where it lay on this machine is nobody's business
        unsigned = (plain / path.relative_to(out)).read_bytes()
        assert is_signed(path.read_bytes()) and not is_signed(unsigned) and maker_of(path.read_bytes()) == FIGMENT
        with Image.open(path) as signed, Image.open(io.BytesIO(unsigned)) as before:
            assert signed.tobytes() == before.tobytes()
            assert signed.info["XML:com.adobe.xmp"] == before.info["XML:com.adobe.xmp"]
    assert "is signed (C2PA) by O=Pictures,CN=a studio" in (out / "README.md").read_text()
    assert "C2PA" not in (plain / "README.md").read_text()


@pytest.mark.parametrize("to", ["coco", "csv", "imagefolder", "parquet", "ultralytics", "webdataset"])
def test_a_signed_export_is_read_again_as_an_unsigned_one_is(c2pa, run, mine, tmp_path, to):
    """Read by its folder, whatever the format: pixels, labels and classes."""
    found = {}
    for name, sign in (("signed", mine), ("plain", None)):
        export(run, to, tmp_path / name, sign=sign)
        images = open_images(str(tmp_path / name), NAMES)
        found[name] = sorted((int(images.labels[i]), images.load([i])[0].tobytes()) for i in range(len(images)))
        assert is_signed(images.data(0)) is (name == "signed")
    assert found["signed"] == found["plain"] and len(found["plain"]) == 6


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_files_of_every_format_hold_it(c2pa, mine, authority, form):
    pixels = np.random.default_rng(1).integers(0, 256, (33, 47, 3), np.uint8)
    data = with_xmp(Saving(form).encode(pixels), "<x:xmpmeta/>")
    signed = Credentials(*mine).sign(data, manifest("sd", trained=True))
    assert validated(c2pa, signed, f"image/{form}", authority)["validation_state"] == "Trusted"
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(signed)) as after:
        assert after.tobytes() == before.tobytes()
        told = {name: value for name, value in before.info.items() if "xmp" in name.lower()}
        assert told and {name: after.info[name] for name in told} == told


def test_a_file_that_was_changed_afterwards_is_found_out(c2pa, mine, authority):
    data = bytearray(
        Credentials(*mine).sign(Saving("jpeg").encode(np.zeros((8, 8, 3), np.uint8)), manifest("sd", trained=True))
    )
    data[-20] ^= 1
    assert validated(c2pa, bytes(data), "image/jpeg", authority)["validation_state"] == "Invalid"


@pytest.mark.parametrize("kind", ["p384", "rsa", "ed25519"])
def test_keys_of_other_kinds_sign_too(c2pa, authority, tmp_path, kind):
    data = Saving().encode(np.zeros((8, 8, 3), np.uint8))
    signed = Credentials(*authority.give(tmp_path, kind)).sign(data, manifest("sd", trained=True))
    assert validated(c2pa, signed, "image/png", authority)["validation_state"] == "Trusted"


def test_a_key_as_older_tools_write_it(c2pa, authority, tmp_path):
    cert, key = authority.give(tmp_path)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key.write_bytes(certificates.pem_of(load_pem_private_key(key.read_bytes(), None), form="TraditionalOpenSSL"))
    assert b"EC PRIVATE KEY" in key.read_bytes() and Credentials(cert, key).signer == "O=Pictures,CN=a studio"


def test_images_of_a_mere_procedure_are_not_said_to_be_a_models(c2pa, run, mine, authority, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "images")
    found = records.read(tmp_path / "images")
    found.record.settings["generate"] = {"kind": "procedural"}
    told = {name: value for name, value in found.data.items() if name == "generator"}
    found.record.finish(found.files, **told)
    export(tmp_path / "images", "parquet", tmp_path / "out", sign=mine)
    (path,) = (tmp_path / "out").rglob("*.parquet")
    data = pq.read_table(path)["image"][0].as_py()["bytes"]
    assert "/algorithmicMedia" in json.dumps(validated(c2pa, data, "image/png", authority))


def test_another_certificate_is_another_export_and_the_same_finds_it_there(c2pa, run, mine, authority, tmp_path):
    assert export(run, "csv", tmp_path / "out", sign=mine).written
    assert not export(run, "csv", tmp_path / "out", sign=mine).written
    for other in (None, authority.give(tmp_path / "other")):
        with pytest.raises(FigmentError, match="holds another export"):
            export(run, "csv", tmp_path / "out", sign=other)


# ---- what cannot be signed -------------------------------------------------------------------------------------------


def _swapped(authority, folder):
    return authority.give(folder)[::-1]


def _of_two(authority, folder):
    return authority.give(folder)[0], authority.give(folder / "other")[1]


def _missing(authority, folder):
    return authority.give(folder)[0], folder / "none.pem"


def _text(authority, folder):
    (folder / "notes.pem").write_text("mine")
    return authority.give(folder)[0], folder / "notes.pem"


def _locked(authority, folder):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    cert, key = authority.give(folder)
    key.write_bytes(certificates.pem_of(load_pem_private_key(key.read_bytes(), None), b"secret"))
    return cert, key


def _of_a_folder(authority, folder):
    return folder, authority.give(folder)[1]


def _large(authority, folder):
    cert, key = authority.give(folder)
    key.write_bytes(bytes(2**20 + 1))
    return cert, key


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_swapped, "holds no certificate in PEM.*comes first"),
        (_of_two, "is not that of the first certificate"),
        (_missing, r"none\.pem cannot be read: No such file.*--sign CERT\.pem KEY\.pem"),
        (_text, "holds no private key in PEM.*comes first"),
        (_locked, "has a password.*openssl pkey -in .*key.pem"),
        (_of_a_folder, "cannot be read: Is a directory"),
        (_large, "certificate or key"),
        (lambda a, f: a.give(f, "bitcoin's"), "does not take a key such as that.*P-256"),
        (lambda a, f: a.give(f, days=(-3, -1)), "does not take the certificate.*not valid at time.*valid today"),
        (lambda a, f: a.give(f, use=certificates.SERVER), "does not take the certificate.*extended key usage"),
    ],
)
def test_what_cannot_sign_is_told_and_nothing_is_written(c2pa, run, authority, tmp_path, make, said):
    sign = make(authority, tmp_path)
    with pytest.raises(FigmentError, match=said) as error:
        export(run, "imagefolder", tmp_path / "out", sign=sign)
    assert not (tmp_path / "out").exists() and "BEGIN" not in str(error.value)


def test_without_the_library_the_extra_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(FigmentError, match=r"'c2pa-python'.*pip install 'figment-vision\[c2pa\]'"):
        export(run, "imagefolder", tmp_path / "out", sign=("cert.pem", "key.pem"))
    assert not (tmp_path / "out").exists()


def test_the_command_takes_two_files(c2pa, run, mine, tmp_path):
    sign = ["--sign", *map(str, mine)]
    result = CliRunner().invoke(app, ["export", str(run), "--to", "csv", "--out", str(tmp_path / "out"), *sign])
    assert result.exit_code == 0, result.output
    assert all(is_signed(path.read_bytes()) for path in (tmp_path / "out").rglob("*.png"))


def test_a_model_is_no_image_to_sign(run, tmp_path):
    arguments = ["export", str(run), "--to", "onnx", "--out", str(tmp_path / "out"), "--sign", "cert.pem", "key.pem"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, FigmentError) and "--sign are of images" in str(result.exception)
