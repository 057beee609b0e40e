"""Arrays in another memory order or byte order give the same store as plain ones, through every reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, Store, write_store
from dreamset.datasets.episode import align
from dreamset.datasets.sources.base import Source
from dreamset.datasets.sources.d4rl.source import D4RLSource
from dreamset.datasets.sources.dreamer import DreamerSource, DreamerV3Source, VD4RLSource
from dreamset.datasets.sources.mapped import MappedSource

Columns = dict[str, Any]
ROWS = 6
LAST = np.arange(ROWS) == ROWS - 1


def columns(number: int) -> Columns:
    generator = np.random.default_rng(number)
    return {
        "image": generator.integers(0, 256, (ROWS, 8, 6, 3), np.uint8),
        "position": generator.normal(size=(ROWS, 2)),
        "action": generator.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "reward": generator.normal(size=ROWS).astype(np.float32),
        "is_first": np.arange(ROWS) == 0,
        "is_last": LAST,
        "is_terminal": LAST,
        "step_type": 1.0 - (np.arange(ROWS) == 0) + LAST,
        "discount": 1.0 - LAST,
    }


def fortran(values: np.ndarray) -> np.ndarray:
    return np.asfortranarray(values)


def swapped(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("S"))


def npz(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Two episodes, named as DreamerV3's chunks, which other readers accept."""
    folder.mkdir()
    for number in range(2):
        episode = {name: change(values) for name, values in columns(number).items()}
        np.savez(folder / f"20240101T00000{number}-a{number}-b{number}-{ROWS}.npz", **episode)
    return folder


def hdf5(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    folder.mkdir()
    for number in range(2):
        with h5py.File(folder / f"{2 * number}.hdf5", "w") as file:
            for name, values in columns(number).items():
                file[name] = change(values)
    return folder


def d4rl(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    names = {"position": "observations", "action": "actions", "reward": "rewards", "is_terminal": "terminals"}
    folder.mkdir()
    with h5py.File(folder / "data.hdf5", "w") as file:
        for old, new in names.items():
            file[new] = change(np.concatenate([columns(number)[old] for number in range(2)]))
    return folder / "data.hdf5"


ROLES: Columns = {
    "observations": {"image": "image", "position": "position"},
    "action": "action",
    "reward": "reward",
    "terminal": "is_terminal",
}
READERS: dict[str, tuple[Callable[..., Path], Callable[[Path], Source]]] = {
    "mapped npz": (npz, lambda path: MappedSource(path, **ROLES)),
    "mapped hdf5": (hdf5, lambda path: MappedSource(path, **ROLES)),
    "dreamer": (npz, DreamerSource),
    "dreamer v3": (npz, DreamerV3Source),
    "vd4rl npz": (npz, VD4RLSource),
    "vd4rl shards": (hdf5, VD4RLSource),
    "d4rl": (d4rl, D4RLSource),
}


def contents(store: Store) -> list[dict[str, list[Any]]]:
    return [{name: values.tolist() for name, values in store.read(number).items()} for number in range(2)]


@pytest.mark.parametrize("change", [fortran, swapped])
@pytest.mark.parametrize("reader", READERS)
def test_memory_order_and_byte_order_do_not_change_the_store(tmp_path, reader, change):
    write, source = READERS[reader]
    plain = write_store(source(write(tmp_path / "plain", np.asarray)), tmp_path / "a")
    changed = write_store(source(write(tmp_path / "changed", change)), tmp_path / "b")
    assert contents(changed) == contents(plain)
    assert changed.spec == plain.spec


@pytest.mark.parametrize("part", ["observations", "actions", "rewards"])
def test_swapped_bytes_in_minari_are_read(record_counter, tmp_path, part):
    folder = record_counter(3, 4)
    plain = write_store(MinariSource(folder), tmp_path / "a")
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for number in range(2):
            values = file[f"episode_{number}/{part}"][()]
            del file[f"episode_{number}/{part}"]
            file[f"episode_{number}/{part}"] = swapped(values)
    assert contents(write_store(MinariSource(folder), tmp_path / "b")) == contents(plain)


@pytest.mark.parametrize("change", [fortran, swapped])
def test_episodes_of_any_source_are_aligned_contiguous_and_native(counter_source, counter_episode, change):
    raw = counter_episode(0, 4)
    wanted = {name: values.tolist() for name, values in raw.observations.items()}
    raw.observations.update({name: change(values) for name, values in raw.observations.items()})
    raw.privileged.update({name: change(values) for name, values in raw.privileged.items()})
    episode = align(raw, counter_source([4]).describe())
    for name, values in {**episode.observations, **episode.privileged}.items():
        assert values.flags.c_contiguous
        assert values.dtype.isnative
        assert name == "clock" or values.tolist() == wanted[name]


def test_another_dtype_is_still_refused(counter_source, counter_episode):
    raw = counter_episode(0, 4)
    raw.observations["state"] = raw.observations["state"].astype(">f8")
    with pytest.raises(UserError, match=r"observation 'state' holds >f8\[2\] per row, expected float32\[2\]"):
        align(raw, counter_source([4]).describe())
