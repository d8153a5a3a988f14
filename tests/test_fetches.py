"""``figment doctor RECIPE``: everything that a recipe would fetch, its size and licence, and nothing that is fetched meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from figment import hub as figment_hub
from figment.cli import app
from figment.fetches import examine_recipe
from figment.models import resolve
from figment.recipe import validate
from hubs import standing_in

MB = 10**6


def model(folder: Path, **files: int) -> None:
    """Files of so many bytes, which nobody opens; ``__`` stands for ``/``, and names end in .safetensors where they have no ending."""
    for name, size in files.items():
        path = folder / (name.replace("__", "/") + ("" if "." in name else ".safetensors"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * size)


def pipeline(folder: Path) -> None:
    """As Stable Diffusion 3.5's: the parts, half precision of one, and copies for other programs."""
    model(folder, unet__model=3 * MB, vae__model=1 * MB, vae__model_fp16=0, text_encoders__t5=50 * MB, whole=90 * MB)
    (folder / "vae" / "model_fp16.safetensors").rename(folder / "vae" / "model.fp16.safetensors")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "X", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "none": [None, None]})
    )
    for part in ("unet", "vae"):
        (folder / part / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\n")


def clip(folder: Path) -> None:
    model(folder, model=2 * MB)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")


def recipe(**parts):
    plain = {"task": {"class_names": ["a", "b"]}, "prompts": {"kind": "templates"}}
    return validate({**plain, **parts}, "it")


def said(found, subject: str) -> str:
    (one,) = [f for f in found if f.subject == subject]
    return f"{one.state}: {one.text}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with standing_in(tmp_path, monkeypatch) as server:
        server.cards = {"big/pipeline": {"license": "openrail++"}, "some/clip": {"license": "mit"}}
        yield server


OF_THE_HUB = {"generate": {"model": "big/pipeline"}, "filters": [{"kind": "duplicate", "model": "some/clip"}]}


def test_nothing_where_nothing_is_fetched(tmp_path):
    """Not even asked for: the starter lies in the package, and folders where they are."""
    found = examine_recipe(recipe(generate={"model": "starter"}, encoder=str(tmp_path)))
    assert [(f.subject, f.state, f.text) for f in found] == [("in all", "ok", "nothing is to be fetched")]


def test_sizes_and_licences_of_what_would_be_fetched_and_of_nothing_else(hub, tmp_path):
    pipeline(hub.root / "big" / "pipeline")
    clip(hub.root / "some" / "clip")
    found = examine_recipe(recipe(**OF_THE_HUB, encoder="some/clip"))
    assert said(found, "generate.model") == "note: big/pipeline: 4.0 MB to fetch; licence openrail++".replace(
        "4.0", "4"
    )
    assert said(found, "filters.0.model, encoder") == "note: some/clip: 2 MB to fetch; licence mit"  # once
    assert said(found, "in all").startswith("note: 6 MB to be fetched; ")
    assert not (tmp_path / "cache").exists() and {Path(name).suffix for name in hub.fetched} == {".json"}


def test_what_is_here_is_told_with_its_place_also_without_a_network(hub, tmp_path, monkeypatch):
    clip(hub.root / "some" / "clip")
    pipeline(hub.root / "big" / "pipeline")
    place = resolve("some/clip").path
    folder = resolve("big/pipeline").path
    (folder / "unet" / "model.safetensors").unlink()
    found = examine_recipe(recipe(**OF_THE_HUB))
    assert said(found, "filters.0.model") == f"ok: some/clip: here, 2 MB in {place}; licence mit"
    assert "3 MB to fetch of 4 MB, the rest is here; licence openrail++" in said(found, "generate.model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = examine_recipe(recipe(**OF_THE_HUB, encoder="not/here"))
    assert said(found, "filters.0.model") == f"ok: some/clip: here, 2 MB in {place}; licence mit"
    assert said(found, "generate.model").startswith(
        "missing: big/pipeline: 3 MB of it are not here (unet/model.safetensors)"
    )
    unknown = said(found, "encoder")
    assert unknown.startswith(
        "missing: not/here: not here, and the Hugging Face Hub cannot be reached (no network, or HF_HUB"
    )
    assert unknown.endswith("its size and licence cannot be known")
    assert "3 MB to be fetched and 1 of unknown size; " in said(found, "in all")


def test_a_gated_model_is_missing_until_it_is_accepted(hub):
    pipeline(hub.root / "big" / "pipeline")
    hub.gated.add("big/pipeline")
    told = said(examine_recipe(recipe(generate={"model": "big/pipeline"})), "generate.model")
    assert told.startswith(
        "missing: big/pipeline: at most 54 MB to fetch; licence openrail++; gated: accept its licence on"
    )
    assert told.endswith("https://huggingface.co/big/pipeline, then run: hf auth login")


def test_a_gated_model_that_is_here_needs_no_more(hub):
    clip(hub.root / "some" / "clip")
    place = resolve("some/clip").path
    hub.gated.add("some/clip")
    assert (
        said(examine_recipe(recipe(encoder="some/clip")), "encoder")
        == f"ok: some/clip: here, 2 MB in {place}; licence mit"
    )


def test_what_is_not_there_or_cannot_be_opened_is_missing(hub):
    model(hub.root / "only" / "pickles", **{"pytorch_model.bin": MB})
    (hub.root / "only" / "pickles" / "config.json").write_text("{}")
    found = examine_recipe(recipe(generate={"model": "no/such"}, encoder="only/pickles"))
    assert "neither a folder no/such nor a model of that name" in said(found, "generate.model")
    assert "no weights in the safetensors format" in said(found, "encoder")


def test_loras_and_data_sets(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "data"))
    model(hub.root / "a" / "lora", pytorch_lora_weights=MB, another=2 * MB)
    model(hub.root / "datasets" / "a" / "set", **{"train.parquet": 5 * MB})
    hub.cards["datasets/a/set"] = {"license": ["cc-by-4.0", "mit"]}
    loras = [{"lora": "a/lora"}, {"lora": "a/lora", "weight_name": "none.safetensors"}]
    own = recipe(
        generate={"model": "starter", "loras": loras},
        task={"class_names": ["a", "b"], "real": {"train": "datasets:a/set:train", "test": "datasets:a/set:test"}},
    )
    found = examine_recipe(own)
    assert said(found, "generate.loras.0.lora") == "note: a/lora: 1 MB to fetch; licence not told"
    assert "has no none.safetensors. Set weight_name" in said(found, "generate.loras.1.lora")
    place = figment_hub.download("a/lora", None, ["pytorch_lora_weights.safetensors"])
    found = examine_recipe(own)
    assert said(found, "generate.loras.0.lora") == f"ok: a/lora: here, 1 MB in {place}; licence not told"
    wanted = "a/set: at most 5 MB to fetch; licence cc-by-4.0, mit"
    assert said(found, "task.real.train, task.real.test") == f"note: {wanted}"
    (tmp_path / "data" / "a___set").mkdir(parents=True)
    assert "ok: a/set: a copy is in" in said(examine_recipe(own), "task.real.train, task.real.test")


def test_arms_and_cells_fetch_too(hub):
    clip(hub.root / "some" / "clip")
    arms = {"other": {"encoder": "some/clip"}}
    assert "some/clip" in said(examine_recipe(recipe(arms=arms)), "encoder")
    rows, columns = {"own": {}, "other": {"encoder": "some/clip"}}, {"one": {"generate.images_per_class": 3}}
    table = {"title": "t", "metric": "top1/synthetic", "rows": rows, "columns": columns}
    real = {"class_names": ["a", "b"], "real": {"test": "starter/test"}}
    assert "some/clip" in said(examine_recipe(recipe(task=real, table=table)), "encoder")


def test_what_figment_does_not_fetch_is_told(tmp_path, monkeypatch):
    chat = {"kind": "chat", "base_url": "http://localhost:8000/v1", "model": "llama"}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    glide = {"kind": "glide", "weights": str(tmp_path)}
    real = {"class_names": ["a", "b"], "real": {"train": "starter/pool"}}
    own = recipe(
        prompts=chat, generate=glide, task=real, evaluate={"measures": ["fid"]}, filters=[{"kind": "mine:Own"}]
    )
    found = {f.subject: f for f in examine_recipe(own)}
    assert found["prompts"].text == "llama answers on http://localhost:8000/v1: nothing is fetched"
    assert found["generate.weights"].state == "missing" and "GLIDE" in found["generate.weights"].text
    assert found["FID's network"].state == "missing" and "95 MB" in found["FID's network"].text
    assert found["mine:Own"].state == "note"


def test_a_small_vae_is_counted_and_one_that_the_model_refuses_is_told(hub, tmp_path):
    """By the configuration of the model's own VAE, which is all that is looked at."""

    def of(model: str, asked: str = "tiny") -> list[str]:
        found = examine_recipe(recipe(generate={"model": model, "speed": {"vae": asked}}))
        return [f"{f.state}: {f.text}" for f in found if f.subject == "generate.speed.vae"]

    (refused,) = of("starter")
    assert refused.startswith("missing: ") and "starter" in refused and refused.endswith((".", "them."))
    assert of("not/there") == ["note: tiny: some MB besides, of a repository that the model's latents tell"]
    folder = hub.root / "big" / "pipeline"
    pipeline(folder)
    (refused,) = of("big/pipeline")
    assert refused == (
        "missing: generate.speed.vae puts a small VAE in the place of an AutoencoderKL, and big/pipeline decodes with none. Leave it out."
    )
    for file in (folder / "vae" / "config.json", tmp_path / "own" / "vae" / "config.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"_class_name": "AutoencoderKL", "latent_channels": 4, "scaling_factor": 0.18215}))
    model(hub.root / "madebyollin" / "taesd", diffusion_pytorch_model=5 * MB)
    hub.cards["madebyollin/taesd"] = {"license": "mit"}
    for place in ("big/pipeline", str(tmp_path / "own")):
        assert of(place) == ["note: madebyollin/taesd: 5 MB to fetch; licence mit"]
    wrong = of("big/pipeline", "madebyollin/taesdxl")
    assert any(line.startswith("missing: madebyollin/taesdxl was trained for the latents of Stable") for line in wrong)


def test_the_command(hub, tmp_path, monkeypatch):
    clip(hub.root / "some" / "clip")
    path = tmp_path / "recipe.yaml"
    path.write_text("task: {class_names: [a, b]}\nencoder: some/clip\n")
    told = CliRunner().invoke(app, ["doctor", str(path)])
    assert told.exit_code == 0 and "2 MB to fetch" in told.stdout and "in all" in told.stdout
    told = CliRunner().invoke(app, ["doctor", str(path), "--set", "encoder=no/such"])
    assert told.exit_code == 1 and "missing" in told.stdout
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=MB))
    assert CliRunner().invoke(app, ["doctor", str(path)]).exit_code == 1
