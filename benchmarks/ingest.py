"""Measures ingestion against writing the same bytes with h5py, its peak memory, and the time to open a store.

    python benchmarks/ingest.py                      # 100,000 frames of 64 x 64 x 3, three rounds
    python benchmarks/ingest.py --memory-gigabytes 20  # also: peak memory for a dataset of that size
    python benchmarks/ingest.py --open-steps 10000000  # also: opening a store of that many steps

Dreamset reads, checks, aligns, hashes and fsyncs; h5py writes and fsyncs. Rounds alternate; ratios are of medians.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription

TRANSITIONS = 500  # per episode, as in V-D4RL
EDGE = 64
ACTIONS = 6


@dataclass(frozen=True)
class Generated:
    """Episodes of noise; each takes its frames from one block in memory, at its own offset."""

    episode_count: int
    frames: np.ndarray  # [more than an episode, EDGE, EDGE, 3]
    copies: bool = False  # whether every episode has its own memory, like a decoded one

    def describe(self) -> SourceDescription:
        """An image and an action of six numbers."""
        action = ActionSpec(ACTIONS, discrete=False, low=(-1.0,) * ACTIONS, high=(1.0,) * ACTIONS)
        image = ArraySpec((EDGE, EDGE, 3), "uint8")
        return SourceDescription({"image": image}, {}, action, {"format": "generated"})

    def read(self, number: int) -> RawEpisode:
        """Frames of the block, random actions and rewards."""
        start = number * 37 % (len(self.frames) - TRANSITIONS - 1)
        frames = self.frames[start : start + TRANSITIONS + 1]
        generator = np.random.default_rng(number)
        return RawEpisode(
            name=f"episode {number}",
            observations={"image": frames.copy() if self.copies else frames},
            actions=generator.uniform(-1, 1, (TRANSITIONS, ACTIONS)).astype(np.float32),
            rewards=generator.uniform(0, 1, TRANSITIONS).astype(np.float32),
            terminated=False,
            privileged={},
        )


@dataclass(frozen=True)
class Vectors:
    """Episodes of 17 numbers, as in gym-mujoco."""

    episode_count: int

    def describe(self) -> SourceDescription:
        """A state and an action of six numbers."""
        action = ActionSpec(ACTIONS, discrete=False, low=(-1.0,) * ACTIONS, high=(1.0,) * ACTIONS)
        return SourceDescription({"state": ArraySpec((17,), "float32")}, {}, action, {"format": "generated"})

    def read(self, number: int) -> RawEpisode:
        """A thousand transitions."""
        generator = np.random.default_rng(number)
        return RawEpisode(
            name=f"episode {number}",
            observations={"state": generator.random((1001, 17), np.float32)},
            actions=generator.random((1000, ACTIONS), np.float32),
            rewards=generator.random(1000, np.float32),
            terminated=False,
            privileged={},
        )


def block() -> np.ndarray:
    """Frames of noise."""
    return np.random.default_rng(0).integers(0, 256, (4 * TRANSITIONS, EDGE, EDGE, 3), np.uint8)


def raw(source: Generated, folder: Path) -> None:
    """The baseline: contiguous columns, one slice per episode, then fsync."""
    rows = source.episode_count * (TRANSITIONS + 1)
    path = folder / "raw.h5"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("image", (rows, EDGE, EDGE, 3), "uint8")
        action = file.create_dataset("action", (rows, ACTIONS), "float32")
        reward = file.create_dataset("reward", (rows,), "float32")
        for number in range(source.episode_count):
            episode = source.read(number)
            first = number * (TRANSITIONS + 1)
            image[first : first + TRANSITIONS + 1] = episode.observations["image"]
            action[first + 1 : first + TRANSITIONS + 1] = episode.actions
            reward[first + 1 : first + TRANSITIONS + 1] = episode.rewards
    with path.open("rb") as file:
        os.fsync(file.fileno())


def ours(source: Generated, folder: Path) -> None:
    """Ingestion."""
    write_store(source, folder / "store")


def seconds(run: Callable[[Generated, Path], None], source: Generated, root: Path) -> float:
    """The time of one run, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(dir=root))
    os.sync()
    start = time.perf_counter()
    run(source, folder)
    elapsed = time.perf_counter() - start
    shutil.rmtree(folder)
    return elapsed


def compare(frames: int, rounds: int, root: Path) -> None:
    """Runs alternating rounds of both and prints the results."""
    source = Generated(frames // (TRANSITIONS + 1), block())
    megabytes = source.episode_count * (TRANSITIONS + 1) * EDGE * EDGE * 3 / 1e6
    times: dict[str, list[float]] = {"h5py": [], "ingest": []}
    for _ in range(rounds):
        times["h5py"].append(seconds(raw, source, root))
        times["ingest"].append(seconds(ours, source, root))
    floor = statistics.median(times["h5py"])
    print(f"{source.episode_count} episodes, {megabytes:.0f} MB of frames, {rounds} rounds")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:8} {median:6.2f} s ({min(values):.2f} to {max(values):.2f})  {megabytes / median:6.0f} MB/s  "
              f"{floor / median:5.0%} of h5py")  # fmt: skip


def peak_memory(gigabytes: float, root: Path) -> None:
    """Prints the peak memory of a process that ingests ``gigabytes``, and of one that ingests almost nothing."""
    for name, size in (("libraries", 0.1), (f"{gigabytes:g} GiB", gigabytes)):
        command = [sys.executable, __file__, "--stream", str(size), "--folder", str(root)]
        print(
            f"peak memory, {name}: {subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()}"
        )


def stream(gigabytes: float, root: Path) -> None:
    """Ingests and prints this process's peak memory."""
    episodes = max(2, int(gigabytes * 2**30 / ((TRANSITIONS + 1) * EDGE * EDGE * 3)))
    start = time.perf_counter()
    ours(Generated(episodes, block(), copies=True), root)
    elapsed = time.perf_counter() - start
    shutil.rmtree(root / "store")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, {elapsed:.0f} s")


def opening(steps: int, root: Path) -> None:
    """Prints the time to open a store, over five runs in this process."""
    write_store(Vectors(steps // 1000), root / "store")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        store = Store.open(root / "store")
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    store.read(int(len(store.lengths) // 2), 10, 74)
    first = time.perf_counter() - start
    print(f"opening {steps} steps: {1000 * statistics.median(times):.1f} ms (first {1000 * times[0]:.1f}), "
          f"then the first window {1000 * first:.1f} ms, {len(store.info['shards'])} shards")  # fmt: skip


def main() -> None:
    """Runs the selected measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-gigabytes", type=float, help="also measure peak memory for a dataset of this size")
    parser.add_argument("--open-steps", type=int, help="also measure opening a store of this many steps")
    parser.add_argument("--folder", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--stream", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        if options.stream is not None:
            stream(options.stream, Path(root))
            return
        compare(options.frames, options.rounds, Path(root))
        if options.memory_gigabytes:
            peak_memory(options.memory_gigabytes, Path(root))
        if options.open_steps:
            opening(options.open_steps, Path(root))


if __name__ == "__main__":
    main()
