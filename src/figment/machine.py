"""What this machine is and what a stage took on it: provenance for markers, facts for ``figment doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import time
from functools import cache
from typing import Any

PACKAGES = ("figment-vision", "torch", "diffusers", "transformers", "numpy", "pyarrow", "pillow")


@cache  # every stage tells them, and to look them up takes longer than some stages
def versions() -> dict[str, str]:
    """Versions of Python and the packages that decide what comes out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor() -> str:
    """The CPU's own name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> str:
    """The accelerator's name, or the CPU's with its number of cores."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {cores()} cores"


class Meter:
    """Measures from its making: seconds, peak memory, and where and with what it ran."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def record(self) -> dict[str, Any]:
        """``seconds``, ``peak_memory_mb`` of the process so far, ``device`` and ``versions``."""
        # Linux counts in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if sys.platform != "darwin" else 2**20)
        return {
            "seconds": round(time.monotonic() - self.started, 2),
            "peak_memory_mb": round(peak),
            "device": device(),
            "versions": versions(),
        }


def launched() -> tuple[int, int] | None:
    """Which process this is and of how many, where a launcher started it with others; None where it is alone.

    Launchers say both. Job scripts may set ``WORLD_SIZE`` alone, for themselves.
    """
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if not all(one.isdecimal() for one in told):
        return None
    rank, n = map(int, told)
    return (rank, n) if n > 1 else None
