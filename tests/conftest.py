"""What several test files share: tiny real models, made once, and class folders of small real images."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from more, and workers get in each other's way

import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported, which is later


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the object store waits for a server and for leases: it is slow without saying so. What takes longest comes first:
    last, all workers but one would wait for it."""
    for item in items:
        if "s3" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in LONGEST)


LONGEST = ("test_kill_storm.py", "test_job_array.py", "test_wheel.py")


COLOURS = {"red thing": (220, 30, 30), "green thing": (30, 200, 40), "blue thing": (40, 40, 230)}


@pytest.fixture(scope="session")
def sd15(tmp_path_factory) -> Path:
    import tiny

    return tiny.sd15(tmp_path_factory.mktemp("models") / "sd15")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory) -> Path:
    import tiny

    return tiny.sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    import tiny

    return tiny.clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """``train``, ``val`` and ``test``: noisy images of one colour a class, 6, 4 and 12 of each."""
    return write_photos(tmp_path_factory.mktemp("photos"))


def write_photos(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, n in {"train": 6, "val": 4, "test": 12}.items():
        for name, colour in COLOURS.items():
            folder = root / split / name.replace(" ", "_")
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = (rng.normal(colour, 40, (24, 20, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session", autouse=True)
def _no_sync() -> Iterator[None]:
    """No test cuts the power, and a disk takes milliseconds to sync: twice for each file that is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_rest() -> Iterator[None]:
    """What fails in a test does not pass with time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("figment.engines.todo.REST", 0.01)
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_trainings() -> Iterator[None]:
    """For its verdict a run trains 2 placebos and draws 2 sets again, where it usually does 6 and 20: most tests look at something
    else. Those that count them ask for ``usual_trainings``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("figment.measures.evidence.CHEAP", (2, 2))
        yield


@pytest.fixture
def usual_trainings(monkeypatch) -> None:
    monkeypatch.setattr("figment.measures.evidence.CHEAP", (6, 20))


BUCKETS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 of our own on loopback; the AWS_* variables that lead to it hold for the whole session and for child processes."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """An empty bucket: ``s3://bucket-<n>``."""
    import s3fs

    bucket = f"bucket-{next(BUCKETS)}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture(autouse=True)
def _shown() -> Iterator[None]:
    """What the library logs is printed as the command line prints it, where ``capsys`` finds it."""
    from figment.progress import ConsoleHandler

    logger, handler = logging.getLogger("figment"), ConsoleHandler(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, clip, photos) -> Path:
    """A finished run without a diffusion model: a head of words and images on the tiny CLIP, tested on ``photos``."""
    from figment.recipe import validate
    from figment.run import run_recipe

    folder = tmp_path_factory.mktemp("fitted") / "run"
    recipe = {
        "task": {"class_names": list(COLOURS), "real": {"test": str(photos / "test")}},
        "generate": {"kind": "procedural", "images_per_class": 4, "height": 40, "width": 48},
        "filters": [{"kind": "blank"}],
        "train": {"kind": "words_and_images", "encoder": str(clip)},
        "evaluate": {"evidence": False, "exchange_rate": False, "real_all": False},
    }
    run_recipe(validate(recipe, "it"), folder)
    return folder
