"""What is done about work and workers that go wrong: on a simulated cluster, with the real loop, a real folder and a store that counts."""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from threading import Event
from typing import Any

import pytest

from figment import stores
from figment.engines import Later, Local, todo
from figment.engines.crew import Event as CrewEvent
from figment.engines.crew import work_on
from figment.engines.todo import FAULTS
from figment.errors import FigmentError, NothingMade, Unreachable
from figment.generate import fill
from figment.generate.fill import Work, generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.shards import ShardFolder
from figment.types import Prompt
from names_store import shelf
from simulated import Cluster, Weather

NAMES = ["ankle boot", "bag"]
PROMPTS = [Prompt(f"{y:03d}-x/{i:05d}", f"text {y} {i}", y, f"g{y}{i}") for y in (0, 1) for i in range(5)]
PIECES = [Work(i, range(4_000), whole=True) for i in range(400)]


def simulated(weather: Weather, n: int = 40, pieces=PIECES) -> tuple[Counter[int], Cluster, str]:
    """Piece -> how often it was handed back; the cluster; what was said at the end."""
    made: Counter[int] = Counter()
    cluster = Cluster(n, weather, lambda piece: piece.shard, seed=1)
    try:
        for work, result in work_on(cluster, pieces, lambda n: None, cluster.clock):
            assert work.shard == result
            made[result] += 1
    except FigmentError as error:
        return made, cluster, str(error)
    return made, cluster, ""


def test_whatever_the_weather_nothing_is_lost_and_nothing_doubled():
    made, cluster, said = simulated(Weather(deaths=0.05, gone=0.1, errors=0.02, slow=0.1, requests=0.06))
    assert made == dict.fromkeys(range(400), 1) and not said
    assert min(cluster.counts[kind] for kind in ("lost", "gone", "failed", "throttled")) >= 5


def test_what_fails_wherever_it_is_tried_is_given_up_and_the_rest_is_made():
    made, _, said = simulated(Weather(spoilt=frozenset({7, 390})))
    assert made == dict.fromkeys(set(range(400)) - {7, 390}, 1)
    assert re.match(r"2 of 400 pieces of work were given up: shard 7: ValueError: spoilt, \d times; shard 390: ", said)
    assert said.endswith("run the same command again and it goes on from there.") and "\n" not in said


def test_a_machine_on_which_everything_fails_at_once_spoils_nothing():
    made, cluster, said = simulated(Weather(broken=frozenset({2})))
    assert cluster.counts["failed"] >= 10 and made == dict.fromkeys(range(400), 1) and not said


def test_machines_that_leave_are_not_held_against_a_piece():
    """Two in three pieces lose their machine, most of them more often than a piece may cost workers."""
    made, cluster, said = simulated(Weather(gone=0.4))
    assert made == dict.fromkeys(range(400), 1) and not said and cluster.counts["gone"] > 200


def test_where_nothing_works_any_more_the_run_ends():
    made, cluster, said = simulated(Weather(spoilt=frozenset(range(50, 400))))
    assert set(made) == set(range(50))
    assert "more were not tried" in said and cluster.counts["given"] < 400


def test_an_error_before_anything_was_made_is_the_runs():
    cluster = Cluster(4, Weather(spoilt=frozenset(range(400))), lambda piece: 0)
    with pytest.raises(ValueError, match="spoilt"):
        list(work_on(cluster, PIECES, lambda n: None, cluster.clock))
    assert cluster.counts["failed"] == FAULTS * 5  # every worker, and once more


@pytest.mark.parametrize(
    ("error", "tries"), [(FigmentError("yours"), 1), (NothingMade("of it"), 1), (Unreachable("away"), 3)]
)
def test_what_a_user_can_mend_is_said_at_once_and_a_store_is_asked_again(error, tries):
    tried = []

    def job(piece: str, advance) -> Any:
        tried.append(piece)
        raise error

    with pytest.raises(type(error)) as caught:
        list(Local()(job, ["a"], lambda n: None))
    assert caught.value is error and len(tried) == tries


def test_progress_is_the_sum_of_what_came_out():
    units, tried = [], []

    def job(piece: int, advance) -> int:
        advance(5)
        tried.append(piece)
        if tried == [0, 1]:
            raise RuntimeError("passing")
        return piece

    assert dict(Local()(job, [0, 1, 2], units.append)) == {0: 0, 1: 1, 2: 2}
    assert tried.count(1) == 2 and len(tried) == 4 and sum(units) == 15


# ---- a real folder in a store that counts ----------------------------------------------------------------------------


class Faulty(ProceduralGenerator):
    """Every image of one text fails, for as long as it is told to."""

    def __init__(self, texts: set[str]):
        super().__init__(height=4, width=4)
        self.texts = texts

    def __call__(self, prompts, seeds, init=None):
        if self.texts & set(prompts):
            raise RuntimeError("cannot draw it")
        return super().__call__(prompts, seeds)


def make(folder: str, generator, n: int = 12):
    return generate_images(PROMPTS[:1], generator, folder, NAMES[:1], images_per_class=n, shard_size=2)


def test_a_store_that_wants_fewer_requests_is_waited_for(monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", (0.001, 0.002))
    asked: Counter[str] = Counter()

    def trouble(what: str, path: str) -> None:
        asked[path] += 1
        if asked[path] == 1:  # once at each
            raise OSError(errno.EBUSY, "Please reduce your request rate.")

    shelf("busy", trouble=trouble)
    made = make("names://busy/images", Faulty(set()))
    assert len(made) == 12 and len(asked) > 12


def test_a_store_that_stays_away_ends_the_run_with_a_paragraph(monkeypatch):
    monkeypatch.setattr(stores, "PATIENCE", 0.0)
    own = shelf("away")
    own.trouble = lambda what, path: own.counts["writes"] > 6 and _raise(ConnectionError("nobody answers"))
    with pytest.raises(FigmentError, match="nobody answers.*goes on from there"):
        make("names://away/images", Faulty(set()))
    own.trouble = lambda what, path: None
    assert len(make("names://away/images", Faulty(set()))) == 12


def _raise(error: Exception) -> None:
    raise error


def test_a_shard_of_which_nothing_can_be_made_is_said_at_the_end_and_tried_again_by_the_next_run(tmp_path, monkeypatch):
    """One prompt a class and class by class, so that the third shard of five is of one text alone."""
    monkeypatch.setattr(fill, "TELLING", 1)  # as if a shard had many rows
    monkeypatch.setattr(
        fill, "_raise_if_lost", lambda error, alone=False: None
    )  # loads torch, and no device is lost here
    prompts, names = [Prompt(f"{y:03d}-x/0", f"text {y}", y, f"g{y}") for y in range(5)], list("abcde")

    def made(texts: set[str]):
        return generate_images(prompts, Faulty(texts), tmp_path, names, images_per_class=1, shard_size=1)

    with pytest.raises(
        FigmentError, match="^1 of 5 pieces of work were given up: shard 2: None of the 1 images .*cannot draw"
    ):
        made({"text 2"})
    assert [p.name for p in sorted(tmp_path.rglob("*.parquet"))] == [f"train-{i:07d}.parquet" for i in (0, 1, 3, 4)]
    assert not (tmp_path / "stage.json").exists()
    assert len(made(set())) == 5


# ---- what is left of a piece is done behind --------------------------------------------------------------------------


def test_a_shard_is_written_while_the_next_is_made(tmp_path, monkeypatch):
    """The writing of the first waits for the second's images, which it would wait for in vain were it not done behind."""
    begun, order = Event(), []
    write = ShardFolder.write

    class Watched(ProceduralGenerator):
        def __call__(self, prompts, seeds, init=None):
            order.append("made")
            if order.count("made") == 2:
                begun.set()
            return super().__call__(prompts, seeds)

    def waiting(self, index, table):
        assert index > 0 or begun.wait(20)
        order.append(f"written {index}")
        return write(self, index, table)

    monkeypatch.setattr(ShardFolder, "write", waiting)
    assert len(make(str(tmp_path), Watched(height=4, width=4))) == 12
    assert order[:2] == ["made", "made"] and [one for one in order if one != "made"] == [
        f"written {i}" for i in range(6)
    ]


@pytest.mark.parametrize("place", [0, 1])
def test_no_more_than_one_piece_waits_and_results_come_in_order_once_they_are_true(place):
    ending, most, made = [], 0, []

    def job(piece: int, advance) -> Later[int]:
        nonlocal most
        most = max(most, len(ending))  # when the third is made the first is no longer being ended, and so on
        made.append(piece)
        advance(1)
        ending.append(piece)
        return Later(lambda: end(piece))

    def end(piece: int) -> int:
        time.sleep(0.05 if piece % 2 == place else 0)
        ending.remove(piece)
        return piece

    units: list[int] = []
    told = list(Local()(job, list(range(6)), units.append))
    assert told == [(i, i) for i in range(6)] and made == list(range(6)) and sum(units) == 6
    assert most <= 1 and not ending


def test_an_error_of_writing_is_the_runs_and_what_was_made_meanwhile_is_written():
    written, begun = [], Event()

    def job(piece: int, advance) -> Later[int]:
        if piece == 1:
            begun.set()
        return Later(lambda: end(piece))

    def end(piece: int) -> None:
        assert begun.wait(20)
        written.append(piece) if piece else _raise(FigmentError("the disk is full"))

    with pytest.raises(FigmentError, match="the disk is full"):
        list(Local()(job, [0, 1, 2], lambda n: None))
    assert written == [1]


def test_an_error_of_making_leaves_what_was_made_before_written():
    written = []

    def job(piece: int, advance) -> Later[int]:
        if piece == 1:
            raise FigmentError("no such model")
        return Later(lambda: (time.sleep(0.1), written.append(piece))[0])

    with pytest.raises(FigmentError, match="no such model"):
        list(Local()(job, [0, 1, 2], lambda n: None))
    assert written == [0]


def test_a_writing_that_fails_for_a_moment_costs_its_piece_another_try(monkeypatch):
    monkeypatch.setattr(todo, "REST", 0.01)
    tried: Counter[int] = Counter()

    def job(piece: int, advance) -> Later[int]:
        advance(1)

        def end() -> int:
            tried[piece] += 1
            if piece == 1 and tried[piece] == 1:
                raise OSError("passing")
            return piece

        return Later(end)

    units: list[int] = []
    assert dict(Local()(job, list(range(4)), units.append)) == {i: i for i in range(4)}
    assert tried == {0: 1, 1: 2, 2: 1, 3: 1} and sum(units) == 4


def test_control_c_waits_for_the_shard_that_is_being_written(tmp_path, monkeypatch):
    write = ShardFolder.write
    monkeypatch.setattr(ShardFolder, "write", lambda *given: (time.sleep(0.2), write(*given))[1])

    class Stopped(ProceduralGenerator):
        calls = 0

        def __call__(self, prompts, seeds, init=None):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(prompts, seeds)

    with pytest.raises(KeyboardInterrupt):
        make(str(tmp_path), Stopped(height=4, width=4))
    assert [p.name for p in tmp_path.rglob("*.parquet")] == ["train-0000000.parquet"]


class TwoAtATime:
    """A crew of one that is at a second piece when it dies: of the first it had said no more than that it was made."""

    spread = False

    def __init__(self):
        self.given, self.told, self.n = [], [], 0

    def places(self) -> int:
        return 1

    def hire(self) -> int:
        self.n += 1
        self.told.append(CrewEvent(self.n, "ready"))
        return self.n

    def give(self, worker, piece, advance) -> None:
        self.given.append(piece)
        advance(1)
        if self.n <= 2:  # the first two die at whatever comes second
            self.told.append(CrewEvent(worker, "made") if len(self.given) % 2 else CrewEvent(worker, "lost", "killed"))
        else:
            self.told.append(CrewEvent(worker, "done", piece))

    def dismiss(self, worker) -> None:
        pass

    def event(self, timeout) -> CrewEvent:
        return self.told.pop(0)


def test_a_worker_that_dies_at_one_piece_gives_back_the_one_it_was_ending_too(capsys):
    crew, units = TwoAtATime(), []
    assert dict(work_on(crew, ["a", "b", "c"], units.append)) == {"a": "a", "b": "b", "c": "c"}
    assert crew.given == ["a", "b"] * 3 + ["c"] and sum(units) == 3
