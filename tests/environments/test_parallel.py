"""Recording with several processes: data do not depend on their number, failures are reported."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest

from dreamset.core.errors import UserError
from dreamset.environments import gym, parallel, policies
from dreamset.environments.recorder import write_minari

CARTPOLE = partial(gym.make, "CartPole-v1")
MIXED = partial(policies.interrupted, policy=policies.balance)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Any:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A policy factory in an importable module; ``body`` runs at the third step."""

    def make(body: str) -> Any:
        lines = (
            "import os, signal, numpy as np",
            "from dreamset.core.errors import UserError",
            "def factory(environment, generator):",
            "    steps = []",
            "    def act(observation, info):",
            "        steps.append(1)",
            "        if len(steps) == 3:",
            f"            {body}",
            "        return np.zeros(1, np.float32)",
            "    return act",
        )
        name = f"broken_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        return __import__(name).factory

    return make


def record_to(folder: Path, workers: int) -> Path:
    with closing(CARTPOLE()) as environment:
        episodes = parallel.record(CARTPOLE, MIXED, episodes=5, seed=3, workers=workers)
        settings = {"reference": None, "description": "d", "algorithm": "a"}
        return write_minari(folder, "cartpole/test-v0", environment, episodes, **settings)


def test_recording_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    one, two, many = (record_to(tmp_path / str(workers), workers) for workers in (1, 2, 9))
    content = {path.name: path.read_bytes() for path in (one / "data").iterdir()}
    assert {"main_data.hdf5", "metadata.json"} <= set(content)
    for folder in (two, many):
        assert {path.name: path.read_bytes() for path in (folder / "data").iterdir()} == content
    with h5py.File(one / "data" / "main_data.hdf5") as file:
        assert len({file[f"episode_{number}"].attrs["seed"] for number in range(5)}) == 5


def test_user_error_of_a_worker_names_the_episode(broken: Callable[[str], Any]) -> None:
    make = partial(gym.make, "Pendulum-v1", episode_steps=9)
    with pytest.raises(UserError, match="worker of episode 0 failed: fix the reward"):
        list(parallel.record(make, broken("raise UserError('fix the reward')"), episodes=4, seed=0, workers=2))


def test_other_failure_of_a_worker_is_one_line_with_a_remedy(broken: Callable[[str], Any]) -> None:
    make = partial(gym.make, "Pendulum-v1", episode_steps=9)
    with pytest.raises(UserError, match=r"KeyError: 'speed'; run with dataset\.recording\.workers=1") as caught:
        list(parallel.record(make, broken("{}['speed']"), episodes=4, seed=0, workers=2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("episodes", [4, 1])
def test_worker_that_dies_is_one_line_with_its_exit_code(broken: Callable[[str], Any], episodes: int) -> None:
    make = partial(gym.make, "Pendulum-v1", episode_steps=9)
    with pytest.raises(UserError, match="worker of episode 0 died with exit code 7") as caught:
        list(parallel.record(make, broken("os._exit(7)"), episodes=episodes, seed=0, workers=2))
    assert "\n" not in str(caught.value)


def test_interrupts_do_not_reach_the_workers(broken: Callable[[str], Any]) -> None:
    make = partial(gym.make, "Pendulum-v1", episode_steps=9)
    blocked = broken("raise UserError(f'blocked {signal.pthread_sigmask(signal.SIG_BLOCK, [])}')")
    for _ in range(2):  # the first start of a process is special
        with pytest.raises(UserError, match=r"blocked \{.*SIGINT"):
            list(parallel.record(make, blocked, episodes=4, seed=0, workers=2))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_environment_that_cannot_be_made_is_reported_from_the_worker() -> None:
    with pytest.raises(UserError, match="cannot make 'CartPoel-v1'"):
        list(parallel.record(partial(gym.make, "CartPoel-v1"), MIXED, episodes=4, seed=0, workers=2))


@pytest.mark.parametrize("workers", [0, -1])
def test_zero_workers_are_refused_immediately(workers: int) -> None:
    with pytest.raises(UserError, match=f"workers is {workers}"):
        parallel.record(CARTPOLE, MIXED, episodes=4, seed=0, workers=workers)


def test_closing_early_ends_the_workers_within_their_episode() -> None:
    make = partial(gym.make, "Pendulum-v1", episode_steps=500)
    episodes = parallel.record(make, policies.random, episodes=400, seed=0, workers=2)
    with closing(episodes):
        assert len(next(episodes).rewards) == 500
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_worker_waits_until_its_episode_has_been_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds one episode per worker, however slowly the dataset is written."""
    counting = (
        "import os, numpy as np",
        "def factory(environment, generator):",
        f"    open({str(tmp_path)!r} + f'/begun_{{os.urandom(8).hex()}}', 'w').close()",
        "    return lambda observation, info: np.zeros(1, np.float32)",
    )
    (tmp_path / "counting_policy.py").write_text("\n".join(counting))
    monkeypatch.syspath_prepend(tmp_path)
    make = partial(gym.make, "Pendulum-v1", image_size=64, episode_steps=20)  # more than a pipe's buffer
    with closing(
        parallel.record(make, __import__("counting_policy").factory, episodes=40, seed=0, workers=2)
    ) as episodes:
        next(episodes)
        time.sleep(1.5)
        assert len(list(tmp_path.glob("begun_*"))) <= 4


SCRIPT = """
from contextlib import closing
from functools import partial
from dreamset.environments import gym, parallel, policies
if __name__ == "__main__":
    make = partial(gym.make, "Pendulum-v1", episode_steps=10**7)
    try:
        with closing(parallel.record(make, policies.random, episodes=4, seed=0, workers=2)) as episodes:
            print("begun", flush=True)
            next(episodes)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def group(number: int) -> list[str]:
    """Processes of a group that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,pid="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [pid for pgid, state, pid in rows if int(pgid) == number and not state.startswith("Z")]


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_workers_end_silently_with_their_parent(tmp_path: Path, name: str) -> None:
    """Ctrl-C reaches the whole process group; a kill for lack of memory only the parent."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(1.5)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    output, errors = process.communicate(timeout=20)
    assert errors == ""
    assert output == ("interrupted\n" if name == "SIGINT" else "")
    deadline = time.monotonic() + 10
    while group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert group(process.pid) == []
