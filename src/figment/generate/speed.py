"""Faster ways to images: each stands beside the plain one at its first call, on the very chip and batch, before it is used."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from figment.device import failure, is_out_of_memory
from figment.errors import FigmentError

log = logging.getLogger(__name__)

CALLS = 2  # of each way, of which the quicker counts: what else goes on in a machine only ever adds time
#: How far apart outputs may be and still be the same up to rounding: root mean square, as a share of the plain output's. On the starter
#: OpenVINO was 6e-7 from float32, and in bfloat16 5e-3, where torch's own is 4e-3; on random weights the two bfloat16s are 4e-2 apart.
#: What is computed wrongly is off by about as much as the output is large.
SAME = {torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}


@dataclass(frozen=True)
class Trial:
    """What came of one. Seconds are of a call with a whole batch."""

    what: str  # as the recipe has it
    of: str  # denoiser or decoder
    plain_seconds: (
        float | None
    )  # None: a whole batch does not fit into memory without it, so there is nothing to compare with
    seconds: float | None  # None: it failed
    difference: float | None  # of the outputs, as a share of the plain one's root mean square; None: not a number
    used: bool
    why: str = ""  # it was not used

    @property
    def sentence(self) -> str:
        if self.seconds is None:
            return f"generate.speed.{self.what} is not used: {self.why}."
        if self.plain_seconds is None:
            return f"generate.speed.{self.what}: a call of the {self.of} takes {self.seconds:.3g} s; without, a batch does not fit into memory."
        times = self.plain_seconds / max(self.seconds, 1e-9)
        told = f"{times:.2f} times as fast as without (a call of the {self.of}: {self.seconds:.3g} s, without {self.plain_seconds:.3g} s)"
        if not self.used:
            return f"generate.speed.{self.what} is not used: {self.why or 'it is slower here'}; {told}."
        return f"generate.speed.{self.what}: {told}." + (" Leave it out: nothing is gained here." if times < 1 else "")

    @property
    def told(self) -> dict[str, Any]:
        """For a record, JSON-able."""
        return {name: float(f"{v:.3g}") if isinstance(v, float) else v for name, v in asdict(self).items() if v != ""}


class Tried:
    """A function in the place of ``plain``. Its first call times both ways on what it was given; later ones go the way that was chosen.

    ``make`` is given those arguments and returns the faster way; whatever it raises is a reason not to use it. One that is ``asked_for``
    changes what comes out, and is used in any case: what a set of images is does not hang on a stopwatch. Others must be faster, and
    within `SAME`.
    """

    def __init__(
        self,
        what: str,
        of: str,
        plain: Callable[..., Any],
        make: Callable[[Sequence[Any], dict[str, Any]], Callable[..., Any]],
        *,
        asked_for: bool = False,
    ):
        self.what, self.of, self.plain, self.make, self.asked_for = what, of, plain, make, asked_for
        self.chosen: Callable[..., Any] | None = None
        self.made: Callable[..., Any] | None = (
            None  # the faster way, once it is there: making it may change the plain one for good
        )
        self.trial: Trial | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.chosen is None:
            self.trial, self.chosen = self._try(given, named)
            log.log(logging.INFO if self.trial.used else logging.WARNING, "%s", self.trial.sentence)
            del self.plain, self.make, self.made  # with what only the trial needed, such as a model's own decoder
        return self.chosen(*given, **named)

    def _try(self, given: Sequence[Any], named: dict[str, Any]) -> tuple[Trial, Callable[..., Any]]:
        plain_seconds, expected = self._without(given, named)
        trial = lambda *came_of_it: Trial(self.what, self.of, plain_seconds, *came_of_it)
        try:
            if self.made is None:
                self.made = self.make(given, named)
            fast = self.made
            seconds, output = _timed(lambda: fast(*given, **named))
        except Exception as error:  # of a compiler, a converter, a library that is not there: each has its own errors
            if self.asked_for or failure(error):
                raise
            why = "memory ran out" if is_out_of_memory(error) else " ".join(str(error).split())[:300].rstrip(".")
            return trial(None, None, False, why or type(error).__name__), self.plain
        apart = None if expected is None else _apart(output, expected)
        if self.asked_for:
            return trial(seconds, apart, True), fast
        assert expected is not None and plain_seconds is not None  # else it was raised
        most = SAME.get(expected.dtype, min(SAME.values()))
        if apart is None or apart > most:
            why = f"it is {'nothing like' if apart is None else f'{apart:.2g} from'} what it should be, and {most:g} is rounding"
            return trial(seconds, apart, False, why), self.plain
        used = seconds < plain_seconds
        return trial(seconds, apart, used), fast if used else self.plain

    def _without(self, given: Sequence[Any], named: dict[str, Any]) -> tuple[float | None, torch.Tensor | None]:
        """Seconds and output of the plain way; neither where what is asked for was made already and a smaller batch is tried now, or where
        what is asked for may fit into memory and the plain way does not."""
        if self.made is not None:
            return None, None
        try:
            return _timed(lambda: self.plain(*given, **named))
        except Exception as error:
            if not (self.asked_for and is_out_of_memory(error)):
                raise
            return None, None


def _timed(call: Callable[[], Any]) -> tuple[float, torch.Tensor]:
    """The least seconds of :data:`CALLS` calls, after one that warms up; and what came of the last."""
    seconds, output = float("inf"), tensor_of(call())
    for _ in range(CALLS):
        wait(output.device)
        started = time.perf_counter()
        output = tensor_of(call())
        wait(output.device)
        seconds = min(seconds, time.perf_counter() - started)
    return seconds, output


def wait(device: torch.device) -> None:
    """Until an accelerator has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def tensor_of(output: Any) -> torch.Tensor:
    """Of ``(tensor,)`` or diffusers' output with a ``sample``."""
    return output[0] if isinstance(output, tuple) else output.sample


def _apart(output: torch.Tensor, expected: torch.Tensor) -> float | None:
    """Root mean square of the difference, as a share of the expected one's; None where it is not finite or the shapes differ."""
    if output.shape != expected.shape:
        return None
    size = expected.float().square().mean().sqrt()
    share = float((output.float() - expected.float()).square().mean().sqrt() / size)
    return share if share < float("inf") else None


def denoiser_in(pipe: Any) -> torch.nn.Module:
    """The one model of a pipeline that takes the noise away. Raises FigmentError for a pipeline that has another number of them."""
    found = [
        own
        for name in ("unet", "transformer", "prior")
        if isinstance(own := getattr(pipe, name, None), torch.nn.Module)
    ]
    if len(found) != 1 or isinstance(getattr(pipe, "transformer_2", None), torch.nn.Module):
        raise FigmentError(
            f"generate.speed's compile, backend, cache and quantise are for pipelines of one denoiser, and {type(pipe).__name__} is none."
            " Leave them out."
        )
    return found[0]
