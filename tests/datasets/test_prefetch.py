import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.datasets import SequenceSampler
from dreamset.datasets.prefetch import Prefetcher
from dreamset.datasets.stream import BatchStream

CPU = torch.device("cpu")
SPEC = DataSpec({"image": ArraySpec((2, 2, 1), "uint8")}, ActionSpec(1, False, (-1.0,), (1.0,)), {}, {})


class Numbered(BatchStream):
    """Batch k contains only k; the worker calls ``before`` with k."""

    def __init__(self, before: Callable[[int], object] = lambda number: number):
        super().__init__(SPEC, batch_size=2, length=3, seed=0)
        self.before = before
        self.made: list[int] = []

    def fill(self, number, columns):
        self.made.append(number)
        self.before(number)
        for values in columns.values():
            values[:] = number


def number_of(batch) -> int:
    (number,) = batch.reward.unique().tolist()
    return int(number)


def dawdle(number: int) -> None:
    """Delays that often finish later batches first."""
    time.sleep(float(np.random.default_rng(number).uniform(0, 0.01)))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() or time.sleep(0.01) for _ in range(500))


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    assert eventually(lambda: not threads())


@pytest.fixture
def _interruptible():
    """Ctrl-C is ignored where tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("depth", "workers"), [(1, 1), (2, 1), (5, 3), (2, 4)])
def test_batches_arrive_in_order_whatever_the_workers(depth, workers):
    with Prefetcher(Numbered(dawdle), device=CPU, depth=depth, workers=workers) as prefetcher:
        assert [number_of(prefetcher.sample()) for _ in range(30)] == list(range(30))


def test_batches_are_those_of_the_sampler(make_store):
    settings = {"split": "train", "batch_size": 4, "length": 5, "seed": 0}
    store = make_store(30, 30, 30)
    plain = SequenceSampler(store, **settings)
    with Prefetcher(SequenceSampler(store, **settings), device=CPU, workers=2) as prefetcher:
        for _ in range(5):
            batch, wanted = prefetcher.sample(), plain.sample()
            assert torch.equal(batch.observations["state"], wanted.observations["state"])
            assert torch.equal(batch.observations["image"], wanted.observations["image"])
            assert batch.observations["image"].dtype == torch.uint8
            assert prefetcher.state_dict() == plain.state_dict()


def test_delivered_batch_is_never_overwritten():
    with Prefetcher(Numbered(), device=CPU) as prefetcher:
        batches = [prefetcher.sample() for _ in range(6)]
        assert [number_of(batch) for batch in batches] == list(range(6))


def test_no_more_than_depth_batches_are_made_in_advance():
    stream = Numbered()
    with Prefetcher(stream, device=CPU, depth=3) as prefetcher:
        assert stream.made == []  # so that a state can be loaded before any work is done
        prefetcher.sample()
        assert eventually(lambda: len(stream.made) == 4)
        time.sleep(0.05)
        assert stream.made == [0, 1, 2, 3]


def test_state_is_that_of_the_last_batch_consumed():
    stream = Numbered()
    with Prefetcher(stream, device=CPU, depth=4) as prefetcher:
        assert [number_of(prefetcher.sample()) for _ in range(2)] == [0, 1]
        assert eventually(lambda: len(stream.made) == 6)
        state = prefetcher.state_dict()
        expected = [number_of(prefetcher.sample()) for _ in range(3)]
        prefetcher.load_state_dict(state)
        assert [number_of(prefetcher.sample()) for _ in range(3)] == expected
    stream.load_state_dict(state)
    assert number_of(stream.sample()) == expected[0]
    stream.load_state_dict(state)
    with Prefetcher(stream, device=CPU) as resumed:
        assert number_of(resumed.sample()) == expected[0]


def test_worker_failure_is_raised_by_the_sample_of_its_batch():
    def fail(number: int) -> None:
        if number == 2:
            raise UserError("episode_7: damaged")

    with Prefetcher(Numbered(fail), device=CPU, depth=4, workers=2) as prefetcher:
        assert [number_of(prefetcher.sample()) for _ in range(2)] == [0, 1]
        for _ in range(2):
            with pytest.raises(UserError, match="episode_7: damaged"):
                prefetcher.sample()
        assert prefetcher.state_dict() == {"next_number": 2}


def test_closed_prefetcher_has_no_thread_and_no_batch():
    prefetcher = Prefetcher(Numbered(dawdle), device=CPU, depth=8, workers=3)
    prefetcher.sample()
    assert threads()
    prefetcher.close()
    prefetcher.close()
    assert not threads()
    with pytest.raises(RuntimeError, match="shutdown"):
        prefetcher.sample()


def test_threads_of_a_dropped_prefetcher_end():
    prefetcher = Prefetcher(Numbered(dawdle), device=CPU, depth=8, workers=2)
    prefetcher.sample()
    assert threads()
    del prefetcher  # without a garbage collection: it is in no cycle
    assert eventually(lambda: not threads())


@pytest.mark.usefixtures("_interruptible")
def test_interrupt_reaches_a_waiting_consumer():
    release = threading.Event()
    consumer = threading.main_thread().ident
    with Prefetcher(Numbered(lambda _: release.wait(10)), device=CPU) as prefetcher:
        timer = threading.Timer(0.2, signal.pthread_kill, (consumer, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            prefetcher.sample()
        release.set()
        assert number_of(prefetcher.sample()) == 0  # nothing was lost


INTERRUPTED = """
import os, signal, time, torch
from test_prefetch import Numbered, Prefetcher
signal.signal(signal.SIGINT, signal.default_int_handler)
prefetcher = Prefetcher(Numbered(lambda number: time.sleep(0.2)), device=torch.device("cpu"), depth=4, workers=2)
prefetcher.sample()
print("sampled", flush=True)
os.kill(os.getpid(), signal.SIGINT)
"""


def test_interrupted_program_ends(root):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        cwd=root / "tests" / "datasets",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "sampled\n", done.stderr
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize(("depth", "workers"), [(0, 1), (1, 0)])
def test_depth_or_workers_below_one_are_refused(depth, workers):
    with pytest.raises(UserError, match="allowed: 1 or more each"):
        Prefetcher(Numbered(), device=CPU, depth=depth, workers=workers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_batches_are_complete_while_the_device_computes():
    device = torch.device("cuda")
    with Prefetcher(Numbered(), device=device, depth=3, workers=2) as prefetcher:
        for number in range(200):
            batch = prefetcher.sample()
            assert batch.observations["image"].dtype == torch.uint8
            assert batch.reward.device.type == "cuda"
            busy = torch.randn(512, 512, device=device)
            for _ in range(10):
                busy = busy @ busy
            assert (batch.reward == number).all().item()
            assert (batch.observations["image"] == number % 256).all().item()
