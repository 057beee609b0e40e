"""Measures sampling of image windows: Dreamset, np.memmap, h5py and loaders of other libraries on the same data.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--quick] [--help]

Writes a store of generated 64x64x3 frames to a temporary folder. Prints windows per second (median over rounds) and the
ratio to a raw `np.memmap` of the same bytes (median of the ratios per round; every loader runs in every round). "Warm"
reads from the page cache. "Cold" first drops the store's files from the page cache and is skipped where the system does
not support it. Stable-worldmodel, TorchRL and d3rlpy are measured if installed; TorchRL keeps a second copy on disk,
d3rlpy a copy in memory, and both sample their own windows.
"""

import argparse
import gc
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, SequenceSampler, Store, write_store
from dreamset.datasets.batches import empty_batch
from dreamset.datasets.sources import SourceDescription

FRAME = (64, 64, 3)
ACTIONS = 6
COLD_ROUNDS, COLD_BATCHES = 5, 8

Draw = Callable[[], object]  # makes one batch


class Window(NamedTuple):
    """A window: shard, episode in the shard, first row in the episode, first row in the shard."""

    path: Path
    episode: int
    start: int
    row: int


@dataclass(frozen=True)
class Generated:
    """Episodes of random frames."""

    episode_count: int
    transitions: int

    def describe(self) -> SourceDescription:
        """See ``Source``."""
        return SourceDescription(
            observations={"image": ArraySpec(FRAME, "uint8")},
            privileged={},
            action=ActionSpec(ACTIONS, discrete=False, low=(-1.0,) * ACTIONS, high=(1.0,) * ACTIONS),
            provenance={"format": "generated"},
        )

    def read(self, number: int) -> RawEpisode:
        """See ``Source``."""
        generator = np.random.default_rng(number)
        return RawEpisode(
            name=f"episode {number}",
            observations={"image": generator.integers(256, size=(self.transitions + 1, *FRAME), dtype=np.uint8)},
            actions=generator.uniform(-1, 1, (self.transitions, ACTIONS)).astype(np.float32),
            rewards=generator.uniform(-1, 1, self.transitions).astype(np.float32),
            terminated=False,
            privileged={},
        )


@dataclass(frozen=True)
class Task:
    """The data, the size of a batch, and a folder for copies."""

    folder: Path
    batch: int
    length: int
    scratch: Path

    @property
    def shards(self) -> list[Path]:
        """The store's files in order."""
        return sorted(self.folder.glob("*.h5"))

    @property
    def store(self) -> Store:
        """The data."""
        return Store.open(self.folder)

    def windows(self) -> Callable[[], list[Window]]:
        """A function that draws the windows of a batch uniformly, for loaders without sampling."""
        all_windows = []
        for path in self.shards:
            with h5py.File(path) as file:
                for episode, (rows, offset) in enumerate(zip(file["ep_len"][:], file["ep_offset"][:], strict=True)):
                    starts = range(int(rows) - self.length + 1)
                    all_windows += [Window(path, episode, start, int(offset) + start) for start in starts]
        generator = np.random.default_rng(0)
        return lambda: [all_windows[number] for number in generator.integers(len(all_windows), size=self.batch)]


def dreamset(task: Task) -> Draw:
    """Dreamset's sampler."""
    return SequenceSampler(task.store, split="train", batch_size=task.batch, length=task.length, seed=0).sample


def memory_map(task: Task) -> Draw:
    """The baseline: every column of every shard as `np.memmap`, copied into a new batch."""
    store, windows, maps = task.store, task.windows(), {}
    for path in task.shards:
        with h5py.File(path) as file:
            maps[path] = {name: _mapped(path, file[name]) for name in store.columns}

    def draw() -> object:
        batch, columns = empty_batch(store.spec, task.batch, task.length)
        for place, window in enumerate(windows()):
            for name, values in maps[window.path].items():
                columns[name][place] = values[window.row : window.row + task.length]
        return batch

    return draw


def _mapped(path: Path, column: h5py.Dataset) -> np.ndarray:
    return np.asarray(np.memmap(path, column.dtype, "r", offset=column.id.get_offset(), shape=column.shape))


def h5py_slices(task: Task) -> Draw:
    """Slices of every column read through h5py."""
    names, windows = task.store.columns, task.windows()
    # SWMR like stable-worldmodel: HDF5 opens a file in one mode at a time
    files = {path: h5py.File(path, swmr=True) for path in task.shards}
    columns = {path: {name: file[name] for name in names} for path, file in files.items()}

    def draw() -> object:
        drawn = windows()
        return {
            name: torch.from_numpy(np.stack([columns[w.path][name][w.row : w.row + task.length] for w in drawn]))
            for name in names
        }

    return draw


def stable_worldmodel(task: Task) -> Draw:
    """stable-worldmodel's `HDF5Dataset` on Dreamset's shards, with default collation."""
    reader = importlib.import_module("stable_worldmodel.data").HDF5Dataset
    names, windows = task.store.columns, task.windows()
    datasets = {path: reader(path=path, num_steps=task.length, keys_to_load=names) for path in task.shards}

    def draw() -> object:
        samples = [datasets[w.path].load_chunk([w.episode], [w.start], [w.start + task.length])[0] for w in windows()]
        return torch.utils.data.default_collate(samples)

    return draw


def torchrl(task: Task) -> Draw:
    """TorchRL's memory-mapped replay buffer with its slice sampler."""
    data = importlib.import_module("torchrl.data")
    samplers = importlib.import_module("torchrl.data.replay_buffers.samplers")
    tensordict = importlib.import_module("tensordict").TensorDict
    store = task.store
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyMemmapStorage(int(store.lengths.sum()), scratch_dir=task.scratch / "torchrl"),
        sampler=samplers.SliceSampler(slice_len=task.length, traj_key="episode", cache_values=True),
        batch_size=task.batch * task.length,
    )
    for episode, rows in enumerate(store.lengths.tolist()):
        columns = {name: torch.from_numpy(np.array(values)) for name, values in store.read(episode).items()}
        buffer.extend(tensordict(columns | {"episode": torch.full((rows,), episode)}, batch_size=[rows]))
    return lambda: buffer.sample().reshape(task.batch, task.length)


def d3rlpy(task: Task) -> Draw:
    """d3rlpy's replay buffer in memory, which returns arrays."""
    dataset = importlib.import_module("d3rlpy.dataset")
    store = task.store
    episodes = [
        dataset.Episode(
            observations=np.array(episode["image"]),
            actions=np.array(episode["action"]),
            rewards=np.array(episode["reward"])[:, None],
            terminated=False,
        )
        for episode in map(store.read, range(len(store.lengths)))
    ]
    buffer = dataset.create_infinite_replay_buffer(episodes)
    return lambda: buffer.sample_trajectory_batch(task.batch, task.length)


FROM_STORE = {
    "np.memmap": memory_map,
    "dreamset": dreamset,
    "h5py": h5py_slices,
    "stable-worldmodel": stable_worldmodel,
}
FROM_COPY = {"torchrl, mapped copy": torchrl, "d3rlpy, in memory": d3rlpy}


def available(loaders: dict[str, Callable[[Task], Draw]], task: Task) -> dict[str, Draw]:
    """The loaders that can be imported, initialised."""
    ready = {}
    for name, loader in loaders.items():
        try:
            ready[name] = loader(task)
        except ImportError as error:
            print(f"{name}: skipped ({error})", flush=True)
    return ready


def seconds(draw: Draw, batches: int) -> float:
    """Seconds for drawing ``batches`` batches."""
    began = time.perf_counter()
    for _ in range(batches):
        draw()
    return time.perf_counter() - began


def warm(task: Task, rounds: int, batches: int) -> dict[str, list[float]]:
    """Windows per second of each loader and round, from the page cache."""
    loaders = available(FROM_STORE | FROM_COPY, task)
    for draw in loaders.values():  # fills caches and page tables with as many rows as the store has
        seconds(draw, batches=1 + int(task.store.lengths.sum()) // (task.batch * task.length))
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, draw in loaders.items():
            rates[name].append(batches * task.batch / seconds(draw, batches))
    return rates


def cold(task: Task) -> dict[str, list[float]]:
    """Windows per second from the disk; empty if the page cache cannot be dropped."""
    rates: dict[str, list[float]] = {name: [] for name in available(FROM_STORE, task)}
    asked = COLD_BATCHES * task.batch * task.length * int(np.prod(FRAME))
    for _ in range(COLD_ROUNDS):
        for name in rates:
            gc.collect()  # mapped pages cannot be dropped
            evict(task.shards)
            before = bytes_from_disk()
            draw = FROM_STORE[name](task)
            rates[name].append(COLD_BATCHES * task.batch / seconds(draw, COLD_BATCHES))
            del draw
            if bytes_from_disk() - before < asked / 2:
                print("cold: skipped, because the page cache was not dropped or the folder is not on a disk")
                return {}
    return rates


def evict(paths: list[Path]) -> None:
    """Asks the system to drop files from the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_from_disk() -> int:
    """Bytes that this process has read from disks."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def report(rates: dict[str, list[float]], title: str) -> None:
    """Prints one line per loader."""
    if not rates:
        return
    floor = rates["np.memmap"]
    print(f"\n{title:24s}windows/s   of np.memmap   (lowest - highest)")
    for name, rate_of_round in rates.items():
        ratios = [rate / baseline for rate, baseline in zip(rate_of_round, floor, strict=True)]
        print(
            f"{name:24s}{statistics.median(rate_of_round):9,.0f}   {statistics.median(ratios):12.2f}   "
            f"({min(ratios):.2f} - {max(ratios):.2f})"
        )


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the store (default: 1)")
    parser.add_argument("--rows", type=int, default=1001, help="rows per episode (default: 1001)")
    parser.add_argument("--batch", type=int, default=16, help="windows per batch (default: 16)")
    parser.add_argument("--length", type=int, default=64, help="rows per window (default: 64)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds per loader (default: 9)")
    parser.add_argument("--batches", type=int, default=40, help="batches per round (default: 40)")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--quick", action="store_true", help="a small store and few rounds, as a smoke test")
    options = parser.parse_args()
    if options.quick:
        options.gigabytes, options.rows, options.rounds, options.batches = 0.1, 201, 2, 4
    return options


def main() -> None:
    """Prints the tables."""
    options = arguments()
    episodes = max(1, round(options.gigabytes * 1e9 / options.rows / np.prod(FRAME)))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="sampling-") as temporary:
        folder = Path(temporary)
        task = Task(folder / "store", options.batch, options.length, folder)
        source = Generated(episodes, options.rows - 1)
        write_store(source, task.folder, splits=lambda kept: {"train": np.arange(len(kept))})
        size = sum(path.stat().st_size for path in task.shards)
        print(
            f"{torch.get_num_threads()} thread(s), {size / 1e9:.2f} GB, {episodes} episodes of {options.rows} frames, "
            f"batches of {options.batch} x {options.length}",
            flush=True,
        )
        report(cold(task), "cold")
        report(warm(task, options.rounds, options.batches), "warm")


if __name__ == "__main__":
    main()
