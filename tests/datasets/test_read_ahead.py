"""Reading ahead in threads: order, errors and memory."""

import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, Store, write_store
from dreamset.datasets.read_ahead import read_ahead


class Value:
    """An object whose collection can be observed."""

    def __init__(self, number: int) -> None:
        self.number = number


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("workers", [1, 2, 7, 30])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_are_in_order_for_any_number_of_workers(workers, count):
    delays = np.random.default_rng(0).uniform(0, 0.004, count)

    def read(number: int) -> int:
        time.sleep(delays[number])
        return number

    assert list(read_ahead(read, count, workers=workers)) == list(range(count))


def test_number_of_reading_threads_equals_workers():
    running, most = 0, 0
    lock, both = threading.Lock(), threading.Barrier(3, timeout=10)

    def read(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if number < 3:
            both.wait()  # only three at a time get past here
        with lock:
            running -= 1
        return number

    assert list(read_ahead(read, 12, workers=3)) == list(range(12))
    assert most == 3


def test_at_most_workers_plus_one_results_are_in_memory():
    alive, most = 0, 0
    lock = threading.Lock()

    def forget() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def read(number: int) -> Value:
        nonlocal alive, most
        value = Value(number)
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(value, forget)
        return value

    with closing(read_ahead(read, 30, workers=3)) as results:
        for number in range(30):
            assert next(results).number == number
            wait_until(lambda number=number: alive == min(3, 29 - number) + 1)  # the generator's own and those ahead
    assert most == 4


def test_user_error_is_a_value_and_others_are_still_read():
    def read(number: int) -> int:
        if number in (0, 3):
            raise UserError(f"episode {number}")
        return number

    results = list(read_ahead(read, 5, workers=2))
    assert [str(result) for result in results] == ["episode 0", "1", "2", "episode 3", "4"]
    assert [isinstance(result, UserError) for result in results] == [True, False, False, True, False]


def test_other_error_is_raised_at_its_position():
    def read(number: int) -> int:
        if number == 2:
            raise ZeroDivisionError
        return number

    results = read_ahead(read, 9, workers=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_early_stops_reading_and_ends_threads():
    begun: list[int] = []

    def read(number: int) -> int:
        begun.append(number)
        return number

    results = read_ahead(read, 1000, workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(begun) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


@pytest.mark.parametrize("workers", [0, -1])
def test_zero_workers_are_refused(counter_source, tmp_path, workers):
    with pytest.raises(UserError, match=f"workers is {workers}; allowed: 1 or more"):
        write_store(counter_source([3, 3]), tmp_path / "store", workers=workers)
    assert not list(tmp_path.iterdir())


def test_failing_ingestion_ends_its_threads(counter_source, tmp_path, nan_in):
    with pytest.raises(UserError):
        write_store(counter_source([5] * 50, nan_in(4)), tmp_path / "store", workers=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "checksum"))]


STREAM = """
import resource, sys
import numpy as np
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, write_store
from dreamset.datasets.sources import SourceDescription

EPISODES, STEPS, SIDE = 75, 85, 128  # 86 images of 48 KiB are 4 MiB: 300 MiB in all

class Stream:
    episode_count = EPISODES
    def describe(self):
        image = {"image": ArraySpec((SIDE, SIDE, 3), "uint8")}
        return SourceDescription(image, {}, ActionSpec(1, False, (0.0,), (99.0,)), {})
    def read(self, number):
        frames = np.full((STEPS + 1, SIDE, SIDE, 3), number, np.uint8)
        actions = np.full((STEPS, 1), number, np.float32)
        return RawEpisode(f"episode {number}", {"image": frames}, actions, actions[:, 0], False, {})

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before = peak()
store = write_store(Stream(), sys.argv[1], shard_bytes=8 << 20, workers=2)
print(sum(shard["bytes"] for shard in store.info["shards"]) >> 20, peak() - before)
"""


def test_memory_is_bounded_by_a_shard_and_the_episodes_ahead(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path / "store")], capture_output=True, text=True, check=True, timeout=120
    )
    written, growth = map(int, done.stdout.split())
    assert written > 290
    assert growth < 80, f"{growth} MiB"  # a shard of 12 MiB, 3 episodes of 4 MiB, libraries that load on the way


def test_ten_thousand_short_episodes_are_written_and_sampled(counter_source, tmp_path):
    lengths = [1 + number % 3 for number in range(10_000)]
    begin = time.process_time()  # other programs may run
    write_store(counter_source(lengths), tmp_path / "store")
    assert time.process_time() - begin < 7
    begin = time.process_time()
    store = Store.open(tmp_path / "store")
    sampler = SequenceSampler(store, split="train", batch_size=500, length=2, seed=0)
    batch = sampler.sample()
    assert time.process_time() - begin < 1
    assert store.lengths.tolist() == [length + 1 for length in lengths]
    assert sampler.windows == sum(lengths[episode] for episode in store.split("train"))
    state, action = batch.observations["state"][..., 0], batch.action[..., 0]
    assert (state[:, 1] - state[:, 0] == 1).all()
    assert (action[:, 1] == state[:, 0] + 0.25).all()
    assert len(state[:, 0].unique()) > 400


def test_one_step_episodes_are_kept_and_sampled(make_store):
    store = make_store(1, 1, 1, 1)
    assert store.lengths.tolist() == [2, 2, 2, 2]
    batch = SequenceSampler(store, split="train", batch_size=8, length=2, seed=0).sample()
    assert batch.is_first[:, 0].all()
    assert batch.is_last[:, 1].all()
    with pytest.raises(UserError, match=r"no episode has 3 rows, the longest has 2; lower batch.length to 2"):
        SequenceSampler(store, split="train", batch_size=8, length=3, seed=0)


def test_empty_source_is_refused_and_keeps_the_old_store(make_store, counter_source):
    old = make_store(3, 3)
    with pytest.raises(UserError, match=r"the dataset has 0 episode\(s\), expected 2 or more"):
        write_store(counter_source([]), old.path)
    Store.open(old.path).verify()
