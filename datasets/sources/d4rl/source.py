"""Reads D4RL datasets: flat HDF5 arrays of transitions, cut into episodes at flags."""

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, save_with, user_path
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.hdf5 import opened
from dreamset.datasets.sources.actions import ActionField, ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import decode_all
from dreamset.datasets.sources.d4rl.episodes import EpisodeRows, cut
from dreamset.datasets.sources.d4rl.facts import D4RLFacts, facts
from dreamset.datasets.sources.d4rl.file import ACTIONS, NEXT_OBSERVATIONS, OBSERVATIONS, REWARDS, TIMEOUTS, scan
from dreamset.datasets.sources.download import OnBytes, download
from dreamset.datasets.sources.folder import checked_limit
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import one_per_row

_EXAMPLE_ROWS = 1000  # enough to detect discrete actions


class D4RLSource:
    """The episodes of a D4RL file, in the order of its rows.

    An episode ends at a row flagged by ``terminals`` or ``timeouts``; rows after the last flag are a truncated episode.
    The final observation comes from ``next_observations``. Files without that column lack the final observation, and
    ``final_transition`` sets how to treat the last action.

    Columns of ``infos`` can be selected by names such as ``infos.qpos``. They were recorded before each action, so they
    lack a row for the final observation. Selecting one therefore drops the last transition of EVERY episode, with its
    terminal flag, even if ``next_observations`` has the final observation.

    Args:
        path: the HDF5 file.
        dataset_id: published name such as ``hopper-medium-v2``, for its reference scores and the way to cut it; None
            for a file of your own.
        observations: inputs of the models. Default: ``state``, which is the column ``observations``.
        privileged: ground truth for probes only. Default: none.
        episodes: number of episodes to read, from the first. Default: all.
        action_low: smallest action, one number or one per element.
        action_high: largest action.
        discrete: number of choices if the actions are discrete.
        final_transition: "drop" omits a last action without final observation, "repeat" repeats the last observation.
        cut_at_terminals: False if ``terminals`` marks a waypoint after which the episode continues, as in maze2d;
            such rows are no true ends. Default: as published for the dataset, otherwise True.
        episode_length: maximum rows of an episode, for files without ``timeouts``. Default: as published for the
            dataset, otherwise unlimited.

    Raises:
        UserError: if the file is damaged or a setting does not match it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset_id: str | None = None,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        discrete: int | None = None,
        final_transition: str = FinalTransition.DROP,
        cut_at_terminals: bool | None = None,
        episode_length: int | None = None,
    ) -> None:
        self._path, self._dataset_id = user_path(path), dataset_id
        self._facts = facts(dataset_id) if dataset_id else None
        self._file = scan(self._path)
        survey = self._file.survey()
        inputs = [self._file.state] if observations is None else observations
        self._fields, self._ignored = survey.choose(inputs, privileged or [], str(path))
        self._action = self._action_field(ActionSettings(ACTIONS, discrete, action_low, action_high))
        self._final = FinalTransition.checked(final_transition)
        self._has_arrival = self._has_next and self._fields.columns == {OBSERVATIONS}
        self._require_drop_for_infos()
        self._cut_at_terminals, self._episode_length = _cutting(self._facts, cut_at_terminals, episode_length)
        terminals = self._file.terminals & self._cut_at_terminals
        self._unfinished = not (terminals[-1] or self._file.timeouts[-1])
        self._all_episodes = cut(terminals, self._file.timeouts, episode_length=self._episode_length)
        long_enough = [rows for rows in self._all_episodes if self._transitions(rows)]
        self._episodes = long_enough[: checked_limit(episodes)]

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance)

    def read(self, number: int) -> RawEpisode:
        """The episode; decompresses only its rows."""
        rows = self._episodes[number]
        where = f"episode_{number} (rows {rows.start} to {rows.stop - 1}) of {self._path}"
        values = self._file.table.read(self._columns, where, rows.slice)
        if self._has_next:
            _require_unbroken(values[OBSERVATIONS], values[NEXT_OBSERVATIONS], rows, where)
        if self._has_arrival:
            values[OBSERVATIONS] = np.concatenate([values[OBSERVATIONS], values[NEXT_OBSERVATIONS][-1:]])
        raw = RawEpisode(
            name=where,
            observations=decode_all(self._fields.observations, values, where),
            actions=self._action.decode(values[ACTIONS], where),
            rewards=one_per_row(values[REWARDS], f"{where}: {REWARDS!r}"),
            terminated=rows.terminal,
            privileged=decode_all(self._fields.privileged, values, where),
        )
        return raw if self._has_arrival else self._final.apply(raw)

    @property
    def _has_next(self) -> bool:
        return NEXT_OBSERVATIONS in self._file.headers

    @property
    def _columns(self) -> set[str]:
        checked = {OBSERVATIONS, NEXT_OBSERVATIONS} if self._has_next else set()
        return self._fields.columns | {ACTIONS, REWARDS} | checked

    def _transitions(self, rows: EpisodeRows) -> int:
        return len(rows) if self._has_arrival else self._final.transitions(len(rows))

    def _action_field(self, settings: ActionSettings) -> ActionField:
        example = self._file.table.read([ACTIONS], str(self._path), slice(0, _EXAMPLE_ROWS))[ACTIONS]
        return settings.field(self._file.headers, example, str(self._path))

    def _require_drop_for_infos(self) -> None:
        infos = sorted(self._fields.columns - {OBSERVATIONS})
        if infos and self._final is not FinalTransition.DROP:
            raise UserError(
                f"{self._path}: {infos[0]!r} has no row for the final observation, so it cannot be used with "
                f"final_transition={self._final}; set it to {FinalTransition.DROP} or omit the column"
            )

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        dropped = [] if self._has_arrival or self._final is not FinalTransition.DROP else self._episodes
        return {
            "format": "d4rl",
            "dataset_id": self._dataset_id,
            "file": self._path.name,
            "sha256": file_sha256(self._path),
            **_reference_scores(self._facts),
            "episodes": len(self._episodes),
            "episodes_in_file": len(self._all_episodes),
            "episodes_without_transition": sum(not self._transitions(rows) for rows in self._all_episodes),
            "last_episode_unfinished": self._unfinished,
            "cut_at_terminals": self._cut_at_terminals,
            "cut_at_timeouts": TIMEOUTS in self._file.headers,
            "cut_at_length": self._episode_length,
            "final_observation": NEXT_OBSERVATIONS if self._has_arrival else self._final.value,
            "dropped_final_transitions": len(dropped),
            "dropped_terminals": sum(rows.terminal for rows in dropped),
            "ignored_columns": self._ignored,
        }


def fetch(dataset_id: str | None, path: str | Path, *, url: str | None = None, on_bytes: OnBytes | None = None) -> Path:
    """Downloads a published dataset to ``path`` unless the file exists, and returns the path.

    Copies the file from the cache of the d4rl package (``$D4RL_DATASET_DIR`` or ``~/.d4rl/datasets``) if it is there.

    Args:
        dataset_id: published name such as ``hopper-medium-v2``; None for a file of your own.
        path: the target file.
        url: an address other than the published one, such as a mirror.
        on_bytes: called with the progress of the download.

    Raises:
        UserError: if the dataset does not exist or the download fails.
    """
    target = user_path(path)
    if target.is_file():
        return target
    address = url or _address(dataset_id, target)
    cached = _cache() / PurePosixPath(urlsplit(address).path).name
    if cached.is_file():
        with opened(cached):  # the package leaves interrupted downloads in its cache
            save_with(target, lambda beside: shutil.copyfile(cached, beside))
    else:
        download(address, target, on_bytes=on_bytes, check=lambda beside: _require_hdf5(beside, address))
    return target


def _address(dataset_id: str | None, target: Path) -> str:
    if dataset_id is None:
        raise UserError(f"{target}: no such file; check dataset.source.path, or set dataset.id to download one")
    return facts(dataset_id).url


def _cache() -> Path:
    return Path(os.environ.get("D4RL_DATASET_DIR", "~/.d4rl/datasets")).expanduser()


def _require_hdf5(file: Path, address: str) -> None:
    if not h5py.is_hdf5(file):
        raise UserError(f"{address}: the server did not return an HDF5 file; open the address in a browser")


def _cutting(known: D4RLFacts | None, at_terminals: bool | None, length: int | None) -> tuple[bool, int | None]:
    """The settings ``cut_at_terminals`` and ``episode_length``; unset ones come from the published facts."""
    if at_terminals is None:
        at_terminals = known is None or known.cut_at_terminals
    if length is None and known is not None:
        length = known.episode_length
    return at_terminals, length


def _reference_scores(known: D4RLFacts | None) -> dict[str, float]:
    if known is None or known.ref_min_score is None or known.ref_max_score is None:
        return {}
    return {"ref_min_score": known.ref_min_score, "ref_max_score": known.ref_max_score}


def _require_unbroken(observations: Array, arrivals: Array, rows: EpisodeRows, where: str) -> None:
    """Within an episode each next observation must equal the following observation."""
    arrived, followed = arrivals[:-1].astype(np.float32), observations[1:].astype(np.float32)
    differs = (arrived != followed) & ~(np.isnan(arrived) & np.isnan(followed))
    steps = np.flatnonzero(differs.any(axis=tuple(range(1, differs.ndim))))
    if steps.size:
        step = int(steps[0])
        raise UserError(
            f"{where}: 'next_observations' at step {step} (row {rows.start + step}) differs from the following "
            f"observation, so the flag of an episode's end is missing; drop the episode or set episode_length"
        )
