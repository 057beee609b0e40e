"""Batches in memory: allocated once per batch; each window is copied directly from the memory maps."""

import time
from collections.abc import Collection, Iterable, Mapping
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.datasets.episode import Array
from dreamset.datasets.index import Marks
from dreamset.datasets.layout import ACTION, IS_FIRST, IS_LAST, IS_TERMINAL, PRIVILEGED, REWARD, column_specs
from dreamset.datasets.store import Store
from dreamset.datasets.windows import EpisodeSlice, Indices

Columns = Mapping[str, Array]  # name in the store -> [B, T, ...]

# The keys of further values in a batch; no column of a store can have these names
ROW, ACTED, DEMONSTRATION = "/row", "/acted", "/demonstration"
GOAL = "/goal/"  # before the names of SequenceBatch.goal

_DISK_SPEED = 3e9  # bytes per second; copies from memory are faster, and read-ahead would slow them by a fifth


def empty_batch(
    fields: DataSpec,
    size: int,
    length: int,
    *,
    marks: Collection[str] = (),
    pinned: bool = False,
    goals: bool = False,
) -> tuple[SequenceBatch, Columns]:
    """An uninitialised batch, and the same memory by column.

    Args:
        fields: specification of the batch.
        size: number of sequences B.
        length: rows T per sequence.
        marks: those of ``ACTED`` and ``DEMONSTRATION`` that the batch has; the others are None.
        pinned: whether to use page-locked memory, from which a GPU copies asynchronously.
        goals: whether each sequence has a goal.
    """
    allocate = _pinned if pinned else _plain
    specs = column_specs(fields) | {ROW: ArraySpec((), "int64")} | dict.fromkeys(marks, ArraySpec((), "bool"))
    tensors = {name: allocate((size, length, *spec.shape), spec.dtype) for name, spec in specs.items()}
    if goals:
        tensors |= {
            GOAL + name: allocate((size, *spec.shape), spec.dtype) for name, spec in fields.observations.items()
        }
    return _batch(fields, tensors, goals=goals), {name: tensor.numpy() for name, tensor in tensors.items()}


def copy_windows(store: Store, windows: Iterable[Iterable[EpisodeSlice]], columns: Columns) -> None:
    """Fills ``columns`` with windows, one per row. The slices of a window are concatenated. Only ``columns`` are read.

    NumPy releases the interpreter lock while it copies and while it waits for the disk.
    """
    drawn = [list(slices) for slices in windows]
    marks = {name: values for name, values in marks_of(store).items() if name in columns}
    began = time.perf_counter()
    if store.from_disk:
        for episode, start, stop in chain.from_iterable(drawn):
            store.will_need(episode, start, stop)
    for row, slices in enumerate(drawn):
        filled = 0
        for episode, start, stop in slices:
            end = filled + stop - start
            recorded = store.read(episode, start, stop)
            for name in columns.keys() & recorded.keys():
                columns[name][row, filled:end] = recorded[name]
            first = int(store.first_rows[episode])
            columns[ROW][row, filled:end] = np.arange(first + start, first + stop)
            for name, values in marks.items():
                columns[name][row, filled:end] = values[episode]
            filled = end
    seconds = time.perf_counter() - began
    store.from_disk = sum(values.nbytes for values in columns.values()) < _DISK_SPEED * seconds


def marks_of(store: Store) -> Mapping[str, Marks]:
    """The marks of the episodes, by their key in a batch."""
    return {ACTED: store.acted, DEMONSTRATION: store.demonstration}


def partial_marks(store: Store, episodes: Indices) -> list[str]:
    """The marks that some of these episodes lack, so that a batch of them must have these marks."""
    return [name for name, values in marks_of(store).items() if not values[episodes].all()]


def copy_goals(store: Store, episodes: Indices, rows: Indices, columns: Columns) -> None:
    """Fills the goals of ``columns``: the goal of sequence n is row ``rows[n]`` of episode ``episodes[n]``."""
    for number, (episode, row) in enumerate(zip(episodes.tolist(), rows.tolist(), strict=True)):
        recorded = store.read(episode, row, row + 1)
        for name in store.spec.observations:
            columns[GOAL + name][number] = recorded[name][0]


def _batch(spec: DataSpec, columns: Mapping[str, Tensor], *, goals: bool) -> SequenceBatch:
    return SequenceBatch(
        observations={name: columns[name] for name in spec.observations},
        action=columns[ACTION],
        reward=columns[REWARD],
        is_first=columns[IS_FIRST],
        is_last=columns[IS_LAST],
        is_terminal=columns[IS_TERMINAL],
        privileged={name: columns[PRIVILEGED + name] for name in spec.privileged},
        row=columns[ROW],
        goal={name: columns[GOAL + name] for name in spec.observations} if goals else None,
        acted=columns.get(ACTED),
        demonstration=columns.get(DEMONSTRATION),
    )


def _plain(shape: tuple[int, ...], dtype: str) -> Tensor:
    # NumPy requests huge pages, PyTorch does not: without them the page faults would cost more than the copy
    return torch.from_numpy(np.empty(shape, dtype))


def _pinned(shape: tuple[int, ...], dtype: str) -> Tensor:
    return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
