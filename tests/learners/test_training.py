"""What is done around every training loop: history, the best epoch, checkpoints that a killed training goes on from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from figment.checkpoint import Checkpoint, packed, unpacked
from figment.errors import FigmentError
from figment.learners.training import LOOK_EVERY, Step, n_epochs, random_numbers_of, schedule, train


class Line:
    """Fits a line by AdamW in ``epochs`` of 4 steps; ``dies_at`` is the step at which it is killed."""

    def __init__(self, epochs: int = 3, dies_at: int = 0, nan_at: int = 0):
        torch.manual_seed(0)
        self.epochs, self.dies_at, self.nan_at, self.images = epochs, dies_at, nan_at, 8 * 4 * epochs
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.done = 0

    def __iter__(self):
        while self.done < 4 * self.epochs:
            if self.dies_at == self.done + 1:
                raise KeyboardInterrupt
            with random_numbers_of(7, self.done):
                x = torch.randn(8, 3)
            loss = ((self.model(x)[:, 0] - x.sum(1)) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.done += 1
            loss = loss.detach() * (float("nan") if self.nan_at == self.done else 1)
            yield Step((self.done - 1) // 4 + 1, 8, loss, 0.1, self.done % 4 == 0)

    def weights(self):
        return self.model.state_dict()

    def load_weights(self, weights):
        self.model.load_state_dict(weights)

    def state_dict(self):
        return {"done": self.done, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.done = state["done"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def weight(loop: Line) -> bytes:
    return b"".join(v.numpy().tobytes() for v in loop.weights().values())


def test_history_has_the_mean_loss_of_each_epoch():
    loop, losses = Line(), [step.loss.item() for step in Line()]
    history = train(loop)
    assert [h["epoch"] for h in history] == [1, 2, 3]
    np.testing.assert_allclose([h["loss"] for h in history], np.reshape(losses, (3, 4)).mean(1), rtol=1e-6)
    assert {h["val_accuracy"] for h in history} == {None}


@pytest.mark.parametrize(("select", "kept"), [("last", 3), ("validation", 2), ("test_best", 2)])
def test_the_best_epoch_is_the_earliest_of_equals(select: str, kept: int):
    loop, found, after = Line(), iter([0.5, 0.9, 0.9]), []

    def validate() -> float:
        after.append(weight(loop))
        return next(found)

    history = train(loop, select=select, validate=validate)
    assert weight(loop) == after[kept - 1]
    assert [h["val_accuracy"] for h in history] == [0.5, 0.9, 0.9]


@pytest.mark.parametrize("select", ["last", "validation"])
def test_a_training_killed_three_times_ends_with_the_same_weights(tmp_path: Path, select: str):
    accuracy = {0: 0.2, 4: 0.9, 8: 0.4, 12: 0.3}  # by steps done
    whole = Line()
    history = train(whole, select=select, validate=lambda: accuracy[whole.done])
    for dies_at in (3, 7, 12, 0):  # in the first epoch, in the second after the best one, in the last
        loop = Line(dies_at=dies_at)
        try:
            after = train(
                loop, select=select, validate=lambda loop=loop: accuracy[loop.done], checkpoint=every_step(tmp_path)
            )
        except KeyboardInterrupt:
            assert dies_at
    assert weight(loop) == weight(whole)
    assert after == history


def every_step(folder: Path, identity: str = "line") -> Checkpoint:
    return Checkpoint(folder / "line.safetensors", identity, seconds=0)


def test_a_finished_training_is_read_and_not_repeated(tmp_path: Path):
    first = Line()
    history = train(first, checkpoint=every_step(tmp_path))
    again = Line(dies_at=1)
    assert train(again, checkpoint=every_step(tmp_path)) == history
    assert weight(again) == weight(first)


def test_a_checkpoint_of_another_training_is_as_good_as_none(tmp_path: Path):
    train(Line(), checkpoint=every_step(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(Line(dies_at=1), checkpoint=every_step(tmp_path, "another"))


def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        train(Line(dies_at=6), checkpoint=every_step(tmp_path))
    path = tmp_path / "line.safetensors"
    whole = path.read_bytes()
    assert every_step(tmp_path).read() is not None
    for position in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        assert every_step(tmp_path).read() is None, position
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert every_step(tmp_path).read() is None, length
    path.write_bytes(whole[:100])
    loop, alone = Line(), Line()
    train(loop, checkpoint=every_step(tmp_path))
    train(alone)
    assert weight(loop) == weight(alone)


def test_only_one_process_writes(tmp_path: Path):
    train(Line(), checkpoint=Checkpoint(tmp_path / "x.safetensors", "x", seconds=0, writes=False))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_is_named_by_its_step(tmp_path: Path):
    with pytest.raises(FigmentError, match=r"became nan at step 6 \(epoch 2.*Lower train.learning_rate"):
        train(Line(nan_at=6), checkpoint=Checkpoint(tmp_path / "x.safetensors", "x", seconds=1e9))
    assert LOOK_EVERY > 4  # so it was found at the end of the epoch, and not at once


def test_choosing_needs_something_to_choose_on():
    with pytest.raises(FigmentError, match="select: validation keeps the best epoch on validation images"):
        train(Line(), select="validation")


def test_what_is_packed_comes_back(tmp_path: Path):
    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    value = {"a": [1, 2.5, None, "text", True], 3: {"t": tensor, "same": tensor.T, "scalar": torch.tensor(4)}, "no": {}}
    (tmp_path / "x").write_bytes(packed(value))
    found = unpacked(tmp_path / "x")
    assert found["a"] == value["a"]
    assert found["no"] == {}
    assert found[3]["t"].dtype == torch.bfloat16
    assert torch.equal(found[3]["same"], tensor.T)
    assert found[3]["scalar"].shape == ()
    assert packed(value) == packed(value)


def test_the_schedule_is_timms_without_its_first_step_of_nothing():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    timms = CosineLRScheduler(optimizer, t_initial=20, warmup_t=5, warmup_prefix=True, t_in_epochs=False)
    rates = schedule(0.3, 5, 25)
    np.testing.assert_allclose(rates[:4], [timms._get_lr(t)[0] for t in range(1, 5)], rtol=1e-12)
    np.testing.assert_allclose(rates[5:], [timms._get_lr(t)[0] for t in range(5, 25)], rtol=1e-12)
    assert rates[4] == rates[5] == 0.3
    assert n_epochs(2, 4, 9) == 3
    assert n_epochs(2, 4) == 2


def test_random_numbers_depend_on_their_place_and_leave_the_others_alone():
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = [draw() for _ in range(2)]
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    first = draw()
    with random_numbers_of(3, 4):
        inside = draw()
    with random_numbers_of(3, 5):
        assert draw() != inside
    with random_numbers_of(3, 4):
        assert draw() == inside
    assert [first, draw()] == expected
