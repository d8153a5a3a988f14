"""Generators and jobs for workers to do: in a module of their own, since a worker finds them by its name."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from figment.errors import FigmentError
from figment.generate.fill import generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.types import Prompt

NAMES = ["ankle boot", "bag"]
PROMPTS = [
    Prompt(f"{label:03d}-x/{i:05d}", f"text {label} {i}", label, f"g{label}{i}") for label in (0, 1) for i in range(5)
]


class Deadly(ProceduralGenerator):
    """Kills its process in the middle of a shard, as the system does when memory runs out: once, or (no ``mark``) always."""

    batch_size = 4

    def __init__(self, seed: int, mark: Path | None = None):
        super().__init__()
        self.seed, self.mark = seed, mark

    def __call__(self, prompts, seeds, init=None):
        if self.seed in seeds and (self.mark is None or not self.mark.exists()):
            if self.mark:
                self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(prompts, seeds)


class Poisoned(ProceduralGenerator):
    """A GPU that fails at one seed, once, and answers nothing any more in that process."""

    batch_size = 4

    def __init__(self, seed: int, mark: Path):
        super().__init__()
        self.seed, self.mark, self.lost = seed, mark, False

    def __call__(self, prompts, seeds, init=None):
        if self.seed in seeds and not self.mark.exists():
            self.mark.touch()
            self.lost = True
        if self.lost:
            import torch  # not at the top: some workers are to do without

            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ...")
        return super().__call__(prompts, seeds)


class Refusing(ProceduralGenerator):
    """Raises what it was given."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def __call__(self, prompts, seeds, init=None):
        raise self.error


class Locked(ProceduralGenerator):
    """Cannot travel."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class TwoPartError(Exception):
    """Cannot be made again from its message alone, as pickle would."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


def make(folder, engine=None, generator=None, n: int = 40, prompts=PROMPTS):
    generator = generator or ProceduralGenerator()
    return generate_images(prompts, generator, folder, NAMES, images_per_class=n, shard_size=16, engine=engine)


class Started(ProceduralGenerator):
    """Half of it is the image it starts from."""

    def size(self):
        return self.height, self.width

    def __call__(self, prompts, seeds, init=None):
        return [image // 2 + own // 2 for image, own in zip(super().__call__(prompts, seeds), init, strict=True)]


class Slow(ProceduralGenerator):
    """Takes its time: ``delay`` seconds for 4 images."""

    batch_size = 4
    delay = 0.1

    def __call__(self, prompts, seeds, init=None):
        time.sleep(self.delay)
        return super().__call__(prompts, seeds)


class OnTwoMachines(ProceduralGenerator):
    """Begins when two machines of a cluster work, which it notes with their GPU in ``folder``; at one seed, once, its machine leaves."""

    batch_size = 4

    def __init__(self, folder: Path, seed: int):
        super().__init__()
        self.folder, self.seed = folder, seed

    def __call__(self, prompts, seeds, init=None):
        import ray

        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{node} {os.environ['CUDA_VISIBLE_DEVICES']}").touch()
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        mark = self.folder / "left"
        if self.seed in seeds and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGTERM)  # what is told to a machine that is taken away
            time.sleep(60)
        return super().__call__(prompts, seeds)


class Hiccup(ProceduralGenerator):
    """Fails at one seed."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def __call__(self, prompts, seeds, init=None):
        if self.seed in seeds:
            raise RuntimeError("hiccup")
        return super().__call__(prompts, seeds)


class Elsewhere(ProceduralGenerator):
    """Finds in the worker that it cannot work there."""

    def __setstate__(self, state):
        raise FigmentError("The model is another one here.")


def broken_job(piece, advance):
    advance(3)
    if piece == "bad":
        raise TwoPartError("lost", "sea")
    return piece.upper()


def stillborn(pipe):
    pipe.close()
    time.sleep(0.1)
    os._exit(3)


def die_once(piece, advance):
    advance(2)
    if "mark" in piece and not Path(piece).exists():
        Path(piece).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return broken_job(piece, advance)


def environment(piece, advance):
    time.sleep(0.2)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"), "torch" in sys.modules
