"""D4RL datasets: flat HDF5 arrays of transitions, cut into episodes at their end flags."""

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
from dreamset.core.files import file_sha256, save_with
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

_EXAMPLE_ROWS = 1000  # enough to see whether actions look discrete


class D4RLSource:
    """The episodes of a D4RL file, in the order of its rows.

    An episode ends with a row that ``terminals`` or ``timeouts`` marks; what follows the last mark is an episode that
    was cut short. The final observation is taken from ``next_observations``. Files without that column do not have
    it: ``final_transition`` then says what becomes of the last action.

    Columns of ``infos`` can be chosen by names such as ``infos.qpos``. They were recorded before each action, so none
    belongs to the final observation: choosing one gives up the last transition of EVERY episode, its terminal flag
    with it, even where ``next_observations`` has the observation.

    Args:
        path: the HDF5 file.
        dataset_id: published name such as ``hopper-medium-v2``, for the reference scores and the way the dataset has
            to be cut; None for a file of your own.
        observations: inputs of the models. Default: ``state``, which is the column ``observations``.
        privileged: columns that only probes see. Default: none.
        episodes: how many of the first episodes to offer. Default: all.
        action_low: smallest action, one number or one per element.
        action_high: largest action.
        discrete: number of choices if the actions are choices.
        final_transition: "drop" leaves out a last action without arrival, "repeat" repeats the last observation.
        cut_at_terminals: False where ``terminals`` marks a waypoint after which the environment goes on, as in
            maze2d; such rows are no true ends either. Default: what is known of the dataset, otherwise True.
        episode_length: cut after so many rows at the latest, for files without ``timeouts``. Default: what is known
            of the dataset, otherwise never.

    Raises:
        UserError: if the file is damaged or a setting does not fit it.
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
        self._path, self._dataset_id = Path(path), dataset_id
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
        """How many episodes there are."""
        return len(self._episodes)

    def describe(self) -> SourceDescription:
        """What each episode holds and where it comes from."""
        return self._fields.described(self._action.spec, self._provenance)

    def read(self, number: int) -> RawEpisode:
        """Episodes by their rows; only these are decompressed."""
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
                f"final_transition={self._final}; set it to {FinalTransition.DROP} or leave the column out"
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
    """Makes sure that a published dataset lies at ``path``, and returns it.

    What the d4rl package has downloaded before, in ``$D4RL_DATASET_DIR`` or ``~/.d4rl/datasets``, is copied.

    Args:
        dataset_id: published name such as ``hopper-medium-v2``; None for a file of your own.
        path: the file; if it exists, nothing is done.
        url: another address than the published one, such as a mirror's.
        on_bytes: hears the progress of a download.

    Raises:
        UserError: if there is no such dataset or it cannot be downloaded.
    """
    target = Path(path)
    if target.is_file():
        return target
    address = url or _address(dataset_id, target)
    cached = _cache() / PurePosixPath(urlsplit(address).path).name
    if cached.is_file():
        with opened(cached):  # an interrupted download of the package stays there as if it were whole
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
        raise UserError(f"{address}: answers with something that is no HDF5 file; open it in a browser to see what")


def _cutting(known: D4RLFacts | None, at_terminals: bool | None, length: int | None) -> tuple[bool, int | None]:
    """The settings ``cut_at_terminals`` and ``episode_length``; what is not set is as it is known of the dataset."""
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
    """Inside an episode each arrival is the next observation; where it is not, another episode begins unmarked."""
    arrived, followed = arrivals[:-1].astype(np.float32), observations[1:].astype(np.float32)
    differs = (arrived != followed) & ~(np.isnan(arrived) & np.isnan(followed))
    steps = np.flatnonzero(differs.any(axis=tuple(range(1, differs.ndim))))
    if steps.size:
        step = int(steps[0])
        raise UserError(
            f"{where}: 'next_observations' at step {step} (row {rows.start + step}) is not the observation that "
            f"follows, so the mark of an episode's end is missing there; drop the episode or set episode_length"
        )
