"""Bad input, a case each: what is given, and what must come of it.

``PYTHONPATH=src python tests/hostile.py [GROUP...]`` tries all of them, or those of some groups, and writes down what each got, in
``docs/bad_input.md``.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from figment import guard, shards, starter
from figment.encoders import Features
from figment.errors import FigmentError
from figment.images_in import open_images, open_shards
from figment.images_in.unreadable import check_enough_is_left, named
from figment.progress import ConsoleHandler
from figment.recipe import Recipe, load_recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.shots import draw_shots, write_split
from figment.studies.arms import arm_runs
from figment.studies.table import run_table
from figment.types import Prompt, Sample
from figment.words import printable
from rasters import tiff

ROOT = os.geteuid() == 0  # whom no permission stops
LIMIT = 60.0  # seconds a case may take at most, on a busy machine; most take a tenth of one
CLASSES = ["cat", "dog"]
GOOD = 12  # good photographs a class beside the odd one


class Lost(AssertionError):
    """Something of the user's changed, or a row went missing without a word."""


# ---- what is done with bad input -------------------------------------------------------------------------------------


class MeanColour:
    """The smallest encoder: an image's mean colour."""

    fingerprint, logit_scale = "mean", 1.0

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([image.mean((0, 1)) for image in images]).astype(np.float32)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[: len(texts)]


@dataclass
class Bench:
    """A folder with the user's ``inputs``, which nothing may touch, and a place for what is made of them."""

    folder: Path
    clip: Path

    def __post_init__(self) -> None:
        self.inputs = self.folder / "in"
        self.inputs.mkdir()

    @contextmanager
    def untouched(self) -> Iterator[None]:
        before = snapshot(self.inputs)
        try:
            yield
        finally:
            if snapshot(self.inputs) != before:
                raise Lost("the inputs changed")

    def file(self, name: str, data: bytes | str) -> Path:
        path = self.inputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    # ---- photographs

    def photographs(self) -> Path:
        """Class folders with good photographs; returns the one of the cats."""
        for label, name in enumerate(CLASSES):
            for i in range(GOOD):
                self.file(f"{name}/{i:02d}.png", png(solid(100 * label, 20 * i, 40)))
        return self.inputs / "cat"

    def read(self, where: Path | None = None) -> str:
        """Open the folder as a run does: what can be read, and by name what cannot."""
        with self.untouched():
            given = open_images(where or self.inputs, CLASSES)
            left, unreadable = Features(MeanColour()).readable(given)
            if len(left) + len(unreadable) != len(given):
                raise Lost(f"{len(given)} images became {len(left)} and {len(unreadable)}")
            check_enough_is_left(unreadable, given.labels, left.labels, CLASSES, "task.real.test")
        if unreadable:
            return f"named skip: {named(unreadable)}; the other {len(left)} are used"
        odd = [i for i in range(len(left)) if "odd" in left.ids[i]]
        if not odd:
            return f"works: {len(left)} images"
        image = left.load(odd)[0]
        colour = ", ".join(f"{c:.0f}" for c in image.mean((0, 1)))
        return f"works: read as {image.shape[1]} x {image.shape[0]} pixels of mean colour ({colour})"

    def odd(self, data: bytes, name: str = "odd.png") -> str:
        """One odd file among good photographs."""
        self.photographs()
        self.file(f"cat/{name}", data)
        return self.read()

    # ---- recipes

    def recipe(self, text: str | bytes, changes: Sequence[str] = (), show: str = "name") -> str:
        path = self.file("recipe.yaml", text)
        with self.untouched():
            recipe = load_recipe(path, changes)
        value: Any = recipe
        for part in show.split("."):
            value = getattr(value, part)
        return f"works: {show} is {str(value)[:60]!r}"

    def arms(self, text: str) -> str:
        recipe = load_recipe(self.file("recipe.yaml", TASK + text))
        return f"works: {sorted(arm_runs(recipe, self.folder))}"

    # ---- whole runs

    def data(self, **task: Any) -> dict[str, Any]:
        return {
            "task": {"class_names": CLASSES, **task},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 3, "height": 8, "width": 8},
            "filters": [{"kind": "blank"}, {"kind": "clip", "rule": "top_k", "k": 2}],
            "train": {"kind": "clip_head", "encoder": str(self.clip), "epochs": 1, "min_steps": 5, "seeds": 1},
            "evaluate": {"exchange_rate": False, "real_all": False},
        }

    def run(
        self, changes: dict[str, Any] | None = None, out: str = "out", *, allow_plugins: bool = True, **task: Any
    ) -> str:
        """A whole run with real test images; every row, file and line of it is looked at."""
        names = task.get("class_names", CLASSES)
        rng = np.random.default_rng(0)
        samples = [
            Sample(f"{i}", "", "", i % len(names), 0, "", rng.integers(0, 256, (8, 8, 3), np.uint8))
            for i in range(2 * len(names))
        ]
        recipe = validate({**self.data(**task), **(changes or {})}, "recipe.yaml")
        table = shards.sample_table([shards.sample_row(s) for s in samples], names).select(
            ["image", "label"]
        )  # as photographs lie there
        self.file("test/train-0.parquet", shards.parquet(table))
        recipe = recipe.changed({"task.real.test": str(self.inputs / "test")})
        said = io.StringIO()
        with self.untouched(), redirect_stdout(said):
            run_recipe(recipe, self.folder / out, allow_plugins=allow_plugins)
        check_run(self.folder / out, recipe)
        check_terminal(said.getvalue())
        strangers = sorted(p.name for p in self.folder.iterdir() if p.name not in ("in", Path(out).parts[0]))
        if strangers:
            raise Lost(f"files outside of the run's folder: {strangers}")
        notes = [line.strip() for line in said.getvalue().splitlines() if "longer than" in line]
        return f"works: {3 * len(names)} images, report well-formed" + "".join(f"; says: {n}" for n in notes)

    # ---- runs with a few real images, and tables of runs

    def real(self, split: str = "train", blue: int = 40) -> dict[str, Any]:
        """``task.real`` with training images, 12 of each class; or with those of another split, in another colour."""
        for label, name in enumerate(CLASSES):
            for i in range(GOOD):
                self.file(f"{split}/{name}/{i:02d}.png", png(solid(100 * label, 20 * i, blue)))
        return {split: str(self.inputs / split)}

    def early(self, changes: dict[str, Any] | None = None, **task: Any) -> str:
        """A run that must be refused before a prompt or an image is made."""
        try:
            return self.run(changes, **task)
        except FigmentError:
            if any((self.folder / "out" / part).exists() for part in ("prompts", "images", "recipe.yaml")):
                raise Lost("it was refused too late: prompts or images are there already") from None
            raise

    def few(self, changes: dict[str, Any] | None = None, shots: Any = 2, **task: Any) -> str:
        """The same with ``few_shot``."""
        few = shots if isinstance(shots, dict) else {"shots": shots}
        return self.early({"few_shot": few, **(changes or {})}, **{"real": self.real(), **task})

    def split(self, text: str | bytes) -> str:
        """The same with a split file."""
        return self.few(shots={"split": str(self.file("split.json", text))})

    def own_split(self, change: Callable[[Any], Any] = lambda split: split, seed: int = 0) -> str:
        """A split file as a run publishes it, changed."""
        pool = open_images(Path(self.real()["train"]), CLASSES)
        write_split(self.folder / "published.json", pool, draw_shots(pool.labels, 2, seed))
        split = json.loads((self.folder / "published.json").read_text())
        (self.folder / "published.json").unlink()
        return self.split(json.dumps(change(split)))

    def table_recipe(self, changes: dict[str, Any] | None = None, **table: Any) -> Recipe:
        data = self.data(real={**self.real(), **self.real("test", blue=80)})
        own = {"title": "t", "seeds": 1, "rows": {"a": {}}, "columns": {"x": {}}, **table}
        return validate({**data, **(changes or {}), "table": own}, "recipe.yaml")

    def table(self, changes: dict[str, Any] | None = None, **table: Any) -> str:
        """A table of runs. Where it is refused, nothing has been made."""
        recipe = self.table_recipe(changes, **table)
        try:
            with redirect_stdout(io.StringIO()) as said, self.untouched():
                page = run_table(recipe, self.folder / "out")
        except FigmentError:
            if any((self.folder / "out" / part).exists() for part in ("cells", "images", "recipe.yaml")):
                raise Lost("it was refused too late: runs have begun") from None
            raise
        check_terminal(said.getvalue())
        check_page((self.folder / "out" / "report.html").read_text(encoding="utf-8"))
        return f"works: {len(page.cells)} cells"

    def finished_table(self, then: Callable[[Path], object], *arguments: str) -> str:
        """A table that was run; then something happens to its folder, and a command is given."""
        path = self.file("table.yaml", self.table_recipe().to_yaml())
        out = self.folder / "out"
        self.figment("run", path, "--out", out)
        then(out)
        got = self.figment(*(str(out) if a == "OUT" else str(path) if a == "RECIPE" else a for a in arguments))
        if (out / "report.html").is_file():
            check_page((out / "report.html").read_text(encoding="utf-8"))
        return got

    def encoder(self, damage: Callable[[Path], object], which: str = "clip_rn", **changes: Any) -> str:
        """A run with a copy of a good encoder, to which something was done."""
        copy = self.inputs / "encoder"
        shutil.copytree(self.clip if which == "clip" else starter.folder(which), copy)
        damage(copy)
        train = {"encoder": str(copy), "epochs": 1, "min_steps": 5, "seeds": 1, **changes}
        return self.early({"train": train})

    # ---- commands

    def figment(self, *arguments: object) -> str:
        """The command in this process. A traceback is one here too."""
        from figment.cli import main

        said = io.StringIO()
        before, sys.argv = sys.argv, ["figment", *map(str, arguments)]
        try:
            with self.untouched(), redirect_stdout(said), redirect_stderr(said):
                main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.argv = before
        return outcome(code, said.getvalue())

    def shell(self, command: str, **environment: str | None) -> str:
        """The command in a process of its own; ``FIGMENT`` in it stands for the program."""
        program = f"{sys.executable} -m figment.cli"
        inherited = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
        with self.untouched():
            done = subprocess.run(
                ["bash", "-c", f"set -o pipefail; {command.replace('FIGMENT', program)}"],
                cwd=self.folder,
                env={k: v for k, v in inherited.items() if v is not None},
                capture_output=True,
                timeout=LIMIT,
                check=False,
            )
        return outcome(done.returncode, (done.stdout + done.stderr).decode(errors="backslashreplace"))


def outcome(code: int | None, said: str) -> str:
    check_terminal(said)
    if "Traceback" in said:
        raise Lost(f"a traceback: {said[-600:]}")
    text = " ".join(said.split())
    if not code:
        return f"works: {text[:160]}"
    start = text.find("Error: ")
    return f"error: {text[start + 7 :] if start >= 0 else text or f'(silent, exit status {code})'}"


# ---- what must hold --------------------------------------------------------------------------------------------------


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Ends what waits for ever, such as the opening of a named pipe: the test fails, and the others go on."""

    def late(number: int, frame: object) -> None:
        raise Lost(f"it takes longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def snapshot(folder: Path) -> dict[str, Any]:
    """Every entry below a folder, what it holds and when it was written; nothing is followed or waited for."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*"), key=str):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path)] = path.readlink()
        elif stat.S_ISREG(mode) and os.access(path, os.R_OK, effective_ids=True):
            found[str(path)] = path.stat().st_mtime_ns, path.read_bytes()
        else:
            found[str(path)] = mode
    return found


def check_run(folder: Path, recipe: Recipe) -> None:
    """No row is missing, class names and prompts are those that were given, and every file has a plain name."""
    images, names = open_shards(folder / "images")
    wanted = recipe.generate.images_per_class * len(recipe.task.class_names)
    if names != recipe.task.class_names or len(images) != wanted or len(set(images.ids)) != wanted:
        raise Lost(f"{len(images)} images of {wanted}, class names {names}")
    for path in folder.rglob("*"):
        if not re.fullmatch(r"[\w.-]+", path.name, re.ASCII):
            raise Lost(f"a file called {path.name!r}")
    check_page((folder / "report.html").read_text(encoding="utf-8"))
    wanted_command = ["figment", "run", str(folder / "resolved.yaml"), "--out", f"{folder}-again"]
    if shlex.split(report_of(folder).command) != wanted_command:
        raise Lost(f"a shell would read the report's command as {shlex.split(report_of(folder).command)}")
    yaml.safe_load((folder / "images" / "README.md").read_text(encoding="utf-8").split("---")[1])
    if load_recipe(folder / "resolved.yaml") != recipe:
        raise Lost("the resolved recipe is another one")


def check_terminal(said: str) -> None:
    found = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)
    if found:
        raise Lost(f"a terminal was sent {found[0]!r}")


class Page(HTMLParser):
    """Everything of a page that could run, load or lead somewhere, and whether its tags are balanced."""

    VOID = {"meta", "img", "br", "hr", "input", "link"}
    TAGS = re.compile(
        "html|head|meta|title|style|body|header|main|footer|section|nav|div|span|p|h[123]|ul|li|a|dl|dt|dd|table|caption|thead|tbody"
        "|tfoot|tr|th|td|figure|figcaption|pre|code|small|strong|b|i|em|bdi|img|svg|g|line|path|circle|rect|text|polyline|polygon|desc"
    )
    RUNS = re.compile(r"on|style$|srcset|srcdoc|formaction|action|ping|xlink|background|data$|http-equiv")

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if not self.TAGS.fullmatch(tag):
            self.wrong.append(f"<{tag}>")
        for name, value in attributes:
            allowed = {"style": tag != "meta", "http-equiv": value == "Content-Security-Policy"}.get(name)
            # Charts place their marks by style: numbers and percentages, never a name.
            plain = name == "style" and re.fullmatch(r"[\w\s:;.%,()+*/-]*", value or "") and "url" not in (value or "")
            if self.RUNS.match(name) and not (allowed and (name != "style" or plain)):
                self.wrong.append(f"{name}={value!r}")
            if name == "href" and not re.fullmatch(r"#[a-z]+", value or ""):
                self.wrong.append(f"href={value!r}")
            if name == "src" and not re.fullmatch(r"data:image/png;base64,[\w+/=]+", value or ""):
                self.wrong.append(f"src={value!r}")
            if not re.fullmatch(r"[a-zA-Z][\w-]*", name):
                self.wrong.append(f"attribute {name!r}")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_decl(self, text: str) -> None:
        if text.lower() != "doctype html":
            self.wrong.append(f"<!{text}>")

    def unknown_decl(self, text: str) -> None:
        self.wrong.append(f"<![{text}]>")

    def handle_pi(self, text: str) -> None:
        self.wrong.append(f"<?{text}>")

    def handle_comment(self, text: str) -> None:
        self.wrong.append(f"<!--{text}-->")


def check_page(html: str) -> None:
    wrong = Page(html).wrong
    if wrong:
        raise Lost(f"the report holds {wrong[:3]}")
    if any(c in html for c in map(chr, [*range(9), *range(11, 32), 127])):
        raise Lost("the report holds control characters")


# ---- images --------------------------------------------------------------------------------------------------------


def solid(*colour: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour if len(colour) > 1 else colour[0])


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(image: Image.Image, **options: Any) -> bytes:
    return saved(image, "PNG", **options)


def noise(kind: str = "PNG", side: int = 64, **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    return saved(Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)), kind, **options)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def flipped(data: bytes, share: float = 0.5) -> bytes:
    """Some bytes in the middle are others."""
    at = int(len(data) * share)
    return data[:at] + bytes(b ^ 0xFF for b in data[at : at + 8]) + data[at + 8 :]


def lying_png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A small file whose header says it is large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def upright(orientation: int) -> bytes:
    """A photograph, red at its top left corner once it is upright, stored as a camera held otherwise would."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30] = (250, 0, 0)
    turn: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    return saved(Image.fromarray(np.ascontiguousarray(turn[orientation](image))), "JPEG", exif=exif, quality=95)


def turned(bench: Bench, orientation: int) -> str:
    bench.odd(upright(orientation), "odd.jpg")
    images = open_images(bench.inputs, CLASSES)
    image = images.load([images.ids.index("cat/odd.jpg")])[0]
    if image.shape != (40, 60, 3) or image[:15, :25, 0].mean() < 230 or image[25:].mean() > 20:
        raise Lost("the image does not stand upright")
    return "works: 60 x 40 pixels, upright"


def animated(kind: str) -> bytes:
    frames = [solid(250, 0, 0, size=(16, 16)), solid(0, 0, 250, size=(16, 16))]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def palette() -> bytes:
    image = solid(10, 200, 30).quantize(4)
    return png(image, transparency=image.getpixel((0, 0)))


def special(make: Callable[[Path], object], name: str = "odd.jpg") -> Callable[[Bench], str]:
    def case(bench: Bench) -> str:
        make(bench.photographs() / name)
        return bench.read()

    return case


def secret(path: Path) -> None:
    path.write_bytes(noise("JPEG"))
    path.chmod(0)


def bounded(kind: str, most: int, do: Callable[[Bench], str]) -> Callable[[Bench], str]:
    """A case with a lower bound for a kind of file."""

    def case(bench: Bench) -> str:
        with mock.patch.dict(guard.MOST, {kind: most}):
            return do(bench)

    return case


def vanishing(bench: Bench) -> str:
    path = bench.photographs() / "odd.png"
    path.write_bytes(noise())
    images = open_images(bench.inputs, CLASSES)
    path.unlink()
    left, unreadable = Features(MeanColour()).readable(images)
    return f"named skip: {named(unreadable)}; the other {len(left)} are used"


def lowered(module: str, limit: str, value: int, do: Callable[[Bench], str]) -> Callable[[Bench], str]:
    """A case with a lower limit, so that a small file passes it."""

    def case(bench: Bench) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[module], limit, value)
            return do(bench)

    return case


def broken_ones(count: int) -> Callable[[Bench], str]:
    def case(bench: Bench) -> str:
        cats = bench.photographs()
        for i in range(count):
            (cats / f"{i:02d}.png").write_bytes(b"")
        return bench.read()

    return case


def raw_name(name: bytes) -> Callable[[Bench], str]:
    def case(bench: Bench) -> str:
        folder = os.fsencode(bench.photographs())
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(noise())
        return bench.read()

    return case


def mixed(bench: Bench) -> str:
    """Files that are no images, and photographs in folders of folders."""
    cats = bench.photographs()
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._00.png", "notes.txt", "IMG_1.CR2"):
        (cats / name).write_bytes(b"\0\0")
    (cats / "2021" / "May").mkdir(parents=True)
    (cats / "2021" / "May" / "SHOUTED.JPG").write_bytes(noise("JPEG"))
    return bench.read()


# ---- data sets -------------------------------------------------------------------------------------------------------


def parquet(bench: Bench, huggingface: bytes | None = None, **columns: Any) -> str:
    table = pa.table(columns, metadata=None if huggingface is None else {b"huggingface": huggingface})
    with (bench.inputs / "data.parquet").open("wb") as file:
        pq.write_table(table, file)
    return bench.read()


def two_splits(bench: Bench) -> str:
    for split in ("train", "test"):
        parquet(bench, image=cells(), label=[i % 2 for i in range(24)])
        (bench.inputs / "data.parquet").rename(bench.inputs / f"{split}-00000-of-00001.parquet")
    return bench.read()


def cells(n: int = 24) -> list[dict[str, Any]]:
    return [{"bytes": png(solid(i, 0, 0)), "path": f"{i}.png"} for i in range(n)]


def with_cell(value: Any) -> Callable[[Bench], str]:
    def case(bench: Bench) -> str:
        images = cells()
        images[3] = value
        return parquet(bench, image=images, label=[i % 2 for i in range(24)])

    return case


def text_file(name: str, text: str | bytes) -> Callable[[Bench], str]:
    """A table or tar that names or holds photographs, beside the photographs."""

    def case(bench: Bench) -> str:
        bench.photographs()
        path = bench.file(name, text)
        return bench.read(path if path.suffix in (".csv", ".tar") else None)

    return case


def pipe(name: str, whole: bool = False) -> Callable[[Bench], str]:
    """A named pipe, named itself or (``whole``) by its folder."""

    def case(bench: Bench) -> str:
        os.mkfifo(bench.inputs / name)
        return bench.read(None if whole else bench.inputs / name)

    return case


def tarred(record: str, odd: bytes = b"") -> Callable[[Bench], str]:
    """A tar of samples whose first has this JSON; with a member of another type, if one is named."""

    def case(bench: Bench) -> str:
        with tarfile.open(bench.inputs / "data.tar", "w") as tar:
            for i in range(24):
                told = record if i == 0 else json.dumps({"class_name": CLASSES[i % 2]})
                for extension, data in (("png", png(solid(10 * i, 0, 0))), ("json", told.encode())):
                    info = tarfile.TarInfo(f"{i}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            if odd:
                info = tarfile.TarInfo("99.png")
                info.type = odd
                tar.addfile(info)
        return bench.read()

    return case


def damaged_run(part: str, damage: Callable[[bytes], bytes]) -> Callable[[Bench], str]:
    """A run's own file is damaged, then the report is asked for."""

    def case(bench: Bench) -> str:
        bench.run()
        path = bench.folder / "out" / part
        path.write_bytes(damage(path.read_bytes()))
        return bench.figment("report", bench.folder / "out")

    return case


# ---- writers and generators of others --------------------------------------------------------------------------------


@dataclass
class Writer:
    """A writer of prompts by somebody else: whatever it is told to say."""

    ids: Sequence[str] = ("a", "b")
    text: str = "a photo"
    labels: Sequence[int] = (0, 1)

    def __call__(self, task: Any, n: int, rng: np.random.Generator) -> list[Prompt]:
        return [Prompt(id, self.text, label, id) for id, label in zip(self.ids, self.labels, strict=True)]


@dataclass
class Surrogates:
    """Half a surrogate pair cannot travel in YAML or JSON to a writer, so this one brings it along."""

    def __call__(self, task: Any, n: int, rng: np.random.Generator) -> list[Prompt]:
        return Writer(text="half \ud83d")(task, n, rng)


def writer(**options: Any) -> Callable[[Bench], str]:
    return lambda bench: bench.run({"prompts": {"kind": "hostile:Writer", "options": options}})


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """``expected`` is a regular expression that what comes of it must begin with."""

    group: str
    kind: str
    do: Callable[[Bench], str]
    expected: str
    skip: bool = False

    @property
    def id(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.group} {self.kind}".lower()).strip("-")


def named_so(*names: str) -> Callable[[Bench], str]:
    return lambda bench: bench.run(class_names=[*names, "cat"])


def says(**task: Any) -> Callable[[Bench], str]:
    return lambda bench: bench.run(**task)


XSS = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
NAMES = [
    Case("class names", "slashes, dots and a way up", named_so("../../etc/passwd", "a/b", "..", "."), "works"),
    Case("class names", "shell characters", named_so("$(touch pwned)", "`id`", "; rm -rf ~ #", "a|b&c>d"), "works"),
    Case("class names", "quotes and backslashes", named_so("it's", '"quoted"', "back\\slash", "%s%n{0}{}"), "works"),
    Case("class names", "HTML with a script", named_so(XSS, "</style><script>x</script>", "<svg onload=x>"), "works"),
    Case("class names", "HTML that breaks comments and data", named_so("]]>", "--><b>", "<!--", "&lt;b&gt;"), "works"),
    Case("class names", "a javascript: address", named_so("javascript:alert(1)", "[x](javascript:alert(1))"), "works"),
    Case("class names", "template and markup code", named_so("{{ 7*7 }}", "{% raw %}", "[/red] [bold]"), "works"),
    Case("class names", "YAML and Markdown", named_so("- a: [b]", "# head", "---", "| a | b |", "*x* _y_"), "works"),
    Case("class names", "words that look like numbers", named_so("1", "1.5", "null", "no", "2020-01-01"), "works"),
    Case("class names", "right-to-left", named_so("معطف", "כלב", "mixed معطف and coat"), "works"),
    Case("class names", "emoji", named_so("🐱", "👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"), "works"),
    Case("class names", "Chinese, Japanese, Korean, Thai", named_so("猫", "ねこ", "고양이", "แมว"), "works"),
    Case("class names", "10,000 characters", named_so("x" * 10_000), "works.*longer than the classifier reads"),
    Case("class names", "reserved names of Windows", named_so("CON", "nul", "a:b", "trailing. "), "works"),
    Case("class names", "stacked accents", named_so("Z" + "\u0351" * 200), "works"),
    Case("class names", "a terminal's escape sequences", named_so("\x1b[31mred\x1b]0;title\x07"), "error.*control char"),
    Case("class names", "a zero byte", named_so("a\0b"), "error.*control character"),
    Case("class names", "a newline", named_so("two\nlines"), "error.*one line of text"),
    Case("class names", "a line separator of Unicode", named_so("two\u2028lines"), "error.*one line of text"),
    Case("class names", "a direction override", named_so("\u202egnp.tac"), "error.*control character"),
    Case("class names", "half a surrogate pair", named_so("half \ud83d"), "error.*control character"),
    Case("class names", "nothing but zero-width characters", named_so("\u200b\u2060"), "error.*nothing of it can be se"),
    Case("class names", "empty, and spaces alone", named_so("", "  "), "error.*empty"),
    Case("class names", "the same but for case", named_so("Cat"), "error.*each class once"),
    Case("class names", "the same but for ß and ss", named_so("straße", "STRASSE"), "error.*each class once"),
    Case("class names", "the same in two Unicode forms", named_so("cafe\u0301", "caf\u00e9"), "error.*each class once"),
    Case("class names", "the same in full-width letters", named_so("ｃａｔ"), "error.*each class once"),
    Case("class names", "the same but for a zero-width space", named_so("c\u200bat"), "error.*each class once"),
    Case("class names", "no, on, null, 1 and 1.5 without quotes", lambda b: b.recipe("task: {class_names: [no, on, null, 1, 1.5]}"), "error.*5 mistakes.*put them in quotes"),
    Case("class names", "a date without quotes", lambda b: b.recipe("task: {class_names: [2020-01-01, cat]}"), "error.*put them in quotes"),
    Case("class names", "1,000 numbers without quotes", lambda b: b.recipe(f"task: {{class_names: {list(range(1000))}}}"), "error.*1,000 mistakes.*and 980 more.*quotes"),
    Case("class names", "a list in the list", lambda b: b.recipe("task: {class_names: [[a, b], c]}"), "error.*valid string"),
    Case("class names", "2,000 of them", lambda b: b.recipe(yaml.safe_dump({"task": {"class_names": [f"class {i}" for i in range(2000)]}}), show="seed"), "works"),
]  # fmt: skip

PROMPTS = [
    Case("prompts", "HTML and shell in a template", says(templates=[XSS + " {} $(touch pwned)"]), "works"),
    Case("prompts", "control characters and newlines in a template", says(templates=["\x1b[2J a\n{}\t\x07"]), "works"),
    Case("prompts", "a zero byte in a template", says(templates=["a \0 {}"]), "error.*no text can hold"),
    Case("prompts", "half a surrogate pair in a context", says(contexts=["half \ud83d"]), "error.*no text can hold"),
    Case("prompts", "no {} in a template, or two", says(templates=["a photo", "{} {}"]), "error.*2 mistakes.*once"),
    Case("prompts", "two templates that are the same", says(templates=["a {}", "a {}"]), "works"),
    Case("prompts", "empty words", says(synonyms={"cat": [""]}, attributes={"": [""]}, contexts=[""]), "works"),
    Case("prompts", "10,000 characters, a real generator", lambda b: b.run({"generate": {"images_per_class": 3, "num_inference_steps": 1}}, templates=["a {} " + "very " * 2000]), "works.*2 of 2 prompts are longer than the generator reads"),
    Case("prompts", "of a plug-in, with ids that lead out of the folder", writer(ids=["../../a", "b"]), "error.*short relative path"),
    Case("prompts", "of a plug-in, with an absolute id", writer(ids=["/etc/a", "b"]), "error.*short relative path"),
    Case("prompts", "of a plug-in, with one id twice", writer(ids=["a", "a"]), "error.*the same id"),
    Case("prompts", "of a plug-in, for a class that there is not", writer(labels=[0, 7]), "error.*labels run from 0 to 1"),
    Case("prompts", "of a plug-in, with half a surrogate pair", lambda b: b.run({"prompts": {"kind": "hostile:Surrogates"}}), "error.*no text can hold"),
    Case("prompts", "of a plug-in, with HTML and control characters", writer(text=XSS + "\x1b[2J\u202e"), "works"),
    Case("prompts", "a plug-in that nobody has allowed", lambda b: b.run({"prompts": {"kind": "hostile:Writer"}}, allow_plugins=False), "error.*names code to be run: hostile:Writer from .*--allow-plugins"),
    Case("prompts", "a plug-in that is not there", lambda b: b.run({"prompts": {"kind": "os.path:no_such"}}), "error.*cannot be loaded"),
]  # fmt: skip

JPEG, PNG = noise("JPEG", quality=95), noise()
PICTURES = [
    *(Case("photographs", f"a JPEG cut off after {share:.3g} of it", lambda b, s=share: b.odd(cut(JPEG, s), "odd.jpg"), "named skip.*(cut off|no format|damaged)") for share in (0.01, 0.25, 0.5, 0.9)),
    *(Case("photographs", f"a PNG cut off after {share:.3g} of it", lambda b, s=share: b.odd(cut(PNG, s)), "named skip.*(cut off|no format|damaged)") for share in (0.002, 0.25, 0.5, 0.9)),
    Case("photographs", "a GIF cut off", lambda b: b.odd(cut(noise("GIF"), 0.5), "odd.gif"), "named skip"),
    Case("photographs", "a WebP cut off", lambda b: b.odd(cut(noise("WEBP"), 0.5), "odd.webp"), "named skip"),
    Case("photographs", "a TIFF cut off", lambda b: b.odd(cut(noise("TIFF"), 0.5), "odd.tif"), "named skip"),
    Case("photographs", "a PNG with flipped bytes", lambda b: b.odd(flipped(PNG)), "named skip"),
    Case("photographs", "a CMYK JPEG", lambda b: b.odd(saved(solid(220, 30, 30).convert("CMYK"), "JPEG"), "odd.jpg"), r"works.*\(2\d\d, \d\d, \d\d\)"),
    Case("photographs", "a 16-bit grey PNG", lambda b: b.odd(png(Image.fromarray(np.full((4, 6), 25700, np.uint16)))), r"works.*\(100, 100, 100\)"),
    Case("photographs", "a 16-bit grey PNG with transparency", lambda b: b.odd(png(Image.fromarray(np.full((4, 6), 25700, np.uint16)), transparency=25700)), r"works.*\(255, 255, 255\)"),
    Case("photographs", "a 16-bit TIFF", lambda b: b.odd(saved(Image.fromarray(np.full((4, 6), 25700, np.uint16)), "TIFF"), "odd.tif"), r"works.*\(100, 100, 100\)"),
    Case("photographs", "a 16-bit colour PNG", lambda b: b.odd(sixteen_bit_colour()), r"works.*\(100, 0, 200\)"),
    Case("photographs", "a 32-bit TIFF", lambda b: b.odd(saved(Image.fromarray(np.full((4, 6), 10**9, np.int32)), "TIFF"), "odd.tif"), "named skip.*32-bit"),
    Case("photographs", "a floating-point TIFF", lambda b: b.odd(saved(Image.fromarray(np.full((4, 6), 0.5, np.float32)), "TIFF"), "odd.tif"), "named skip.*floating-point"),
    Case("photographs", "a 16-bit TIFF of negative numbers", lambda b: b.odd(tiff(np.full((4, 6), -5, np.int16), {262: 1, 339: 2}), "odd.tif"), "named skip.*below zero"),
    Case("photographs", "a TIFF of 13 bands", lambda b: b.odd(tiff(np.zeros((4, 6, 13), np.uint8), {262: 1}), "odd.tif"), "named skip.*13 bands"),
    Case("photographs", "a TIFF with infrared for a fourth band", lambda b: b.odd(tiff(np.full((4, 6, 4), (200, 100, 50, 80), np.uint8), {262: 2}), "odd.tif"), r"works.*\(200, 100, 50\)"),
    Case("photographs", "1 bit a pixel", lambda b: b.odd(png(solid(1, mode="1"))), r"works.*\(255, 255, 255\)"),
    Case("photographs", "grey", lambda b: b.odd(png(solid(77, mode="L"))), r"works.*\(77, 77, 77\)"),
    Case("photographs", "grey with transparency", lambda b: b.odd(png(solid(0, 0, mode="LA"))), r"works.*\(255, 255, 255\)"),
    Case("photographs", "a palette with transparency", lambda b: b.odd(palette()), r"works.*\(255, 255, 255\)"),
    Case("photographs", "colour with transparency", lambda b: b.odd(png(solid(255, 0, 0, 0, mode="RGBA"))), r"works.*\(255, 255, 255\)"),
    Case("photographs", "YCbCr and LAB TIFF", lambda b: b.odd(saved(solid(50, 128, 128, mode="LAB"), "TIFF"), "odd.tif"), "(works|named skip)"),
    *(Case("photographs", f"an animated {kind}", lambda b, k=kind: b.odd(animated(k), f"odd.{k.lower()}"), r"works.*\(2\d\d, \d, \d\)") for kind in ("GIF", "PNG", "WEBP")),
    *(Case("photographs", f"turned by EXIF, orientation {o}", lambda b, o=o: turned(b, o), "works.*upright") for o in range(1, 9)),
    Case("photographs", "a broken EXIF block", lambda b: b.odd(saved(solid(9, 9, 9), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "odd.jpg"), "works"),
    Case("photographs", "1 x 1 pixel", lambda b: b.odd(png(solid(1, 2, 3, size=(1, 1)))), "works: read as 1 x 1"),
    Case("photographs", "1 x 10,000 pixels", lambda b: b.odd(png(solid(1, 2, 3, size=(1, 10_000)))), "works: read as 1 x 10000"),
    Case("photographs", "more pixels than the limit", lowered("figment.images_in.decode", "MOST_PIXELS", 900, lambda b: b.odd(png(solid(1, 2, 3, size=(31, 31))))), "named skip.*more than 900 pixels"),
    Case("photographs", "a header of more pixels than the limit", lowered("figment.images_in.decode", "MOST_PIXELS", 900, lambda b: b.odd(lying_png(31, 31))), "named skip.*more than 900 pixels"),
    Case("photographs", "a header that lies, below the limit", lambda b: b.odd(lying_png(90, 90)), "named skip"),
    Case("photographs", "a header of 0 x 0 pixels", lambda b: b.odd(lying_png(0, 0)), "named skip"),
    Case("photographs", "a comment longer than Pillow's limit once it is unpacked", lowered("PIL.PngImagePlugin", "MAX_TEXT_CHUNK", 1000, lambda b: b.odd(with_comment(2000))), "(named skip|works)"),
    Case("photographs", "more EXIF than the limit", lowered("figment.images_in.decode", "MOST_EXIF", 1000, lambda b: b.odd(saved(solid(9, 9, 9), "JPEG", exif=b"Exif\0\0II*\0" + bytes(2000)), "odd.jpg")), "named skip.*1,000 bytes of EXIF"),
    Case("photographs", "a file larger than the limit", bounded("image", 10_000, lambda b: b.odd(noise())), "named skip.*too large.*10,000"),
    Case("photographs", "an empty file", lambda b: b.odd(b""), "named skip.*an empty file"),
    Case("photographs", "zeros alone", lambda b: b.odd(bytes(4096), "odd.jpg"), "named skip.*zeros"),
    Case("photographs", "text named .jpg", lambda b: b.odd(b"no image\n" * 9, "odd.jpg"), "named skip.*no format known"),
    Case("photographs", "a web page named .jpg", lambda b: b.odd(b"<!DOCTYPE html><html>404", "odd.jpg"), "named skip.*a web page"),
    Case("photographs", "an SVG", lambda b: b.odd(b'<?xml version="1.0"?>\n<svg/>', "odd.svg"), "named skip.*SVG"),
    Case("photographs", "a HEIC photograph", lambda b: b.odd(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "IMG_odd.HEIC"), "named skip.*HEIC"),
    Case("photographs", "a PDF named .png", lambda b: b.odd(b"%PDF-1.7\n%\xe2\xe3", "odd.png"), "named skip.*a PDF"),
    Case("photographs", "PostScript named .jpg, which would be run", lambda b: b.odd(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "odd.jpg"), "named skip.*PostScript"),
    Case("photographs", "a pointer of Git LFS", lambda b: b.odd(b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "odd.jpg"), "named skip.*git lfs pull"),
    Case("photographs", "a zip named .png", lambda b: b.odd(b"PK\x03\x04" + bytes(99)), "named skip.*zip"),
    Case("photographs", "random bytes", lambda b: b.odd(np.random.default_rng(1).bytes(9999), "odd.jpg"), "named skip.*no format"),
    Case("photographs", "a suffix that is not the content's", lambda b: b.odd(noise("PNG"), "odd.jpg"), "works"),
    Case("photographs", "a suffix in capitals", lambda b: b.odd(JPEG, "odd.JPeG"), "works"),
    Case("photographs", "a folder named x.jpg", special(lambda p: p.mkdir()), "works: 24 images"),
    Case("photographs", "a link that leads nowhere", special(lambda p: p.symlink_to("gone.jpg")), "named skip.*leads nowhere"),
    Case("photographs", "a link that leads to itself", special(lambda p: p.symlink_to(p.name)), "named skip"),
    Case("photographs", "a link to a device, /dev/null", special(lambda p: p.symlink_to("/dev/null")), "named skip.*not a regular file"),
    Case("photographs", "a named pipe, which would be waited for", special(lambda p: os.mkfifo(p)), "named skip.*not a regular file"),
    Case("photographs", "a file that may not be read", special(secret), "named skip.*permission", skip=ROOT),
    Case("photographs", "a file that vanishes after it was listed", vanishing, "named skip.*no such file"),
    Case("photographs", "a name with a newline", raw_name(b"odd\nname.png"), "works"),
    Case("photographs", "a name that is not UTF-8", raw_name(b"odd\xff\xfe.png"), "works"),
    Case("photographs", "a name that begins with a hyphen", raw_name(b"-rf odd.png"), "works"),
    Case("photographs", "a broken one with escapes in its name", lambda b: b.odd(b"", "odd\x1b[31m.png"), "named skip"),
    Case("photographs", "Thumbs.db and others that are no images", mixed, "works: 25 images"),
    Case("photographs", "a tenth of them broken", broken_ones(2), "named skip"),
    Case("photographs", "more than a tenth of them broken", broken_ones(3), "error.*3 of the 24 images.*more than a tenth"),
    Case("photographs", "all of one class broken", broken_ones(12), "error.*Not one of the 12 images of 'cat'"),
    Case("photographs", "a class folder with nothing in it", lambda b: (shutil.rmtree(b.photographs()), (b.inputs / "cat").mkdir(), b.read())[-1], "error.*holds no images"),
    Case("photographs", "a class folder in another Unicode form", lambda b: renamed_class(b), "works"),
    Case("photographs", "no folder at all", lambda b: b.read(b.inputs / "none"), "error.*does not exist"),
]  # fmt: skip

LABELS = [i % 2 for i in range(24)]
DATA = [
    Case("data sets", "Parquet without a label", lambda b: parquet(b, image=cells()), "error.*lacks a column"),
    Case("data sets", "Parquet without an image", lambda b: parquet(b, label=LABELS), "error.*lacks a column"),
    Case("data sets", "Parquet with labels that are missing", lambda b: parquet(b, image=cells(), label=[None, *LABELS[1:]]), "error.*label -1"),
    Case("data sets", "Parquet with labels out of range", lambda b: parquet(b, image=cells(), label=[9, *LABELS[1:]]), "error.*label 9"),
    Case("data sets", "Parquet with a nested column for an image", lambda b: parquet(b, image=[[c] for c in cells()], label=LABELS), "error.*struct"),
    Case("data sets", "Parquet with paths for images that are not there", lambda b: parquet(b, image=["a.png"] * 24, label=LABELS), "error.*no such file"),
    Case("data sets", "Parquet of two splits in one folder", two_splits, "error.*several splits: test, train"),
    Case("data sets", "Parquet whose metadata is no JSON", lambda b: parquet(b, b"{no", image=cells(), label=LABELS), "works: 24 images"),
    Case("data sets", "Parquet without an image of one class", lambda b: parquet(b, image=cells(), label=[0] * 24), "error.*'dog' there is no image"),
    Case("data sets", "labels that count from 1", lambda b: parquet(b, image=cells(), label=[i + 1 for i in LABELS]), "error.*count from 1"),
    Case("data sets", "Parquet with fractions for labels", lambda b: parquet(b, image=cells(), label=[0.5] * 24), "error.*whole numbers"),
    Case("data sets", "Parquet with a broken image", with_cell({"bytes": b"no image", "path": ""}), "named skip.*no format"),
    Case("data sets", "Parquet with a row without an image", with_cell(None), "named skip"),
    Case("data sets", "Parquet with an image of no bytes", with_cell({"bytes": b"", "path": None}), "named skip"),
    Case("data sets", "Parquet cut off", lambda b: (parquet(b, image=cells(), label=LABELS), b.file("data.parquet", cut((b.inputs / "data.parquet").read_bytes(), 0.5)), b.read())[-1], "error.*not a Parquet file"),
    Case("data sets", "text named .parquet", lambda b: (b.file("data.parquet", "hello"), b.read())[-1], "error.*not a Parquet file"),
    Case("data sets", "Parquet with no rows", lambda b: parquet(b, image=pa.array([], pa.struct([("bytes", pa.binary()), ("path", pa.string())])), label=pa.array([], pa.int64())), "error.*no images"),
    Case("data sets", "a CSV that names a file outside", text_file("t.csv", "path,label\n/etc/passwd,cat\ncat/00.png,dog\n"), "(error|named skip)"),
    Case("data sets", "a CSV that names a file that is not there", text_file("t.csv", "path,label\ncat/99.png,cat\ndog/00.png,dog\n"), "error.*no image"),
    Case("data sets", "a CSV that is binary", text_file("t.csv", b"\xff\xfe\0p\0a"), "error.*UTF-8"),
    Case("data sets", "metadata.jsonl with a line that is no JSON", text_file("metadata.jsonl", '{"file_name": "cat/00.png", "label": "cat"}\n{oops\n'), "error.*line 2.*not JSON"),
    Case("data sets", "metadata.jsonl that leads out of the folder", text_file("metadata.jsonl", '{"file_name": "../../etc/passwd", "label": "cat"}\n'), "error.*outside"),
    Case("data sets", "a CSV that is a named pipe", pipe("t.csv"), "error.*not a regular file but a named pipe"),
    Case("data sets", "a tar that is a named pipe", pipe("t.tar"), "error.*not a regular file but a named pipe"),
    Case("data sets", "a place that is a named pipe", pipe("photographs"), "error.*not a regular file but a named pipe"),
    Case("data sets", "a folder with a named pipe for Parquet", pipe("data.parquet", whole=True), "error.*not a regular file but a named pipe"),
    Case("data sets", "a folder with a named pipe for a tar", pipe("data.tar", whole=True), "error.*not a regular file but a named pipe"),
    Case("data sets", "a CSV that is a device", lambda b: ((b.inputs / "t.csv").symlink_to("/dev/null"), b.read(b.inputs / "t.csv"))[-1], "error.*not a regular file but a device"),
    Case("data sets", "a CSV larger than a table (of a limit lowered to 20 bytes)", bounded("table of images", 20, text_file("t.csv", "path,label\ncat/00.png,cat\n")), "error.*too large.* is 20"),
    Case("data sets", "metadata.jsonl with a line nested 100 deep", text_file("metadata.jsonl", '{"file_name": "cat/00.png", "label": "cat", "x": ' + "[" * 100 + "]" * 100 + "}\n"), "error.*line 1 is JSON nested more than 64 deep"),
    Case("data sets", "a tar with JSON nested 100 deep", tarred("[" * 100 + "]" * 100), "error.*0.json is JSON nested more than 64 deep"),
    Case("data sets", "a tar with JSON larger than a sample's (of a limit lowered to 20 bytes)", bounded("sample of a tar", 20, tarred(json.dumps({"class_name": "cat", "note": "x" * 40}))), "error.*0.json is too large.* is 20"),
    Case("data sets", "a tar with a device in it", tarred('{"class_name": "cat"}', tarfile.CHRTYPE), "(works|named skip)"),
    Case("data sets", "a tar that is none", text_file("t.tar", b"no tar" * 999), "error"),
]  # fmt: skip

TASK = "task: {class_names: [cat, dog]}\n"
ALIASES = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"
MERGES = "a: &a {k: 1}\nb: &b {<<: [*a, *a, *a, *a]}\nc: {<<: [*b, *b, *b, *b]}\n"
RECIPES = [
    Case("recipes", "a file that is not there", lambda b: b.figment("run", b.inputs / "none.yaml"), "error.*There is no recipe.*figment init"),
    Case("recipes", "a folder", lambda b: b.figment("run", b.inputs), "error.*a folder without a recipe"),
    Case("recipes", "empty", lambda b: b.recipe(""), "error.*must be a mapping"),
    Case("recipes", "a list", lambda b: b.recipe("- a\n- b"), "error.*must be a mapping"),
    Case("recipes", "binary", lambda b: b.recipe(np.random.default_rng(0).bytes(4096) + b"\xff"), "error.*cannot be read.*UTF-8"),
    Case("recipes", "UTF-16, as Windows writes it", lambda b: b.recipe(TASK.encode("utf-16")), "error.*UTF-8"),
    Case("recipes", "UTF-8 with a mark in front, as Windows writes it", lambda b: b.recipe(TASK.encode("utf-8-sig")), "works"),
    Case("recipes", "larger than a recipe (of a limit lowered to 1,000 bytes)", bounded("recipe", 1000, lambda b: b.recipe("a: " + "x" * 2000)), "error.*too large.*recipe. is 1,000"),
    Case("recipes", "longer than a recipe (of a limit lowered to 1,000 characters)", lowered("figment.plain_yaml", "MOST_CHARACTERS", 1000, lambda b: b.recipe("a: " + "x" * 2000)), "error.*longer than 1,000"),
    Case("recipes", "a device", lambda b: b.figment("run", "/dev/null"), "error.*/dev/null is not a regular file but a device"),
    Case("recipes", "a named pipe, which would be waited for", lambda b: (os.mkfifo(b.inputs / "r.yaml"), b.figment("run", b.inputs / "r.yaml"))[-1], "error.*a named pipe"),
    Case("recipes", "many values by aliases (of a limit lowered to 50)", lowered("figment.plain_yaml", "MOST_VALUES", 50, lambda b: b.recipe(TASK + ALIASES)), "error.*50 values"),
    Case("recipes", "many values by merged aliases (of a limit lowered to 50)", lowered("figment.plain_yaml", "MOST_VALUES", 50, lambda b: b.recipe(TASK + MERGES)), "error.*50 values"),
    Case("recipes", "an alias that holds itself", lambda b: b.recipe("task: &t {class_names: *t}"), "error.*holds itself"),
    Case("recipes", "brackets 100 deep", lambda b: b.recipe("a: " + "[" * 100 + "]" * 100), "error.*too deeply"),
    Case("recipes", "a field twice", lambda b: b.recipe(TASK + "seed: 1\nseed: 2\n"), "error.*'seed' twice, in line 2 and in line 3"),
    Case("recipes", "a field twice further in", lambda b: b.recipe(TASK + "train:\n  epochs: 1\n  epochs: 9\n"), "error.*'epochs' twice"),
    Case("recipes", "a tracker that there is not", lambda b: b.recipe(TASK + "track: wandbb"), "error.*track.*wandb"),
    Case("recipes", "a tracker of the learner's, as it was in 0.1", lambda b: b.recipe(TASK + "train: {kind: network, architecture: resnet18, track: wandb}", show="track"), "works: .*wandb"),
    Case("recipes", "tabs", lambda b: b.recipe("task:\n\tclass_names: [a, b]"), "error.*takes no tabs"),
    Case("recipes", "Python objects", lambda b: b.recipe("a: !!python/object/apply:os.getcwd []"), "error.*is not YAML"),
    Case("recipes", "two documents", lambda b: b.recipe(TASK + "---\n" + TASK), "error.*is not YAML"),
    Case("recipes", "control characters", lambda b: b.recipe(TASK + "name: \x1b[31m"), "error.*is not YAML"),
    Case("recipes", "a number that is none: .nan", lambda b: b.recipe(TASK + "generate: {guidance_scale: .nan}"), "error.*finite"),
    Case("recipes", "a number that is none: .inf", lambda b: b.recipe(TASK + "train: {learning_rate: .inf}"), "error.*finite"),
    Case("recipes", "1e400", lambda b: b.recipe(TASK + "generate: {guidance_scale: 1e400}"), "error.*finite"),
    Case("recipes", "a seed with 400 digits", lambda b: b.recipe(TASK + f"seed: {'9' * 400}"), "error.*seed"),
    Case("recipes", "a negative seed", lambda b: b.recipe(TASK + "seed: -1"), "error.*seed"),
    Case("recipes", "a seed in octal", lambda b: b.recipe(TASK + "seed: 0o17"), "error.*seed"),
    Case("recipes", "a billion images a class", lambda b: b.recipe(TASK + "generate: {images_per_class: 1000000000}", show="seed"), "error.*less than or equal to 10000000"),
    Case("recipes", "fields that are not there", lambda b: b.recipe(TASK + "generate: {guidence_scale: 3}\ntrian: {}"), "error.*2 mistakes.*Did you mean 'guidance_scale'.*Did you mean 'train'"),
    Case("recipes", "a number for a name", lambda b: b.recipe(TASK + "name: 7"), "error.*put them in quotes"),
    Case("recipes", "fields that are numbers", lambda b: b.recipe(TASK + "1: 2\nnull: 3"), "error"),
    Case("recipes", "a recipe's name that is a path", lambda b: b.run({"name": "../../etc/$(id)<script>\x1b[2J"}), "works"),
    Case("recipes", "an arm's name that is a path", lambda b: b.run({"arms": {"../../x\n<script>$(id)": {"seed": 1}}}), "works"),
    Case("recipes", "an arm with a zero byte in its model", lambda b: b.arms('arms: {a: {generate.model: "a\\0b"}}'), "error.*arm 'a' has.*zero byte"),
    Case("recipes", "an arm with a home that is not there", lambda b: b.arms("arms: {a: {task.real.test: ~nobody-here/x}}"), "error.*arm 'a' has.*no home folder"),
    Case("recipes", "a model with a zero byte in its name", lambda b: b.recipe(TASK + 'generate: {model: "a\\0b"}'), "error.*zero byte"),
    Case("recipes", "a model's name of 5,000 characters", lambda b: b.recipe(TASK + f"generate: {{model: {'x' * 5000}}}"), "error.*too long"),
    Case("recipes", "a model with a way up in its name", lambda b: b.run({"generate": {"model": "../" * 20 + "etc"}}), "error.*holds no model"),
]  # fmt: skip


def command(*arguments: object) -> Callable[[Bench], str]:
    return lambda bench: bench.figment(*(a(bench) if callable(a) else a for a in arguments))


def here(name: str) -> Callable[[Bench], Path]:
    return lambda bench: bench.folder / name


def small(bench: Bench) -> Path:
    """A recipe that would run."""
    return bench.file("small.yaml", yaml.safe_dump(bench.data()))


def loop(bench: Bench) -> Path:
    (bench.inputs / "loop").symlink_to("loop")
    return bench.inputs / "loop" / "run"


def init_with_yaml(bench: Bench) -> str:
    path = bench.folder / "a\nseed: 9\n.yaml"
    bench.figment("init", path)
    return f"works: seed is {load_recipe(path).seed}"


COMMANDS = [
    Case("commands", "an --out that is a file", lambda b: b.figment("run", small(b), "--out", b.file("mine", "mine")), "error.*Cannot write"),
    Case("commands", "an --out below a file", lambda b: b.figment("run", small(b), "--out", b.file("mine", "x") / "run"), "error.*Cannot write"),
    Case("commands", "an --out through links that go round", lambda b: b.figment("run", small(b), "--out", loop(b)), "error.*Cannot write"),
    Case("commands", "an --out with a name of 300 characters", command("run", small, "--out", here("x" * 300)), "error.*(Cannot write|File name too long)"),
    Case("commands", "an --out in the home of nobody", command("run", small, "--out", "~nobody-here/run"), "error.*no home folder"),
    Case("commands", "an --out where nobody can write", command("run", small, "--out", "/proc/figment/run"), "error.*(Cannot write|No such file)"),
    Case("commands", "an --out that may not be written", lambda b: ((b.folder / "locked").mkdir(mode=0o500), b.figment("run", small(b), "--out", b.folder / "locked" / "run"))[-1], "error.*permission", skip=ROOT),
    Case("commands", "an --out for storage nobody knows", command("run", small, "--out", "nope://bucket/run"), "error.*cannot be reached"),
    Case("commands", "an --out with spaces, quotes and $(...)", lambda b: b.run(out="it's a $(touch pwned) run"), "works"),
    Case("commands", "--set without a value", command("run", small, "--set", "seed"), "error.*has no '='"),
    Case("commands", "--set with half of YAML", command("run", small, "--set", "seed=[1,"), "error.*not YAML"),
    Case("commands", "--set below a single value", command("run", small, "--set", "seed.x=1"), "error.*single value"),
    Case("commands", "--set with a place that is not there", command("run", small, "--set", "filters.99.k=1"), "error.*no place in a list"),
    Case("commands", "--set with escapes", command("run", small, "--set", "name=\x1b[31mred"), "error.*not YAML"),
    Case("commands", "--set of a field with escapes in its name", command("run", small, "--set", "\x1b[31mred=1"), "error.*no such field"),
    Case("commands", "a recipe with escapes in its name", command("run", "\x1b[31mred.yaml"), "error.*There is no recipe"),
    Case("commands", "a recipe with a name of 5,000 characters", command("run", "x" * 5000), "error.*cannot be read"),
    Case("commands", "a command that there is not", command("trian"), "error.*No such command"),
    Case("commands", "an engine that there is not", command("run", small, "--engine", "rya"), "error.*Did you mean 'ray'"),
    Case("commands", "--part that is none", command("generate", small, "--part", "5/3"), "error.*--part takes I/N"),
    Case("commands", "init over a file", lambda b: b.figment("init", b.file("mine.yaml", "mine")), "error.*left as it is"),
    Case("commands", "init over a link that leads nowhere", lambda b: ((b.inputs / "l.yaml").symlink_to("gone"), b.figment("init", b.inputs / "l.yaml"))[-1], "error.*left as it is"),
    Case("commands", "init with a newline and YAML in the name", init_with_yaml, "works: seed is 0"),
    Case("commands", "init with a name of 300 characters", command("init", here("x" * 300)), "error.*(Cannot write|File name too long)"),
    Case("commands", "status of a folder that is no run", lambda b: b.figment("status", b.inputs), "error.*neither the folder of a run nor of images"),
    Case("commands", "status of a folder that is not there", command("status", here("none")), "error.*neither the folder of a run nor of images"),
    Case("commands", "report of a run whose stage.json is cut off", damaged_run("model/stage.json", lambda d: d[:40]), "error.*cannot be read"),
    Case("commands", "report of a run whose results are cut off", damaged_run("results.jsonl", lambda d: d[:-40]), "error.*cannot be read"),
    Case("commands", "report of a run whose images are cut off", damaged_run("images/00000/train-0000000.parquet", lambda d: d[:-40]), "error.*(cannot be read|can be read)"),
    Case("commands", "report of a run with a damaged image", damaged_run("images/00000/train-0000000.parquet", lambda d: damage_image(d)), "error.*figment verify"),
]  # fmt: skip

BAD = 'printf \'task: {class_names: ["🐱 é", "🐱 é"]}\' > r.yaml; '
ENVIRONMENT = [
    Case("environment", "no HOME, no TERM, nothing", lambda b: b.shell(BAD + "env -i PATH=\"$PATH\" PYTHONPATH=\"$PYTHONPATH\" FIGMENT run r.yaml"), "error.*each class once"),
    Case("environment", "a HOME that is not there", lambda b: b.shell(BAD + "FIGMENT run r.yaml", HOME="/no/such"), "error.*each class once"),
    Case("environment", "a terminal of ASCII and a class called 🐱", lambda b: b.shell(BAD + "FIGMENT run r.yaml", PYTHONIOENCODING="ascii", LC_ALL="C"), "error.*each class once"),
    Case("environment", "a terminal of Latin-1 and a class called 🐱", lambda b: b.shell(BAD + "FIGMENT run r.yaml", PYTHONIOENCODING="latin-1"), "error.*each class once"),
    Case("environment", "COLUMNS=20", lambda b: b.shell(BAD + "FIGMENT run r.yaml", COLUMNS="20"), "error.*each class once"),
    Case("environment", "COLUMNS and LINES that are no numbers", lambda b: b.shell(BAD + "FIGMENT run r.yaml", COLUMNS="wide", LINES="-1"), "error.*each class once"),
    Case("environment", "the reader goes away: | head -c 1", lambda b: b.shell("FIGMENT --help | head -c 1"), "(works|error)"),
    Case("environment", "no output at all: >&- 2>&-", lambda b: b.shell(BAD + "FIGMENT run r.yaml >&- 2>&-"), "error"),
    Case("environment", "an output that is full: > /dev/full", lambda b: b.shell(BAD + "FIGMENT run r.yaml > /dev/full"), "error"),
    Case("environment", "a folder that was deleted under the command", lambda b: b.shell("mkdir d; cd d; rmdir ../d; FIGMENT status x"), "error.*neither the folder of a run nor of images"),
    Case("environment", "a name that is not UTF-8 on the command line", lambda b: b.shell("FIGMENT run $'\\xff\\xfe.yaml'"), "error.*There is no recipe"),
]  # fmt: skip


def guided(**generate: Any) -> Callable[[Bench], str]:
    """A run whose images start from real images."""
    own = {"model": "starter", "images_per_class": 3, "num_inference_steps": 4, "real_guidance": {}, **generate}
    return lambda bench: bench.few({"generate": own})


def trained(**train: Any) -> Callable[[Bench], str]:
    return lambda b: b.few(
        {"train": {"kind": "clip_head", "encoder": str(b.clip), "epochs": 1, "min_steps": 5, "seeds": 1, **train}}
    )


def evaluated(**evaluate: Any) -> Callable[[Bench], str]:
    return lambda b: b.few({"evaluate": {"exchange_rate": False, "real_all": False, **evaluate}})


def no_start_token(folder: Path) -> None:
    """A tokenizer of another kind: a token a word, and none at the start."""
    words = Tokenizer(WordLevel({"[UNK]": 0, "x": 1, "a": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    for path in folder.glob("*token*"):
        path.unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[UNK]", model_max_length=77).save_pretrained(folder)


def reordered(split: Any) -> Any:
    """The digests of two images are exchanged: each is another image than it was."""
    a, b = split["images"][:2]
    a["digest"], b["digest"] = b["digest"], a["digest"]
    return split


def coop_split(*rows: Any) -> str:
    return json.dumps({"train": list(rows), "val": [], "test": []})


COOP_ROWS = [[f"images/{name}/{i:02d}.png", label, name] for label, name in enumerate(CLASSES) for i in range(2)]
LONG = " ".join(["very"] * 20) + " long-haired cat"
FEW = [
    Case("few real images", "more shots than a class has images", lambda b: b.few(shots=13), "error.*wants 13 real images of each class, and 'cat' has 12"),
    Case("few real images", "0 shots", lambda b: b.few(shots=0), "error.*few_shot.shots"),
    Case("few real images", "shots that are a word", lambda b: b.few(shots="many"), "error.*few_shot.shots"),
    Case("few real images", "a number in place of few_shot", lambda b: b.early({"few_shot": 16}), "error.*few_shot"),
    Case("few real images", "few_shot: true", lambda b: b.early({"few_shot": True}), "error.*few_shot"),
    Case("few real images", "a field that is not there", lambda b: b.few(shots={"shot": 2}), "error.*Did you mean 'shots'"),
    Case("few real images", "no real training images", lambda b: b.early({"few_shot": {}}), "error.*few_shot draws from real training images"),
    Case("few real images", "a baseline without few_shot", lambda b: b.early({"evaluate": {"baselines": ["coop"]}}), "error.*give few_shot"),
    Case("few real images", "a baseline that there is not", evaluated(baselines=["tip_adaptor"]), "error.*'tip_adapter'"),
    Case("few real images", "a baseline twice", evaluated(baselines=["coop", "coop"]), "error.*twice"),
    Case("few real images", "CoOp and a class name with which its texts are too long", lambda b: b.few({"evaluate": {"exchange_rate": False, "real_all": False, "baselines": ["coop"]}}, class_names=["cat", "dog", LONG], real={"train": named_folders(b, ["cat", "dog", LONG])}), "error.*CoOp puts 16 learnt vectors.*1 of the 3 names: very very.*Shorten"),
    Case("few real images", "CoOp and an encoder with another kind of tokenizer", lambda b: b.few({"train": {"encoder": copied(b, no_start_token)}, "evaluate": {"exchange_rate": False, "baselines": ["coop"]}}), "error.*reads all class names alike.*another encoder"),
    Case("few real images", "an order of real and generated images without few_shot", lambda b: b.early({"train": {"order": "real_then_synthetic"}}), "error.*train.order.*give few_shot"),
    Case("few real images", "weights that leave nothing to learn", trained(real_weight=0, synthetic_weight=0), "error.*both 0"),
    Case("few real images", "a weight below 0", trained(real_weight=-1), "error.*train.real_weight"),
    Case("few real images", "0 images a class", trained(images_per_class=0), "error.*train.images_per_class"),
    Case("few real images", "wise_ft of 1.5", trained(wise_ft=1.5), "error.*train.wise_ft"),
    Case("few real images", "a warm-up longer than the training", lambda b: b.early({"train": {"kind": "clip_head", "encoder": str(b.clip), "epochs": 1, "warmup_steps": 1}}), "error.*never come down"),
    Case("few real images", "a warm-up longer than the training on the shots", trained(warmup_steps=3, epochs=5, batch_size=2, order="synthetic_then_real", real_batch_size=4), "works"),
    Case("few real images", "the same, with less of them a step", trained(warmup_steps=5, epochs=5, batch_size=1, order="synthetic_then_real"), "error.*there are 5 training steps"),
    Case("few real images", "the best epoch on test images that there are not", lambda b: b.figment("run", b.file("r.yaml", yaml.safe_dump({**b.data(), "train": {"encoder": str(b.clip), "select": "test_best"}})), "--out", b.folder / "out"), "error.*'test_best', and there are no test images"),
    Case("few real images", "an exchange rate that starts above the smallest class", evaluated(exchange_rate=True, shots=[64]), "error.*evaluate.shots starts at 64.*has 12"),
    Case("few real images", "an exchange rate that starts at 0", evaluated(exchange_rate=True, shots=[0, 1]), "error.*evaluate.shots.0"),
    Case("few real images", "a Fréchet distance to 2 images", lambda b: b.early({"evaluate": {"exchange_rate": False, "real_all": False, "measures": ["recognisability", "frechet"]}}, real={"train": named_folders(b, CLASSES, 1)}), "error.*frechet needs 4 real training images"),
    Case("few real images", "a Fréchet distance of 2 generated images", lambda b: b.run({"filters": [{"kind": "clip", "rule": "top_k", "k": 1}], "evaluate": {"exchange_rate": False, "real_all": False, "measures": ["recognisability", "frechet"]}}, real=b.real()), "works"),
    Case("few real images", "live BatchNorm on an encoder without any", trained(unfrozen={"batch_norm": "train"}), "error.*has none.*ResNet"),
    Case("few real images", "a LoRA on a ResNet, which has no attention layers", trained(encoder="starter/clip_rn", unfrozen={"lora_rank": 4}), "error.*has none. Choose a ViT"),
    Case("few real images", "a LoRA and a share of the weights", trained(unfrozen={"lora_rank": 4, "trainable_fraction": 0.5}), "error.*set one of the two to 0"),
    Case("few real images", "a share of 30, in percent", trained(unfrozen={"trainable_fraction": 30}), "error.*train.unfrozen.trainable_fraction"),
    Case("few real images", "crops that are larger than the image", trained(unfrozen={"augment": True, "crop_scale": [0.5, 2]}), "error.*crop_scale"),
    Case("few real images", "unfrozen: true", trained(unfrozen=True), "error.*train.unfrozen"),
    Case("few real images", "the encoder in the loop and an exchange rate", lambda b: b.few({"train": {"unfrozen": {}}, "evaluate": {"exchange_rate": True}}), "error.*evaluate.exchange_rate: false"),
    Case("few real images", "the encoder in the loop and the best epoch on the test images", trained(unfrozen={}, select="test_best"), "works"),
    Case("few real images", "real guidance without few_shot", lambda b: b.early({"generate": {"real_guidance": {}}}), "error.*generate.real_guidance needs few real images"),
    *(Case("few real images", f"real guidance with the {kind}, which starts at the beginning alone", guided(scheduler=kind), f"error.*The {kind} cannot start in the middle.*DDIMScheduler") for kind in ("PNDMScheduler", "LMSDiscreteScheduler")),
    Case("few real images", "real guidance with a scheduler that there is not", guided(scheduler="DDIM"), "error.*no scheduler 'DDIM'"),
    Case("few real images", "real guidance with alpha_bar and t_star", guided(real_guidance={"alpha_bar": 0.5, "t_star": 35}), "error.*give one of them"),
    Case("few real images", "real guidance with alpha_bar and the naive mapping", guided(real_guidance={"alpha_bar": 0.5, "mapping": "naive"}), "error.*naive takes t_star"),
    Case("few real images", "real guidance with a t_star of 0.35", guided(real_guidance={"t_star": 0.35}), "error.*t_star"),
    Case("few real images", "real guidance with an alpha_bar of 15", guided(real_guidance={"alpha_bar": 15}), "error.*alpha_bar"),
    Case("few real images", "real guidance of a single step", guided(num_inference_steps=1), "works"),
    Case("few real images", "real guidance with drawings by arithmetic", lambda b: b.few({"generate": {"kind": "procedural", "real_guidance": {}}}), "error.*generate.real_guidance: there is no such field"),
    Case("few real images", "real guidance with a plug-in", lambda b: b.few({"generate": {"kind": "hostile:Writer", "real_guidance": {}}}), "error.*generate.real_guidance: there is no such field"),
    Case("few real images", "real guidance with a model that is not there", guided(model="./none"), "error.*no model folder"),
    Case("few real images", "a split of a run", lambda b: b.own_split(), "works"),
    Case("few real images", "a split that is not there", lambda b: b.few(shots={"split": str(b.inputs / "none.json")}), "error.*cannot be read: No such file"),
    Case("few real images", "a split that is a folder", lambda b: b.few(shots={"split": str(b.inputs)}), "error.*cannot be read: Is a directory"),
    Case("few real images", "a split that is an image", lambda b: b.split(JPEG), "error.*cannot be read"),
    Case("few real images", "a split cut off", lambda b: b.split('{"images": [{"id": "cat/0'), "error.*cannot be read"),
    Case("few real images", "a split that is a named pipe", lambda b: (os.mkfifo(b.inputs / "split"), b.few(shots={"split": str(b.inputs / "split")}))[-1], "error.*a named pipe"),
    Case("few real images", "a split larger than any (of a limit lowered to 20 bytes)", bounded("split file", 20, lambda b: b.own_split()), "error.*too large.* is 20"),
    Case("few real images", "a split of brackets 100 deep", lambda b: b.split("[" * 100 + "]" * 100), "error.*nested more than 64 deep"),
    *(Case("few real images", f"a split with another structure: {text}", lambda b, t=text: b.split(t), "error.*is no split file") for text in ("[]", '{"images": {}}', '{"images": [1]}', '{"images": [{"name": "a"}]}', '{"images": [{"id": 7}]}', '{"train": ["a"], "images": 0}', '{"train": [[]]}', '{"train": [[1, 0, "cat"]]}', '{"train": [{"path": "a"}]}')),
    Case("few real images", "a split with no image in it", lambda b: b.split('{"images": []}'), "error.*has no image of: cat, dog"),
    Case("few real images", "a split without one of the classes", lambda b: b.own_split(lambda s: {"images": s["images"][:2]}), "error.*has no image of: dog"),
    Case("few real images", "a split that names images twice", lambda b: b.own_split(lambda s: {"images": s["images"] * 2}), "error.*names 4 images more than once: cat/"),
    Case("few real images", "a split of images that changed since", lambda b: b.own_split(reordered), "error.*2 of 4 images.*others than they were"),
    Case("few real images", "a split of another data set", lambda b: b.split(coop_split(["pets/Abyssinian_1.jpg", 0, "abyssinian"])), "error.*1 of 1 images.*not among the real images"),
    Case("few real images", "a split with escapes in its names", lambda b: b.split(coop_split(["\x1b[31mred\udcff.png", 0, "cat"])), "error.*not among the real images"),
    Case("few real images", "a split with a way up in its names", lambda b: b.split(coop_split(["../../../etc/passwd", 0, "cat"])), "error.*not among the real images"),
    Case("few real images", "CoOp's split, with more of one class", lambda b: b.split(coop_split(*COOP_ROWS, ["images/dog/05.png", 1, "dog"])), "works"),
    Case("few real images", "CoOp's split, and real guidance with the PNDMScheduler", lambda b: b.few({"generate": {"scheduler": "PNDMScheduler", "real_guidance": {}}}, shots={"split": str(b.file("split.json", coop_split(*COOP_ROWS)))}), "error.*cannot start in the middle"),
]  # fmt: skip


def named_folders(bench: Bench, names: Sequence[str], n: int = 4) -> str:
    for label, name in enumerate(names):
        for i in range(n):
            bench.file(f"named/{name}/{i}.png", png(solid(80 * label, 20 * i, 40)))
    return str(bench.inputs / "named")


def copied(bench: Bench, change: Callable[[Path], object]) -> str:
    shutil.copytree(bench.clip, bench.inputs / "encoder")
    change(bench.inputs / "encoder")
    return str(bench.inputs / "encoder")


def configured(**changes: Any) -> Callable[[Path], object]:
    """An open_clip folder whose configuration says something else."""

    def change(folder: Path) -> None:
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text())
        for name, value in changes.items():
            part = next(p for p in (config["model_cfg"], config.get("preprocess_cfg", {}), config) if name in p)
            part[name] = value
        path.write_text(json.dumps(config))

    return change


def shortened(name: str, share: float = 0.5) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(cut((folder / name).read_bytes(), share))


def piped(name: str) -> Callable[[Path], object]:
    """A named pipe in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def without(*patterns: str) -> Callable[[Path], object]:
    return lambda folder: [path.unlink() for pattern in patterns for path in folder.glob(pattern)]


def pickled(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")


def tokens_elsewhere(folder: Path) -> None:
    """Its text tower's tokenizer is one of transformers, and does not lie in the folder."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "bert-base-uncased"
    path.write_text(json.dumps(config))
    without("*token*", "vocab*", "merges.txt")(folder)


WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
ENCODERS = [
    Case("encoders", "open_clip's, as it is", lambda b: b.encoder(lambda f: None), "works"),
    Case("encoders", "open_clip's with pickled weights alone", lambda b: b.encoder(pickled), "error.*allow_pickle: true"),
    Case("encoders", "open_clip's without its tokenizer", lambda b: b.encoder(tokens_elsewhere), "error.*no tokenizer beside its weights"),
    Case("encoders", "open_clip's with weights cut off", lambda b: b.encoder(shortened(WEIGHTS)), "error.*cannot be opened by open_clip"),
    Case("encoders", "open_clip's with weights of no bytes", lambda b: b.encoder(shortened(WEIGHTS, 0)), "error.*cannot be opened by open_clip"),
    Case("encoders", "open_clip's with a configuration cut off", lambda b: b.encoder(shortened(CONFIG)), "error.*with a model_cfg to be read"),
    Case("encoders", "open_clip's with a configuration that is a list", lambda b: b.encoder(lambda f: (f / CONFIG).write_text("[]")), "error.*with a model_cfg to be read"),
    Case("encoders", "open_clip's with no size of its features", lambda b: b.encoder(configured(embed_dim=None)), "error.*(cannot be opened by open_clip|model_cfg)"),
    Case("encoders", "open_clip's with another size than its weights'", lambda b: b.encoder(configured(embed_dim=7)), "error.*cannot be opened by open_clip"),
    Case("encoders", "open_clip's with a vision tower that is a word", lambda b: b.encoder(configured(vision_cfg="big")), "error.*with a model_cfg to be read"),
    Case("encoders", "open_clip's with colours that are words", lambda b: b.encoder(configured(preprocess_cfg={"mean": "grey"})), "error"),
    Case("encoders", "open_clip's without weights", lambda b: b.encoder(without("*.safetensors")), "error.*(safetensors)"),
    Case("encoders", "transformers' with weights cut off", lambda b: b.encoder(shortened("model.safetensors"), "clip"), "error.*cannot be opened by transformers"),
    Case("encoders", "transformers' with a configuration cut off", lambda b: b.encoder(shortened("config.json"), "clip"), "error.*not a CLIP"),
    Case("encoders", "transformers' without a tokenizer", lambda b: b.encoder(without("*token*", "vocab.json", "merges.txt"), "clip"), "error.*no tokenizer"),
    Case("encoders", "transformers' with a tokenizer cut off", lambda b: b.encoder(shortened("tokenizer.json"), "clip"), "error.*cannot be opened by transformers"),
    Case("encoders", "transformers' without what prepares images", lambda b: b.encoder(without("preprocessor_config.json", "processor_config.json"), "clip"), "error.*cannot be opened by transformers"),
    Case("encoders", "of a run with the encoder in the loop, damaged since", lambda b: damaged_live(b), "error.*cannot be opened by transformers"),
    *(Case("encoders", f"a configuration that is {what}", lambda b, d=do: b.encoder(d), "error.*a named pipe") for what, do in {"a named pipe": piped("open_clip_config.json"), "beside a named pipe": piped("notes.json")}.items()),
    Case("encoders", "open_clip's with a configuration nested 100 deep", lambda b: b.encoder(lambda f: (f / "open_clip_config.json").write_text("[" * 100 + "]" * 100)), "error.*nested more than 64 deep"),
    Case("encoders", "open_clip's with a configuration too large (of a limit lowered to 20 bytes)", bounded("model configuration", 20, lambda b: b.encoder(lambda f: None)), "error.*too large.* is 20"),
    Case("encoders", "an image generator", lambda b: b.early({"train": {"encoder": "starter"}}), "error.*not a CLIP"),
]  # fmt: skip


def damaged_live(bench: Bench) -> str:
    """The encoder that a run has tuned and kept is used by another one."""
    live = {
        "encoder": str(bench.clip),
        "epochs": 1,
        "min_steps": 5,
        "seeds": 1,
        "unfrozen": {"trainable_fraction": 0.1},
    }
    bench.run({"train": live}, out="first")
    encoder = bench.folder / "first" / "model" / "encoder"
    shortened("model.safetensors")(encoder)
    shutil.move(bench.folder / "first", bench.inputs / "first")
    recipe = bench.file("again.yaml", yaml.safe_dump({**bench.data(), "train": {"encoder": "first/model/encoder"}}))
    return bench.figment("run", recipe, "--out", bench.folder / "out")


VARIANTS = TASK + "variants: {small: {generate.images_per_class: 2, filters.0.minimum_std: 1.0}, 7: {seed: 9}}\n"


def varied(text: str, variant: str | None = None, show: str = "seed") -> Callable[[Bench], str]:
    def case(bench: Bench) -> str:
        recipe = load_recipe(bench.file("recipe.yaml", text), variant=variant)
        value: Any = recipe
        for part in show.split("."):
            value = getattr(value, part)
        return f"works: {show} is {value}"

    return case


VARIED = [
    Case("variants", "one of them", varied(VARIANTS, "small", "generate.images_per_class"), "works.* 2$"),
    Case("variants", "a number for a name", varied(VARIANTS, "7"), "works: seed is 9"),
    Case("variants", "one that there is not", varied(VARIANTS, "smal"), "error.*no variant 'smal'. Did you mean 'small'.*It has: small, 7"),
    Case("variants", "one of a recipe without any", varied(TASK, "small"), "error.*no variant 'small'. It has: none"),
    Case("variants", "--variant with nothing in it", varied(VARIANTS, ""), "error.*no variant ''"),
    Case("variants", "a list of them, not asked for", varied(TASK + "variants: [small]"), "error.*must be mappings"),
    Case("variants", "a number", varied(TASK + "variants: 7", "small"), "error.*must be mappings"),
    Case("variants", "one that is a list", varied(TASK + "variants: {small: [seed]}"), "error.*must be mappings"),
    Case("variants", "one that is empty", varied(TASK + "variants: {small: }", "small"), "error.*must be mappings"),
    Case("variants", "a field that is not there", varied(TASK + "variants: {small: {generate.image_per_class: 2}}", "small"), "error.*Did you mean 'images_per_class'"),
    Case("variants", "a field below a single value", varied(TASK + "variants: {small: {seed.x: 2}}", "small"), "error"),
    Case("variants", "a value of another kind", varied(TASK + "variants: {small: {seed: many}}", "small"), "error.*seed"),
    Case("variants", "variants in a variant", varied(TASK + "variants: {small: {variants: {}}}", "small"), "error.*variants"),
    Case("variants", "a place of an image that is not there", varied(TASK + "variants: {small: {task.class_names.0.x.y: 2}}", "small"), "error.*cannot be set"),
]  # fmt: skip


def rows(**own: Any) -> Callable[[Bench], str]:
    return lambda bench: bench.table(rows={"a": own})


def metric(name: Any, **changes: Any) -> Callable[[Bench], str]:
    return lambda bench: bench.table(changes, rows={"a": {"metric": name}})


def overwritten(name: str, text: str | bytes) -> Callable[[Path], object]:
    def change(out: Path) -> None:
        for path in out.glob(name):
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def interrupted(out: Path) -> None:
    for path in {*out.glob("cells/*/*/stage.json"), *out.glob("table.*"), *out.glob("*.json"), out / "report.html"}:
        path.unlink()


def run_then_table(bench: Bench) -> str:
    recipe = bench.file("table.yaml", bench.table_recipe().to_yaml())
    bench.figment("run", small(bench), "--out", bench.folder / "out")
    before = snapshot(bench.folder / "out")
    got = bench.figment("run", recipe, "--out", bench.folder / "out")
    if snapshot(bench.folder / "out") != before:
        raise Lost("the run's folder changed")
    return got


def other_table(bench: Bench, *changes: str) -> str:
    bench.finished_table(lambda out: None, "status", "OUT")
    before = snapshot(bench.folder / "out")
    got = bench.figment("run", bench.inputs / "table.yaml", "--out", bench.folder / "out", *changes)
    if got.startswith("error") and snapshot(bench.folder / "out") != before:
        raise Lost("the first table's folder changed")
    return got


NO_FEW = {"few_shot": {"shots": 2}}
TABLES = [
    Case("tables", "no rows", lambda b: b.table(rows={}), "error.*table.rows"),
    Case("tables", "no columns", lambda b: b.table(columns={}), "error.*table.columns"),
    Case("tables", "rows that are a list", lambda b: b.table(rows=["a"]), "error.*table.rows"),
    Case("tables", "a row that is empty", lambda b: b.table(rows={"a": None}), "error.*table.rows.a"),
    Case("tables", "a table that is a list", lambda b: b.early({"table": []}), "error.*table"),
    Case("tables", "no title", lambda b: b.early({"table": {"rows": {"a": {}}, "columns": {"x": {}}}}), "error.*table.title: this field is needed"),
    Case("tables", "0 seeds", lambda b: b.table(seeds=0), "error.*table.seeds"),
    Case("tables", "seeds beyond the largest", lambda b: b.table({"seed": 2**32 - 1}, seeds=2), "error.*seed"),
    Case("tables", "names with HTML, shell and escapes", lambda b: b.table(rows={XSS: {}, "../$(touch pwned)": {"train.epochs": 2}}, columns={"\x1b[31mred\n": {}, "\u202egnp": {"train.wise_ft": 0.5}}, chart=True), "works: 4 cells"),
    Case("tables", "a chart over columns that are no numbers", lambda b: b.table(columns={"x": {}, "y": {"train.epochs": 2}}, chart=True), "works"),
    Case("tables", "a chart over columns that are infinite", lambda b: b.table(columns={"inf": {}, "nan": {"train.epochs": 2}, "1e999": {"train.epochs": 3}, "-1": {}, "0": {}}, chart=True), "works"),
    Case("tables", "a field that is not there", rows(**{"train.soft_wait": 0}), "error.*the cell 'a' / 'x'.*Did you mean 'soft_weight'"),
    Case("tables", "a value of another kind", rows(**{"train.epochs": "many"}), "error.*the cell 'a' / 'x'.*train.epochs"),
    Case("tables", "a field below a single value", rows(**{"train.epochs.x": 1}), "error.*he cell 'a' / 'x'.*cannot be set"),
    Case("tables", "a place in a list that is not there", rows(**{"filters.9.k": 1}), "error.*he cell 'a' / 'x'.*no place in a list"),
    Case("tables", "a field with no name", rows(**{"": 1}), "error.*the cell 'a' / 'x'"),
    Case("tables", "settings that contradict one another in one cell alone", lambda b: b.table(rows={"a": {}, "b": {"train.unfrozen": {"trainable_fraction": 0.5}}}, columns={"x": {}, "y": {"train.unfrozen.lora_rank": 4}}), "error.*the cell 'b' / 'y'.*set one of the two to 0"),
    *(Case("tables", f"a row that changes {field}", rows(**{field: value}), "error.*which is the whole table's") for field, value in {"table": {}, "table.seeds": 3, "seed": 7, "name": "b", "arms": {}}.items()),
    Case("tables", "a row that changes variants", rows(variants={}), "error.*variants"),
    Case("tables", "arms beside a table", lambda b: b.table({"arms": {"b": {}}}), "error.*arms or a table, not both"),
    Case("tables", "a metric that there is not", metric("top1/synthetik"), "error.*wants 'top1/synthetik'.*Did you mean 'top1/synthetic'"),
    Case("tables", "a metric that is a number", metric(1), "error.*metric of 'a' must be a name"),
    Case("tables", "a metric with escapes", metric("\x1b[31m"), "error.*What can be measured"),
    *(Case("tables", f"{name} without few_shot", metric(name), "error.*that is not measured.*need few_shot") for name in ("top1/real_only", "gain/over_real_only")),
    *(Case("tables", f"{name} without few_shot", metric(name), "error.*the cell 'a' / 'x'.*evaluate.baselines needs few real images") for name in ("top1/coop", "gain/tip_adapter")),
    Case("tables", "the gain of a baseline", metric("gain/linear_probe", **NO_FEW), "works"),
    Case("tables", "a point of the curve beyond the smallest class", lambda b: b.table({"evaluate": {"shots": [1, 64]}}, rows={"a": {"metric": "top1/real_64"}}), "error.*'top1/real_64'.*has 12 images"),
    Case("tables", "a point that is not on the curve", metric("top1/real_3"), "error.*that is not measured"),
    Case("tables", "an exchange rate with the encoder in the loop", metric("exchange_rate", train={"unfrozen": {}}), "error.*the cell 'a'.*exchange_rate: false"),
    Case("tables", "accuracies without test images", lambda b: b.table(rows={"a": {"task.real.test": None}}), "error.*need task.real.test"),
    Case("tables", "a Fréchet distance without training images", lambda b: b.table(rows={"a": {"task.real.train": None, "metric": "frechet"}}), "error.*need task.real.train"),
    Case("tables", "a baseline that refuses the encoder, in the last cell", lambda b: b.table(NO_FEW, rows={"a": {}, "b": {"train.encoder": copied(b, no_start_token), "metric": "top1/coop"}}), "error.*he cell 'b / x'.*CoOp cannot"),
    Case("tables", "too few shots, in the last cell", lambda b: b.table(rows={"a": {}, "b": {"few_shot.shots": 99}}), "error.*he cell 'b / x'.*wants 99 real images"),
    Case("tables", "an encoder that is not there, in the last cell", lambda b: b.table(columns={"x": {}, "y": {"train.encoder": "./none"}}), "error.*he cell 'a / y'.*no model folder"),
    Case("tables", "printed numbers in a column that there is not", lambda b: b.table(printed={"a": {"z": 1.0}}), "error.*printed has the column 'z'"),
    Case("tables", "printed numbers that are words", lambda b: b.table(printed={"a": {"x": "a lot"}}), "error.*table.printed"),
    Case("tables", "printed numbers that are none: .nan", lambda b: b.table(printed={"a": {"x": float("nan")}}), "error.*finite"),
    Case("tables", "printed numbers of a row that is not run", lambda b: b.table(printed={"theirs": {"x": 1.0}}), "works"),
    Case("tables", "less is better in a column that there is not", lambda b: b.table(lower_is_better=["FID"]), "error.*lower_is_better has the column 'FID'"),
    Case("tables", "the folder of a single run", run_then_table, "error.*holds a single run"),
    Case("tables", "the folder of a table, for a single run", lambda b: b.finished_table(lambda out: None, "run", str(small(b)), "--out", "OUT"), "error.*holds a table of runs"),
    Case("tables", "the folder of a table of other images", lambda b: other_table(b, "--set", "seed=5"), "error.*a table of other images"),
    Case("tables", "the folder of a table, with other training", lambda b: other_table(b, "--set", "train.epochs=2"), "works"),
    Case("tables", "generate, which makes the images of one run", lambda b: b.figment("generate", b.file("table.yaml", b.table_recipe().to_yaml()), "--out", b.folder / "out"), "error.*has a table, which is many runs"),
    Case("tables", "interrupted, and asked for the report", lambda b: b.finished_table(interrupted, "report", "OUT"), "error.*no finished table.*figment run"),
    Case("tables", "interrupted, and run again", lambda b: b.finished_table(interrupted, "run", "RECIPE", "--out", "OUT"), "works"),
    Case("tables", "interrupted, and asked how far it is", lambda b: b.finished_table(interrupted, "status", "OUT"), "works.*cells/00-a-x"),
    *(Case("tables", f"a table.json that is {what}", lambda b, t=text: b.finished_table(overwritten("table.json", t), "report", "OUT"), "error.*damaged.*figment run") for what, text in {"empty": "", "a list": "[]", "without its fields": '{"cells": [{}]}', "binary": b"\x00\xff"}.items()),
    Case("tables", "a damaged table.json, and run again", lambda b: b.finished_table(overwritten("table.json", ""), "run", "RECIPE", "--out", "OUT"), "works"),
    Case("tables", "damaged predictions", lambda b: b.finished_table(overwritten("cells/*/*/predictions.parquet", "no"), "run", "RECIPE", "--out", "OUT"), "works"),
    Case("tables", "a run's results cut off", lambda b: b.finished_table(overwritten("cells/*/*/results.jsonl", '{"metric": "to'), "run", "RECIPE", "--out", "OUT"), "works"),
    Case("tables", "a run's model/stage.json cut off", lambda b: b.finished_table(overwritten("cells/*/*/model/stage.json", '{"fi'), "run", "RECIPE", "--out", "OUT"), "works"),
    Case("tables", "damaged images, and verified", lambda b: b.finished_table(overwritten("images/*/images/*/*.parquet", "no"), "verify", "OUT"), "error.*broken"),
    Case("tables", "damaged images, and repaired", lambda b: b.finished_table(overwritten("images/*/images/*/*.parquet", "no"), "repair", "OUT"), "works.*re-made 6 of 6"),
    Case("tables", "export of a table", lambda b: b.finished_table(lambda out: None, "export", "OUT", "--to", "imagefolder", "--out", str(b.folder / "exported")), "error"),
]  # fmt: skip


def shown(bench: Bench) -> None:
    """Photographs for training and for testing, and a set from elsewhere: three folders of class folders."""
    for split, blue in (("photos/train", 40), ("photos/test", 80), ("made", 120)):
        bench.real(split, blue)


def worth(
    *more: object,
    real: str = "photos",
    made: str = "made",
    encoder: bool = True,
    change: Callable[[Bench], object] = lambda bench: None,
) -> Callable[[Bench], str]:
    """The command on good sets, or on what lies at other places in the inputs, after something was changed there."""

    def do(bench: Bench) -> str:
        shown(bench)
        change(bench)
        own = [part(bench) if callable(part) else part for part in more]
        seen = ["--encoder", bench.clip] if encoder else []
        places = ["--synthetic", bench.inputs / made, "--real", bench.inputs / real]
        return bench.figment("worth", *places, *seen, "--out", bench.folder / "out", *own)

    return do


def checked(*more: object) -> Callable[[Bench], str]:
    """The command; what is no option lies in the inputs, beside photographs that are split."""

    def do(bench: Bench) -> str:
        shown(bench)
        return bench.figment("check", *(part(bench) if callable(part) else part for part in more))

    return do


def inside(name: str) -> Callable[[Bench], Path]:
    return lambda bench: bench.inputs / name


def of_run(*arguments: object, then: Callable[[Bench], object] = lambda bench: None) -> Callable[[Bench], str]:
    """A command on a finished run, whose folder is OUT, after something happened."""

    def do(bench: Bench) -> str:
        with redirect_stdout(io.StringIO()):
            bench.run()
        then(bench)
        own = [part(bench) if callable(part) else part for part in arguments]
        return bench.figment(*(bench.folder / "out" if part == "OUT" else part for part in own))

    return do


def of_images(*arguments: object) -> Callable[[Bench], str]:
    """A command on a folder whose images were made, and nothing else; it is OUT."""

    def do(bench: Bench) -> str:
        bench.figment("generate", small(bench), "--out", bench.folder / "out")
        own = [part(bench) if callable(part) else part for part in arguments]
        return bench.figment(*(bench.folder / "out" if part == "OUT" else part for part in own))

    return do


def other_run(bench: Bench) -> Path:
    """A second run, with test images of its own."""
    second = Bench.__new__(Bench)
    second.folder, second.clip, second.inputs = bench.folder / "second", bench.clip, bench.folder / "second" / "in"
    second.inputs.mkdir(parents=True)
    with redirect_stdout(io.StringIO()):
        second.run(class_names=["cat", "owl", "emu"])
    return second.folder / "out"


def busy(bench: Bench) -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        return of_run("look", "OUT", "--port", port)(bench).replace(str(port), "PORT")


def piloted(*more: object) -> Callable[[Bench], str]:
    """The command on a recipe with training images."""

    def do(bench: Bench) -> str:
        path = bench.file("r.yaml", yaml.safe_dump(bench.data(real=bench.real())))
        own = [part(bench) if callable(part) else part for part in more]
        return bench.figment("pilot", path, "--out", bench.folder / "out", *own)

    return do


JUDGED = [
    Case("judging", "worth: no encoder", worth(encoder=False), "error.*Name one with --encoder"),
    Case("judging", "worth: an encoder that is not there", worth("--encoder", "./none", encoder=False), "error.*no model folder"),
    Case("judging", "worth: a set that is not there", worth(made="none"), "error.*does not exist"),
    Case("judging", "worth: a set that is an empty folder", worth(change=lambda b: (b.inputs / "none").mkdir(), made="none"), "error.*empty folder"),
    Case("judging", "worth: a set of loose images", worth(change=lambda b: b.file("loose/a.png", png(solid(1, 2, 3))), made="loose"), "error.*no sub-folders"),
    Case("judging", "worth: a set of other classes", worth(change=lambda b: (b.inputs / "made/cat").rename(b.inputs / "made/owl")), "error.*Missing there: 'cat'.*Not in the task: 'owl'"),
    Case("judging", "worth: a set that lacks a class", worth(change=lambda b: shutil.rmtree(b.inputs / "made/cat")), "error.*Missing there: 'cat'"),
    Case("judging", "worth: a set that is the real one", worth(made="photos/train"), "error.*what --real names already"),
    Case("judging", "worth: a copy of the real one", worth(change=lambda b: shutil.copytree(b.inputs / "photos/train", b.inputs / "copy"), made="copy"), "error.*the very images"),
    Case("judging", "worth: a set named twice", lambda b: worth("--synthetic", b.inputs / "made")(b), "error.*(twice|already)"),
    Case("judging", "worth: real images without a test split", worth(change=lambda b: shutil.rmtree(b.inputs / "photos/test")), "error.*no test images"),
    Case("judging", "worth: a --test-share of what is split", worth("--test-share", ".3"), "error.*split already"),
    Case("judging", "worth: a --test-share above one", worth("--test-share", "3", real="photos/test"), "error.*less than 1"),
    Case("judging", "worth: an --out that holds the set", worth("--out", inside("made")), "error.*never written to"),
    Case("judging", "worth: a network that there is not", worth("--network", "resnet-fifty"), "error.*no architecture"),
    Case("judging", "worth: --set without a value", worth("--set", "train.steps"), "error.*has no '='"),
    Case("judging", "worth: a task that there is not", worth("--task", "nope"), "error.*no built-in task"),
    Case("judging", "check: a place that is not there", checked(inside("none")), "error.*does not exist"),
    Case("judging", "check: an empty folder", checked(lambda b: (b.folder / "none").mkdir() or b.folder / "none"), "error.*holds no images"),
    Case("judging", "check: two places whose names say no split", checked(inside("made"), inside("made")), "error.*Which split"),
    Case("judging", "check: two places of one split", checked(inside("photos/train"), lambda b: f"train={b.inputs / 'made'}"), "error.*both called train"),
    Case("judging", "check: --test-share of what is split", checked(inside("photos"), "--test-share", ".3"), "error.*split already"),
    Case("judging", "check: a --test-share above one", checked(inside("made"), "--test-share", "3"), "error.*Invalid value for '--test-share'"),
    Case("judging", "check: an encoder that is not there", checked(inside("photos"), "--encoder", "./none"), "error.*no model folder"),
    Case("judging", "check: a --json that is a folder", checked(inside("made"), "--min-side", "1", "--json", inside("made")), "error.*Cannot write to .*/made: is a directory"),
    Case("judging", "check: images of which none can be read", lambda b: (b.file("bad/cat/0.png", "no"), b.file("bad/dog/0.png", ""), b.figment("check", b.inputs / "bad"))[-1], "error.*2 of the 2 images cannot be read"),
    Case("judging", "check: class names with escapes and HTML", lambda b: (b.file("bad/\x1b[31mred/0.png", png(solid(1, 2, 3))), b.file("bad/<b>/0.png", png(solid(9, 2, 3))), b.figment("check", b.inputs / "bad"))[-1], "error.*control character"),
    Case("judging", "compare: one run", of_run("compare", "OUT"), "error.*two runs or more"),
    Case("judging", "compare: folders that are no runs", lambda b: b.figment("compare", b.inputs, b.folder), "error.*holds no results"),
    Case("judging", "compare: a run that has not begun to train", of_images("compare", "OUT", "OUT/.."), "error.*holds no results"),
    Case("judging", "compare: an accuracy that there is not", of_run("compare", "OUT", other_run, "--metric", "top1/synthetik"), "error.*Did you mean 'top1/synthetic'"),
    Case("judging", "compare: runs with other test images", of_run("compare", "OUT", other_run), "error.*No two of these runs"),
    Case("judging", "compare: predictions that are damaged", of_run("compare", "OUT", other_run, then=lambda b: (b.folder / "out/predictions.parquet").write_text("no")), "error.*cannot be read"),
    Case("judging", "pilot: no real images", command("pilot", small, "--out", here("out")), "works.*unknown"),
    Case("judging", "pilot: a split that there is not", piloted("--split", "tests"), "error.*There is no split 'tests'"),
    Case("judging", "pilot: a split that the recipe has not", piloted("--split", "val"), "error.*no val images"),
    Case("judging", "pilot: no images of a class", piloted("--images-per-class", "0"), "error.*Invalid value for '--images-per-class'"),
    Case("judging", "pilot: a table of runs", lambda b: b.figment("pilot", b.file("t.yaml", b.table_recipe().to_yaml()), "--out", b.folder / "out"), "error.*has a table, which is many runs"),
    Case("judging", "pilot: an --out that is a file", piloted("--out", lambda b: b.file("mine", "mine")), "error.*Cannot write"),
]  # fmt: skip

AWAY = [
    Case("taking away", "export: a format that there is not", of_run("export", "OUT", "--to", "imagefoldr", "--out", here("x")), "error.*Did you mean 'imagefolder'"),
    Case("taking away", "export: a folder that is no run", lambda b: b.figment("export", b.inputs, "--to", "csv", "--out", b.folder / "x"), "error.*no finished images"),
    Case("taking away", "export: an --out that is not empty", of_run("export", "OUT", "--to", "csv", "--out", inside(".")), "error.*not empty"),
    Case("taking away", "export: an --out that is a file", of_run("export", "OUT", "--to", "csv", "--out", lambda b: b.file("mine", "mine")), "error.*Cannot write"),
    Case("taking away", "export: an --out inside the run", of_run("export", "OUT", "--to", "csv", "--out", here("out/images")), "error.*belongs to the run"),
    Case("taking away", "export: an --out that holds another export", of_run("export", "OUT", "--to", "coco", "--out", here("x"), then=lambda b: b.figment("export", b.folder / "out", "--to", "csv", "--out", b.folder / "x")), "error.*another export"),
    Case("taking away", "export: images that were damaged", of_run("export", "OUT", "--to", "csv", "--out", here("x"), then=lambda b: (p := b.folder / "out/images/00000/train-0000000.parquet").write_bytes(damage_image(p.read_bytes()))), "error.*damaged"),
    Case("taking away", "export: a data set's name that is none", of_run("export", "OUT", "--to", "parquet", "--push", "a/b/c"), "error.*no name on the Hub"),
    Case("taking away", "export: a folder and the Hub", of_run("export", "OUT", "--to", "onnx", "--out", here("x"), "--push", "me/pets"), "error.*One of them"),
    Case("taking away", "export: nowhere", of_run("export", "OUT", "--to", "csv"), "error.*Say where it goes"),
    Case("taking away", "export: images to the Hub in a format that it is not given", of_run("export", "OUT", "--to", "csv", "--push", "me/pets"), "error.*--to parquet"),
    Case("taking away", "export: --all of a model", of_run("export", "OUT", "--to", "onnx", "--out", here("x"), "--all"), "error.*--all and --sign are of images"),
    Case("taking away", "export: a model that was not trained", of_images("export", "OUT", "--to", "safetensors", "--out", "x"), "error.*no trained model"),
    Case("taking away", "predict: a folder that is no run", lambda b: b.figment("predict", b.inputs, b.file("a.png", png(solid(1, 2, 3)))), "error.*no trained model"),
    Case("taking away", "predict: a model that was not trained", of_images("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3)))), "error.*no trained model"),
    Case("taking away", "predict: an image that is not there", of_run("predict", "OUT", inside("none.png")), "error.*There is no image"),
    Case("taking away", "predict: a pattern that matches nothing", of_run("predict", "OUT", inside("*.jpg")), "error.*matches no image"),
    Case("taking away", "predict: a folder without images", of_run("predict", "OUT", lambda b: (b.folder / "none").mkdir() or b.folder / "none"), "error.*holds no images"),
    Case("taking away", "predict: one file that is no image", of_run("predict", "OUT", lambda b: b.file("a.png", "no")), "error.*cannot be read"),
    Case("taking away", "predict: one of two that is no image", of_run("predict", "OUT", lambda b: (b.file("two/a.png", "no"), b.file("two/b.png", png(solid(1, 2, 3))))[0].parent), "works.*b.png: cat .*1 of the 2 images"),
    Case("taking away", "predict: a name with escapes", of_run("predict", "OUT", lambda b: b.file("\x1b[31mred\n.png", png(solid(1, 2, 3)))), "works"),
    Case("taking away", "predict: an --out that exists", of_run("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3))), "--out", lambda b: b.file("mine.csv", "mine")), "error.*left as it is"),
    Case("taking away", "predict: an --out that is no table", of_run("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3))), "--out", here("x.xlsx")), "error.*neither .csv nor .jsonl"),
    Case("taking away", "predict: --probabilities without --out", of_run("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3))), "--probabilities"), "error.*give them a file"),
    Case("taking away", "predict: no classes at all", of_run("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3))), "--top-k", "0"), "error.*Invalid value for '--top-k'"),
    Case("taking away", "predict: a model that was damaged", of_run("predict", "OUT", lambda b: b.file("a.png", png(solid(1, 2, 3))), then=lambda b: [p.write_bytes(b"no") for p in (b.folder / "out/model").rglob("*.safetensors")]), "error.*damaged.*figment repair"),
    Case("taking away", "look: a folder that is no run", lambda b: b.figment("look", b.inputs), "error.*neither the folder of a run"),
    Case("taking away", "look: a folder that is not there", command("look", here("none")), "error.*neither the folder of a run"),
    Case("taking away", "look: a table of runs", lambda b: b.finished_table(lambda out: None, "look", "OUT"), "error.*table of runs"),
    Case("taking away", "look: a port that is taken", busy, "error.*Port PORT"),
    Case("taking away", "look: a port that there is not", of_run("look", "OUT", "--port", "99999999"), "error.*Invalid value for '--port'"),
]  # fmt: skip

CASES = [
    *NAMES,
    *PROMPTS,
    *PICTURES,
    *DATA,
    *RECIPES,
    *VARIED,
    *FEW,
    *ENCODERS,
    *TABLES,
    *COMMANDS,
    *JUDGED,
    *AWAY,
    *ENVIRONMENT,
]


# Made in code, and used above.


def sixteen_bit_colour() -> bytes:
    """PIL does not write them: 4 x 6 pixels of (25700, 0, 51400)."""
    data = lying_png(6, 4, bits=16)
    rows = (b"\0" + struct.pack(">HHH", 25700, 0, 51400) * 6) * 4
    body = zlib.compress(rows)
    head = data[: 8 + 25]
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return head + chunk + data[-12:]


def with_comment(length: int) -> bytes:
    """A PNG with a compressed comment."""
    body = b"Comment\0\0" + zlib.compress(bytes(length))
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = png(solid(1, 2, 3))
    return data[:33] + chunk + data[33:]


def renamed_class(bench: Bench) -> str:
    """What a Mac calls a folder: é as two characters."""
    bench.photographs()
    (bench.inputs / "cat").rename(bench.inputs / "cafe\u0301")
    (bench.inputs / "dog").rename(bench.inputs / "ＤＯＧ")
    with bench.untouched():
        images = open_images(bench.inputs, ["caf\u00e9", "dog"])
        return f"works: {len(images)} images"


def damage_image(data: bytes) -> bytes:
    """The file stays a Parquet file; an image in it is another."""
    at = data.index(b"IDAT")
    return data[: at + 20] + bytes(8) + data[at + 28 :]


# ---- trying them -----------------------------------------------------------------------------------------------------


def attempt(case: Case, folder: Path, clip: Path) -> str:
    """What a case got, on one line. Raises where that is no clear answer: a traceback, a lost row, a changed input..."""
    bench = Bench(folder, clip)
    with chdir(folder), heard():
        try:
            with in_time(LIMIT):
                got = case.do(bench)
        except FigmentError as error:
            got = f"error: {error}"
    if (folder / "pwned").exists():
        raise Lost("a command was run")
    places = {
        str(folder): "DIR",
        str(clip): "CLIP",
        f"{Path(__file__).parent}/": "",
        f"{Path(os.__file__).parent}/": "",
    }
    for place, short in places.items():
        got = got.replace(place, short)
    got = " ".join(printable(got).split())
    if not re.match(case.expected, got) or not re.match(r"(works|named skip|error): \S", got) or len(got) > 3000:
        raise Lost(f"expected {case.expected!r}, got {got[:3000]}")
    return got


@contextmanager
def heard() -> Iterator[None]:
    """What figment logs is said, as by the command, and once."""
    logger = logging.getLogger("figment")
    handlers, level = logger.handlers, logger.level
    logger.handlers = [ConsoleHandler(logging.INFO)]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(level)


# ---- the page --------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "bad_input.md"
NOT_TRIED = "not tried here: nothing is forbidden to root"


def row(case: Case, got: str) -> str:
    return f"| {_cell(case.kind)} | {_cell(got if len(got) <= 300 else f'{got[:297]}...')} |"


def page(rows: Mapping[str, str]) -> Iterator[str]:
    """``rows`` by the ids of their cases."""
    yield "# Bad input, and what it gets\n"
    yield "Each row is what a test of `tests/test_hostile.py` got, which fails where the row here says something else (but for numbers and names of temporary files). It also fails if there is a"
    yield "traceback, if a file of the user's changes, if an image or a row goes missing without being counted and named, if a terminal is sent a control character, if a class name or a path is"
    yield "run by a shell, or if the report's HTML holds anything that runs, loads or leads elsewhere. The page is written by `PYTHONPATH=src python tests/hostile.py [GROUP...]`: nobody edits it."
    for group in dict.fromkeys(case.group for case in CASES):
        yield f"\n## {group.capitalize()}\n\n| given | comes of it |\n|---|---|"
        yield from (rows[case.id] for case in CASES if case.group == group)
    yield f"\n{len(CASES)} kinds."


def written() -> dict[str, str]:
    """The rows of the page as it is, by the ids of their cases."""
    text = PAGE.read_text(encoding="utf-8")
    groups = {part.partition("\n")[0].lower(): part.splitlines() for part in text.split("\n## ")[1:]}
    starts = {case.id: f"| {_cell(case.kind)} | " for case in CASES}
    return {case.id: line for case in CASES for line in groups.get(case.group, ()) if line.startswith(starts[case.id])}


def say_the_same(one: str, other: str) -> bool:
    """Whether two rows do: but for numbers, hashes, names of temporary folders, and where a long one was cut. Of what works, which may
    come with the progress of it, the beginning counts."""
    a, b = (re.sub(r"/tmp/\S*|DIR\S*|\b[0-9a-f]{16}\b|0x[0-9a-f]+|\d+(?:[.,]\d+)*", "N", line) for line in (one, other))
    said = a.find(" | works: ")
    if said >= 0:
        return a[: said + 50] == b[: said + 50]
    n = min(len(a), len(b)) - 12
    return a[:n] == b[:n] if "... |" in (one[-5:], other[-5:]) else a == b


def _answer(case: Case, clip: Path) -> str:
    if case.skip:
        return NOT_TRIED
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        return attempt(case, Path(folder), clip)


def _cell(text: str) -> str:
    """Text of a Markdown table, whatever it holds."""
    return re.sub(r"([\\|<>&*_`\[\]$~])", r"\\\1", text)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    import tiny

    asked = {group.lower() for group in sys.argv[1:]} or {case.group for case in CASES}
    rows = written()
    with tempfile.TemporaryDirectory() as models:
        clip = tiny.clip(Path(models) / "clip")
        rows |= {case.id: row(case, _answer(case, clip)) for case in CASES if case.group in asked}
    PAGE.write_text("\n".join(page(rows)) + "\n", encoding="utf-8")
