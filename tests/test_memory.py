"""Memory that runs out: what says so, smaller portions, and a paragraph."""

from __future__ import annotations

import pytest
import torch

from figment.errors import DeviceFailed, FigmentError
from figment.memory import enough_memory, in_portions, seems_out_of_memory

CPU = torch.device("cpu")
LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.1 GiB."),
    MemoryError(),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
]


def worker(tried: list[int], largest: int, error: BaseException):
    def work(start: int, end: int) -> list[int]:
        tried.append(end - start)
        if end - start > largest:
            raise error
        return list(range(start, end))

    return work


@pytest.mark.parametrize("error", [*LACKS, RuntimeError("something of a new driver")])
def test_portions_are_halved_until_they_fit_and_nothing_is_done_twice(error):
    tried: list[int] = []
    made, most = in_portions(worker(tried, 2, error), 11, 8, CPU)
    assert [i for part in made for i in part] == list(range(11))
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1] and most == 2


def test_what_fits_is_done_at_once():
    tried: list[int] = []
    assert in_portions(worker(tried, 8, LACKS[0]), 5, 8, CPU) == ([[0, 1, 2, 3, 4]], 8)
    assert in_portions(worker(tried, 8, LACKS[0]), 0, 8, CPU) == ([], 8) and tried == [5]


def test_a_single_one_that_fails_is_an_error():
    tried: list[int] = []
    with pytest.raises(RuntimeError, match="shapes"):
        in_portions(worker(tried, 0, RuntimeError("shapes cannot be multiplied")), 5, 4, CPU)
    assert tried == [4, 2, 1]


def test_a_failed_device_is_not_tried_again():
    tried: list[int] = []
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(torch.AcceleratorError):
        in_portions(worker(tried, 0, lost), 5, 4, CPU)
    assert tried == [4]


@pytest.mark.parametrize("error", LACKS)
def test_memory_that_runs_out_is_one_paragraph(error):
    assert seems_out_of_memory(error)
    with (
        pytest.raises(FigmentError, match=r"^Out of memory while it sang( \(.+[^.]\))?\. Sing less\.$") as raised,
        enough_memory("it sang", "Sing less."),
    ):
        raise error
    assert "GPU 0" not in str(raised.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("it sang", "Sing less."):
        raise RuntimeError("shapes cannot be multiplied")
    with pytest.raises(DeviceFailed, match=r"system's log, or take another device\.$"), enough_memory("", ""):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
