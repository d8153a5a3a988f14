"""Model names to folders: where models are found, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
import torch

import tiny
from figment.errors import FigmentError
from figment.models import is_open_clip, license_of, model_type, resolve, variant_of, wanted
from figment.words import size_text
from hubs import standing_in


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """An empty Hub cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    model = resolve(str(folder))
    assert model.path == folder.resolve() and model.name == str(folder)
    assert resolve(str(folder)).fingerprint == model.fingerprint


def test_the_fingerprint_follows_weights_and_configuration_only(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    before = resolve(str(folder)).fingerprint
    (folder / "README.md").write_text("a card")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.json").write_text("{}")
    folder = folder.rename(tmp_path / "elsewhere")
    assert resolve(str(folder)).fingerprint == before
    config = folder / "preprocessor_config.json"
    config.write_text(config.read_text() + " ")
    after = resolve(str(folder)).fingerprint
    assert after != before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert resolve(str(folder)).fingerprint not in (before, after)


def test_a_missing_folder(tmp_path):
    tiny.clip(tmp_path / "pipeline")
    with pytest.raises(FigmentError, match=r"no model folder .*pipelin.*Did you mean '.*pipeline'"):
        resolve(str(tmp_path / "pipelin"))
    with pytest.raises(FigmentError, match="Did you mean 'starter'"):
        resolve("startr")
    with pytest.raises(FigmentError, match="no model folder"):
        resolve("")
    with pytest.raises(FigmentError, match="holds no model"):
        resolve(str(tmp_path))
    with pytest.raises(FigmentError, match="no model folder"):
        resolve("owner/name@../../escape")
    with pytest.raises(FigmentError, match="is a file"):
        resolve(str(tmp_path / "pipeline" / "model.safetensors"))


@pytest.mark.parametrize("name", ["owner/name", "owner/name@v1.0", "stable-diffusion-v1-5/stable-diffusion-v1-5"])
def test_a_hub_id_without_a_network(offline, name):
    with pytest.raises(FigmentError, match="hf download") as caught:
        resolve(name)
    assert "\n" not in str(caught.value) and ("--revision v1.0" in str(caught.value)) == ("@" in name)


class _Hub(BaseHTTPRequestHandler):
    """Answers everything with the server's bytes, or hangs up."""

    def answer(self) -> None:
        self.wfile.write(self.server.says)  # type: ignore[attr-defined]
        self.close_connection = True

    do_GET = do_HEAD = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (b"HTTP/1.0 429 No\r\nRetry-After: 60\r\n\r\n", r"wants fewer requests \(.+\): HTTP 429"),
        (b"HTTP/1.0 503 No\r\nRetry-After: 60\r\n\r\n", "does not serve it now: HTTP 503"),
        (b"HTTP/1.0 500 No\r\n\r\n", "HTTP 500"),
        (b"HTTP/1.0 403 No\r\n\r\n", "HTTP 403"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>Log in to this network</html>", "no answer that can be read"),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "no answer that can be read"),
        (b"", "no answer that can be read"),
    ],
)
def test_what_the_hub_or_who_stands_before_it_answers_is_told(offline, monkeypatch, says, said):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.says = says  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    try:
        with pytest.raises(
            FigmentError, match=f"owner/name is not on this machine, and .*{said}.*hf download owner/name"
        ):
            resolve("owner/name")
    finally:
        server.shutdown()
        server.server_close()


def test_a_hub_id_from_the_cache(offline):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = offline / "models--owner--name"
    tiny.clip(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    model = resolve("owner/name")
    assert model.path.name == commit
    assert resolve(f"owner/name@{commit}").fingerprint == model.fingerprint
    assert model.fingerprint.isalnum()  # it names folders


SMALL_FILES = {"README.md", "open_clip_config.json", "tokenizer.json", "vocab.json", "merges.txt"}


@pytest.mark.parametrize(
    ("config", "safe", "trusted"),
    [
        (None, {"open_clip_model.safetensors"}, {"open_clip_pytorch_model.bin"}),
        ({"architecture": "resnet50_clip"}, {"open_clip_model.safetensors"}, {"open_clip_pytorch_model.bin"}),
        ({"model_type": "clip"}, {"model.safetensors"}, {"pytorch_model.bin"}),
    ],
    ids=["open_clip", "timm's config.json beside it", "transformers too"],
)
def test_what_of_an_open_clip_repository_is_fetched(tmp_path, config, safe, trusted):
    """The small files come first and say which of the weights, often there twice and in pickles, are the ones to load."""
    (tmp_path / "open_clip_config.json").write_text("{}")
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    weights = {"model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"}
    assert set(wanted(tmp_path, SMALL_FILES | weights)) == SMALL_FILES | safe
    assert set(wanted(tmp_path, SMALL_FILES | weights, allow_pickle=True)) == SMALL_FILES | safe | trusted


def test_of_a_part_alone_diffusers_weights_are_fetched(tmp_path):
    """A small VAE's repository: the same again as two halves under names of its author's."""
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    own = {"config.json", "diffusion_pytorch_model.safetensors"}
    others = {"diffusion_pytorch_model.bin", "taesd_decoder.safetensors", "taesd_encoder.safetensors"}
    assert set(wanted(tmp_path, own | others)) == own


def test_what_a_folder_is_of(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    assert model_type(folder) == "clip" and not is_open_clip(folder)
    assert model_type(tmp_path) == "" and not is_open_clip(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": 3}')
    assert model_type(tmp_path) == "" and is_open_clip(tmp_path)


@pytest.mark.parametrize("name", ["starter", "starter/clip", "starter/clip_rn"])
def test_the_starters_models(name):
    model = resolve(name)
    assert model.name == name and model.path.is_dir() and model.fingerprint == resolve(str(model.path)).fingerprint


def pickled(folder: Path) -> Path:
    tiny.sd15(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    return folder


def test_pickles_are_refused(tmp_path):
    folder = pickled(tmp_path / "pipeline")
    with pytest.raises(FigmentError, match=r"in unet.*allow_pickle"):
        resolve(str(folder))
    trusted = resolve(str(folder), allow_pickle=True)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"other")
    assert resolve(str(folder), allow_pickle=True).fingerprint != trusted.fingerprint


def test_a_folder_of_pickles_alone_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "model.ckpt")
    with pytest.raises(FigmentError, match="safetensors"):
        resolve(str(tmp_path))


def test_linked_parts_are_read_and_count(tmp_path):
    whole, linked = tiny.sd15(tmp_path / "whole"), tmp_path / "linked"
    linked.mkdir()
    for path in whole.iterdir():
        (linked / path.name).symlink_to(path)
    model = resolve(str(linked))
    assert model.fingerprint == resolve(str(whole)).fingerprint
    weights = whole / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert resolve(str(linked)).fingerprint != model.fingerprint


def test_links_that_lead_in_a_circle_end(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    (folder / "again").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    assert resolve(str(folder)).fingerprint


def test_code_and_pickles_in_linked_parts_are_refused(tmp_path):
    folder, elsewhere = tiny.sd15(tmp_path / "pipeline"), tmp_path / "elsewhere"
    (folder / "unet").rename(elsewhere)
    (folder / "unet").symlink_to(elsewhere)
    _pickle_the_unet(folder)
    with pytest.raises(FigmentError, match=r"in unet.*allow_pickle"):
        resolve(str(folder))
    config = elsewhere / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "mine.Model"}}))
    with pytest.raises(FigmentError, match="Python code of its own"):
        resolve(str(folder))


def test_a_link_to_nothing_is_named(tmp_path):
    folder = tiny.sd15(tmp_path / "pipeline")
    (folder / "unet").rename(tmp_path / "elsewhere")
    (folder / "unet").symlink_to(tmp_path / "gone")
    with pytest.raises(FigmentError, match=r"a link to what is not there: unet -> .*gone"):
        resolve(str(folder))


def test_a_folder_without_weights_gets_no_advice_on_pickles(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FigmentError, match=r"has no weights: there is no \.safetensors file") as caught:
        resolve(str(folder))
    assert "pickle" not in str(caught.value)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 246144152\n"


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"])
def test_what_git_lfs_did_not_fetch_is_named(tmp_path, file):
    folder = tiny.sd15(tmp_path / "pipeline")
    (folder / file).write_text(POINTER)
    with pytest.raises(FigmentError, match=f"{file} is what Git LFS leaves.*git lfs pull"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("names", "variant"),
    [
        (["model.safetensors"], None),
        (["model.safetensors", "model.fp16.safetensors"], None),
        (["model.fp16.safetensors"], "fp16"),
        (["model.bf16.safetensors"], "bf16"),
        (["model.bf16-00001-of-00002.safetensors", "model.bf16-00002-of-00002.safetensors"], "bf16"),
        (["diffusion_pytorch_model-00001-of-00002.fp16.safetensors"], "fp16"),
        (["model.fp16.safetensors", "model.bf16.safetensors"], "fp16"),
        ([], None),
    ],
)
def test_which_variant_is_opened(tmp_path, names, variant):
    for name in names:
        (tmp_path / name).touch()
    assert variant_of(tmp_path) == variant


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub, and the folder in it that is ``owner/name``."""
    with standing_in(tmp_path, monkeypatch) as server:
        yield server, server.root / "owner" / "name"


def safetensors_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*.safetensors")}


def test_of_a_pipeline_the_weights_of_its_parts_are_fetched_and_no_copies_beside_them(hub):
    """As in Stable Diffusion 3.5's repository: text_encoders/ and one file for other programs."""
    _, there = hub
    tiny.sd15(there)
    for stray in (
        "text_encoders/t5xxl_fp16.safetensors",
        "text_encoders/clip_l.safetensors",
        "sd3.5_large.safetensors",
    ):
        (there / stray).parent.mkdir(exist_ok=True)
        shutil.copy(next((there / "vae").glob("*.safetensors")), there / stray)
    here = resolve("owner/name").path
    assert {Path(name).parent.name for name in safetensors_in(here)} == {"unet", "vae", "text_encoder"}


@pytest.mark.parametrize("kind", ["StableDiffusionInpaintPipeline", "AudioLDM2Pipeline", "DDPMPipeline"])
def test_a_pipeline_of_another_kind_is_refused_before_its_weights_are_fetched(hub, kind):
    from figment.generate.diffusers import DiffusersGenerator

    server, there = hub
    tiny.sd15(there)
    index = json.loads((there / "model_index.json").read_text())
    (there / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
    with pytest.raises(FigmentError, match=f"^The model owner/name is a {kind}, which makes no images from text alone"):
        DiffusersGenerator(model="owner/name")
    assert server.fetched and not [name for name in server.fetched if name.endswith(".safetensors")]


def test_a_models_bytes_are_read_once_for_many_arms_and_again_when_they_change(tmp_path, monkeypatch):
    folder, read = tiny.sd15(tmp_path / "pipeline"), []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (read.append(file.name), digest(file, kind))[1])
    first = resolve(str(folder)).fingerprint
    assert read and len(read) == len(set(read))
    n = len(read)
    assert resolve(str(folder)).fingerprint == first and len(read) == n
    weights = next((folder / "unet").glob("*.safetensors"))
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert resolve(str(folder)).fingerprint != first and len(read) == n + 1


@pytest.mark.parametrize(
    ("halved", "fetched"),
    [([], 0), (["unet", "vae", "text_encoder"], 3), (["unet"], 1)],
    ids=["none", "all parts", "one part"],
)
def test_half_precision_is_fetched_where_there_is_no_other(hub, halved, fetched):
    _, there = hub
    tiny.sd15(there)
    for part in ("unet", "vae", "text_encoder"):
        (weights,) = (there / part).glob("*.safetensors")
        shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
        if part in halved:
            weights.unlink()
    names = safetensors_in(resolve("owner/name").path)
    assert len([name for name in names if ".fp16." in name]) == fetched and len(names) == 3


def test_half_precision_of_what_is_no_part_is_not_fetched(hub):
    """As in SDXL's repository: vae_1_0/ is another VAE, with a configuration of its own."""
    _, there = hub
    tiny.sd15(there)
    shutil.copytree(there / "vae", there / "vae_1_0")
    (weights,) = (there / "vae_1_0").glob("*.safetensors")
    shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
    assert not list((resolve("owner/name").path / "vae_1_0").glob("*.safetensors"))


LICENSED = "---\nlicense: other\nlicense_name: faipl-1.0-sd\n---\n"


def test_what_is_fetched_is_said_before_with_size_and_licence(hub, caplog):
    server, there = hub
    caplog.set_level("INFO", "figment")
    tiny.clip(there)
    (there / "README.md").write_text(LICENSED)
    weights = there / "model.safetensors"
    place = resolve("owner/name").path
    said = f"fetching owner/name: {size_text(weights.stat().st_size)} in 1 file, licence faipl-1.0-sd, to {place.parents[2]}"
    assert caplog.messages == [said]
    n = len(server.fetched)
    resolve("owner/name")
    assert caplog.messages == [said] and len(server.fetched) == n  # nothing to say where nothing is fetched


def test_a_disk_without_room_is_found_out_before_anything_is_fetched(hub, monkeypatch):
    server, there = hub
    tiny.clip(there)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(FigmentError, match=r"owner/name takes .* more, and 0 kB are free in .*HF_HOME"):
        resolve("owner/name")
    assert "model.safetensors" not in server.fetched


def test_a_gated_model_says_where_it_is_accepted_and_how_one_logs_in(hub):
    server, there = hub
    tiny.clip(there)
    server.gated.add("owner/name")
    with pytest.raises(FigmentError, match=r"gated.* https://huggingface.co/owner/name, then run: hf auth login$"):
        resolve("owner/name")


def test_what_was_not_fetched_to_the_end_is_no_model_offline(hub, monkeypatch):
    _, there = hub
    tiny.clip(there)
    folder = resolve("owner/name").path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve("owner/name").path == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(FigmentError, match="owner/name is not on this machine.*cannot be reached"):
        resolve("owner/name")


def test_stray_pickles_do_no_harm(tmp_path):
    folder = tiny.sd15(tmp_path / "pipeline")
    for stray in ("v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin", "optimizer.pt"):
        torch.save({}, folder / stray)
    (folder / "safety_checker").mkdir()  # never opened
    (folder / "safety_checker" / "config.json").write_text("{}")
    torch.save({}, folder / "safety_checker" / "pytorch_model.bin")
    assert resolve(str(folder)).path == folder.resolve()


def test_pickles_open_where_they_are_trusted(tmp_path):
    from figment.generate.diffusers import DiffusersGenerator

    folder = tiny.sd15(tmp_path / "pipeline")
    expected = DiffusersGenerator(model=str(folder), num_inference_steps=2, dtype="float32")(["x"], [1])
    _pickle_the_unet(folder)
    made = DiffusersGenerator(model=str(folder), num_inference_steps=2, dtype="float32", allow_pickle=True)(["x"], [1])
    assert (made[0] == expected[0]).all()


def _pickle_the_unet(folder: Path) -> None:
    from safetensors.torch import load_file

    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


@pytest.mark.parametrize("where", ["pipeline", "component", "auto_map"])
def test_code_of_others_is_refused(tmp_path, where):
    folder = tiny.sd15(tmp_path / "pipeline")
    index = json.loads((folder / "model_index.json").read_text())
    if where == "pipeline":
        index["_class_name"] = ["my_pipeline", "MyPipeline"]
    if where == "component":
        index["unet"] = ["my_unet", "MyUNet"]
        (folder / "unet" / "my_unet.py").write_text("raise SystemExit('this must never run')")
    if where == "auto_map":
        config = folder / "text_encoder" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "mine.Model"}}))
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(FigmentError, match="Python code of its own"):
        resolve(str(folder))


def test_license(tmp_path):
    assert license_of(tmp_path) is None
    card = tmp_path / "README.md"
    card.write_text("# no front matter\nlicense: mit")
    assert license_of(tmp_path) is None
    card.write_text("---\nlicense: other\nlicense_name: 'stability-community'\n---\n")
    assert license_of(tmp_path) == "stability-community"
