"""Reads dumps of d3rlpy 2: one HDF5 file in which every episode has arrays of its own."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.hdf5 import descend, find, opened, read, translated
from dreamset.datasets.sources.actions import ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import inferred_codec
from dreamset.datasets.sources.columns import Field, Survey, decode_all
from dreamset.datasets.sources.folder import checked_limit, digest
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import one_per_row, require_transition

_OBSERVATIONS, _ACTIONS, _REWARDS, _TERMINATED = "observations", "actions", "rewards", "terminated"
_USED = (_OBSERVATIONS, _ACTIONS, _REWARDS, _TERMINATED)


class D3rlpySource:
    """The episodes that ``ReplayBuffer.dump`` of d3rlpy 2 has written.

    Episode i has the arrays ``observations_i``, ``actions_i`` and ``rewards_i`` with one row per step, and one flag
    ``terminated_i``. A tuple of observations is ``observations_i_0``, ``observations_i_1`` and so on. The observation
    after the last action is not in the file, and ``final_transition`` sets how to treat that action.

    Args:
        path: The HDF5 file.
        observations: Inputs of the models: ``state`` or ``image``, or ``observations_0``, ``observations_1``, ... of a
            tuple; by default all.
        privileged: As ``observations``, for probes only; by default none.
        episodes: Number of episodes to read, from the first; by default all.
        action_low: Bounds of a continuous action, one number or one per element.
        action_high: As ``action_low``.
        discrete: Number of choices if the action is stored as an integer.
        final_transition: ``drop`` the last action with its reward and the terminal flag, or ``repeat`` the last
            observation as its outcome.

    Raises:
        UserError: if the file is damaged or not such a dump, or a setting does not match it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        discrete: int | None = None,
        final_transition: str = FinalTransition.DROP,
    ) -> None:
        self._path, where = user_path(path), str(path)
        self._final = FinalTransition.checked(final_transition)
        with opened(self._path) as file:
            self._count = min(_episodes(file, where), checked_limit(episodes) or _MANY)
            columns = Survey(_observed(file, where), varying={}, ignored=_others(file))
            example = read(descend(file, [f"{_ACTIONS}_0"], where), where)
        inputs = list(columns.usable) if observations is None else observations
        self._fields, self._ignored = columns.choose(inputs, privileged or [], where)
        headers = {_ACTIONS: ArrayHeader(example.shape, example.dtype)}
        self._action = ActionSettings(_ACTIONS, discrete, action_low, action_high).field(headers, example, where)

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return self._count

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance)

    def read(self, number: int) -> RawEpisode:
        """The episode; reads only its arrays."""
        where = f"episode {number} of {self._path}"
        with opened(self._path) as file:
            columns = {*self._fields.columns, _ACTIONS, _REWARDS}
            values = {column: read(descend(file, [_stored(column, number)], where), where) for column in columns}
            terminated = _flag(file, number, where)
        _require_equal_rows(values, where)
        require_transition(self._final.transitions(len(values[_ACTIONS])), where)
        raw = RawEpisode(
            name=where,
            observations=decode_all(self._fields.observations, values, where),
            actions=self._action.decode(values[_ACTIONS], where),
            rewards=one_per_row(values[_REWARDS], f"{where}: {_REWARDS!r}"),
            terminated=terminated,
            privileged=decode_all(self._fields.privileged, values, where),
        )
        return self._final.apply(raw)

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "d3rlpy",
            **digest([self._path]),
            "episodes": self._count,
            "final_transition": self._final.value,
            "ignored_columns": self._ignored,
        }


_MANY = 1 << 62


def _episodes(file: h5py.File, where: str) -> int:
    """The number of episodes that the file declares."""
    declared = find(file, "num_episodes", where)
    if not isinstance(declared, h5py.Dataset):
        raise UserError(
            f"{where}: 'num_episodes' is missing, so the file is no dump of d3rlpy 2; for a dump of d3rlpy 1 use "
            f"dataset=hdf5_folder with boundaries {{ends: episode_terminals}}"
        )
    count = int(_single(declared, f"{where}: 'num_episodes'"))
    if count < 1:
        raise UserError(f"{where}: 'num_episodes' is {count}; the file has no episodes; dump the buffer again")
    return count


def _observed(file: h5py.File, where: str) -> dict[str, Field]:
    """The observations of the first episode, by their names in the store."""
    single = find(file, f"{_OBSERVATIONS}_0", where)
    if isinstance(single, h5py.Dataset):
        codec = inferred_codec(single.dtype, (single.shape or ())[1:], f"{where}: '{_OBSERVATIONS}_0'")
        return {"image" if codec.spec.is_image else "state": Field(_OBSERVATIONS, codec)}
    fields: dict[str, Field] = {}
    while isinstance(part := find(file, f"{_OBSERVATIONS}_0_{len(fields)}", where), h5py.Dataset):
        name = f"{_OBSERVATIONS}_{len(fields)}"
        fields[name] = Field(name, inferred_codec(part.dtype, (part.shape or ())[1:], f"{where}: {part.name!r}"))
    if not fields:
        raise UserError(f"{where}: '{_OBSERVATIONS}_0' is missing; the file is incomplete, dump the buffer again")
    return fields


def _stored(column: str, number: int) -> str:
    """The array of an episode: ``observations_1``, the second of a tuple, is ``observations_NUMBER_1`` in the file."""
    name, _, part = column.partition("_")
    return f"{name}_{number}_{part}" if part else f"{name}_{number}"


def _others(file: h5py.File) -> dict[str, str]:
    """Columns of the first episode that are not read."""
    names = {name.removesuffix("_0") for name in file if name.endswith("_0") and name.count("_") == 1}
    return dict.fromkeys(sorted(names - {*_USED}), "not a column of transitions")


def _flag(file: h5py.File, number: int, where: str) -> bool:
    dataset = descend(file, [f"{_TERMINATED}_{number}"], where)
    return bool(_single(dataset, f"{where}: {_TERMINATED!r}"))


def _single(dataset: h5py.Dataset, place: str) -> float:
    if dataset.size != 1 or dataset.dtype.kind not in "fiub":
        raise UserError(f"{place} holds {dataset.dtype}{list(dataset.shape or ())}, expected one number; dump it again")
    with translated(place):
        return float(np.asarray(dataset[()]).reshape(()))


def _require_equal_rows(values: Mapping[str, Array], where: str) -> None:
    rows = {column: len(array) for column, array in values.items()}
    if len(set(rows.values())) > 1:
        raise UserError(f"{where}: the columns have different numbers of rows, {dict(sorted(rows.items()))}; drop it")
