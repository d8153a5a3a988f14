"""Where models run: a device that is not there is said at once, with those that are."""

from __future__ import annotations

import pytest
import torch

from figment.device import check_device, choose_device, devices, encoder_dtype, free_bytes, generator_dtype, put
from figment.encoders import ClipEncoder
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """A machine with other hardware, as far as torch's questions about it go."""

    def has(kind: str | None, count: int = 1) -> None:
        found = torch.device(kind) if kind else None
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})

    return has


def test_auto_is_the_gpu_where_there_is_one(machine):
    for kind, expected in ((None, "cpu"), ("cuda", "cuda"), ("mps", "cpu")):
        machine(kind)
        assert choose_device().type == expected


def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine):
    machine(None)
    assert devices() == ["cpu"] and choose_device("cpu").type == "cpu"
    for name in ("cuda", "cuda:0", "mps", "meta"):
        with pytest.raises(FigmentError, match=rf"device is {name}, .* but cpu\. Set device: auto"):
            choose_device(name)
    machine("cuda", 2)
    assert [str(choose_device(name)) for name in ("cuda", "cuda:1")] == ["cuda", "cuda:1"]
    with pytest.raises(FigmentError, match="cuda:2, .* but cuda:0, cuda:1, cpu"):
        choose_device("cuda:2")
    machine("mps")
    assert choose_device("mps").type == "mps"


def test_names_that_are_no_device_or_precision(machine):
    machine(None)
    with pytest.raises(FigmentError, match=r"'gpu' is unknown.*Here are: cpu"):
        check_device("gpu")
    with pytest.raises(FigmentError, match=r"'flaot16' is unknown.*float16"):
        encoder_dtype("flaot16", torch.device("cpu"))


def test_precision(machine):
    machine("cuda")
    kinds = [torch.device(kind) for kind in ("cuda", "mps", "cpu")]
    assert [generator_dtype("auto", kind) for kind in kinds] == [torch.bfloat16, torch.float32, torch.float32]
    assert [encoder_dtype("auto", kind) for kind in kinds] == [torch.float16, torch.float32, torch.float32]
    assert generator_dtype("float16", kinds[2]) == encoder_dtype("float16", kinds[2]) == torch.float16


def test_models_ask(machine):
    machine(None)
    with pytest.raises(FigmentError, match="device is cuda"):
        ClipEncoder("starter/clip", device="cuda")
    generator = DiffusersGenerator(device="cuda")  # its fingerprint may be asked for on a machine without one
    with pytest.raises(FigmentError, match="device is cuda"):
        generator(["a coat"], [0])


def test_what_is_free_on_a_gpu_counts_what_torch_keeps_for_later(monkeypatch):
    assert free_bytes(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_bytes(torch.device("cuda")) == 130


def test_an_encoder_that_does_not_fit_says_how_much_it_takes(monkeypatch):
    """In the words of all that is opened, and not as an error of the file."""
    to = torch.nn.Module.to

    def full(module, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert put(torch.nn.Linear(2, 2), torch.device("cpu"), "It").weight.shape == (2, 2)
    monkeypatch.setattr(
        torch.nn.Module,
        "to",
        lambda self, *args, **more: full(self, *args) if args == (CPU,) else to(self, *args, **more),
    )
    with pytest.raises(
        FigmentError, match=r"^The model starter/clip does not fit into the memory of cpu: its weights take 0\.\d GiB"
    ):
        ClipEncoder("starter/clip", "cpu")
    with pytest.raises(RuntimeError, match="meta"):
        monkeypatch.undo()
        put(torch.nn.Linear(2, 2, device="meta"), CPU, "It")
