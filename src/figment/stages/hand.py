"""What a person said of the images. figment never makes it, and so never makes it again: it is looked at, and else left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from figment.errors import FigmentError
from figment.images_in import by_hand
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.stages.stage import Look, Stage, StageStatus

if TYPE_CHECKING:
    from figment.context import Context


class Hand(Stage):
    """It lies beside the images, of which several runs may make use, and only there it is told of."""

    name = by_hand.FILTER
    of = ("run", "set")

    def folders(self, run: Run) -> list[Path]:
        return []

    def check(self, ctx: Context) -> None:
        by_hand.read(ctx.run)

    def run(self, ctx: Context) -> None:
        """There is nothing to make."""

    def status(self, run: Run) -> list[StageStatus]:
        if run.made != run or not by_hand.place(run).is_file():
            return []
        try:
            return [StageStatus(self.name, "done", _counted(by_hand.read(run)))]
        except FigmentError as error:
            return [StageStatus(self.name, "partial", str(error))]

    def verify(self, look: Look) -> None:
        run = look.run
        if run.made != run or not by_hand.place(run).is_file():
            return
        look.known.add(by_hand.place(run))
        try:
            said = by_hand.read(run)
        except FigmentError as error:
            look.add("broken", run.hand, str(error))
            return
        look.checked(run.hand, _counted(said))
        try:
            there = int(np.count_nonzero(said.of(open_run_images(run))))
        except FigmentError:
            return  # the images are not there, or damaged, which their own stage says
        if there < len(said.said):
            text = (
                f"{len(said.said) - there:,} verdicts are on images that the run does not hold now; they wait for them"
            )
            look.add("note", run.hand, text)

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        """Nobody but a person can say it again."""
        yield from ()


def _counted(said: by_hand.ByHand) -> str:
    words = [word for _, word in said.said.values()]
    return ", ".join(f"{words.count(word):,} {word}" for word in ("rejected", "accepted"))
