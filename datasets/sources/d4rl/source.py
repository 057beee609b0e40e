"""Reads D4RL datasets: flat HDF5 arrays of transitions, cut into episodes at flags."""

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import h5py

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, save_with, user_path
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.hdf5 import opened
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.actions import ActionField, ActionSettings
from dreamset.datasets.sources.arrivals import Arrivals, completed, continues
from dreamset.datasets.sources.autoreset import Autoreset, looks_like_reset_rows
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import decode_all
from dreamset.datasets.sources.d4rl.episodes import EpisodeRows, cut, overwritten
from dreamset.datasets.sources.d4rl.facts import D4RLFacts, facts
from dreamset.datasets.sources.d4rl.file import ACTIONS, NEXT_OBSERVATIONS, OBSERVATIONS, REWARDS, scan
from dreamset.datasets.sources.download import OnBytes, download
from dreamset.datasets.sources.folder import checked_limit
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import Flags, one_per_row

_EXAMPLE_ROWS = 1000  # enough to detect discrete actions


class D4RLSource:
    """The episodes of a D4RL file, in the order of its rows.

    An episode ends at a row flagged by ``terminals``, ``timeouts`` or, as in files of d3rlpy 1, ``episode_terminals``;
    rows after the last flag are a truncated episode. The final observation comes from ``next_observations``. Files
    without that column lack the final observation, and ``final_transition`` sets how to treat the last action.

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
        cut_at_breaks: whether an episode also ends where ``next_observations`` is not the following observation, as in
            saved results of ``d4rl.qlearning_dataset``, which has no ``timeouts``.
        autoreset: when the environment reset itself. ``next_step``: the row after a flag has the final observation and
            an ignored action. ``same_step``: ``next_observations`` at a flag is the first observation of the next
            episode, so the final observation is missing. ``disabled``: it is the final one. Default: as ``same_step``
            for episodes in which both are equal.

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
        cut_at_breaks: bool = False,
        autoreset: str | None = None,
    ) -> None:
        self._path, self._dataset_id = user_path(path), dataset_id
        self._facts = facts(dataset_id) if dataset_id else None
        self._file = scan(self._path)
        survey = self._file.survey()
        inputs = [self._file.state] if observations is None else observations
        self._fields, self._ignored = survey.choose(inputs, privileged or [], str(path))
        self._action = self._action_field(ActionSettings(ACTIONS, discrete, action_low, action_high))
        self._final = FinalTransition.checked(final_transition)
        self._cut_at_terminals, self._episode_length = _cutting(self._facts, cut_at_terminals, episode_length)
        self._cut_at_breaks, self._autoreset = cut_at_breaks, Autoreset.checked(autoreset)
        self._require_consistent_settings()
        self._all_episodes = self._cut()
        self._overwritten = self._find_overwritten()
        long_enough = [rows for rows in self._all_episodes if self._transitions(rows)]
        self._episodes = long_enough[: checked_limit(episodes)]

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance, self._doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; decompresses only its rows."""
        rows = self._episodes[number]
        where = f"episode_{number} (rows {rows.start} to {rows.stop - 1}) of {self._path}"
        values = self._values(rows, where)
        raw = RawEpisode(
            name=where,
            observations=decode_all(self._fields.observations, values, where),
            actions=self._action.decode(values[ACTIONS], where),
            rewards=one_per_row(values[REWARDS], f"{where}: {REWARDS!r}"),
            terminated=rows.terminal,
            privileged=decode_all(self._fields.privileged, values, where),
        )
        return raw if self._has_arrival(rows) else self._final.apply(raw)

    def _values(self, rows: EpisodeRows, where: str) -> Mapping[str, Array]:
        """The steps of the episode, and its observations with the final one as far as it was recorded."""
        observed = self._fields.columns | set(self._arrivals)
        columns = observed | {ACTIONS, REWARDS} | set(self._arrivals.values())
        values = {
            name: array if name in observed else array[: len(rows)]
            for name, array in self._file.table.read(columns, where, rows.span.observed).items()
        }
        remedy = "drop the episode, or set dataset.source.cut_at_breaks=true or dataset.source.episode_length"
        return completed(values, self._arrivals, where, trusted=self._has_arrival(rows), remedy=remedy)

    @property
    def _arrivals(self) -> Arrivals:
        return {OBSERVATIONS: NEXT_OBSERVATIONS} if NEXT_OBSERVATIONS in self._file.headers else {}

    @cached_property
    def _follows(self) -> Flags:
        """[rows] whether the next observation is that of the following row."""
        return continues(self._file.table, self._file.headers, self._arrivals, self._file.rows)

    def _cut(self) -> list[EpisodeRows]:
        terminals = self._file.terminals & self._cut_at_terminals
        return cut(
            terminals,
            self._file.timeouts,
            breaks=~self._follows if self._cut_at_breaks else None,
            episode_length=self._episode_length,
            reset_rows=self._autoreset is Autoreset.NEXT_STEP,
        )

    def _find_overwritten(self) -> frozenset[EpisodeRows]:
        """The episodes whose last arrival is not their final observation."""
        if not self._arrivals or self._autoreset in (Autoreset.DISABLED, Autoreset.NEXT_STEP):
            return frozenset()
        if self._autoreset is Autoreset.SAME_STEP:
            return frozenset(rows for rows in self._all_episodes if rows.flagged)
        return overwritten(self._all_episodes, self._follows)

    def _has_arrival(self, rows: EpisodeRows) -> bool:
        """Whether every selected column has a row for the final observation."""
        from_arrivals = bool(self._arrivals) and self._fields.columns == {OBSERVATIONS}
        return rows.span.reset_row or (from_arrivals and rows not in self._overwritten)

    def _transitions(self, rows: EpisodeRows) -> int:
        return len(rows) if self._has_arrival(rows) else self._final.transitions(len(rows))

    def _action_field(self, settings: ActionSettings) -> ActionField:
        example = self._file.table.read([ACTIONS], str(self._path), slice(0, _EXAMPLE_ROWS))[ACTIONS]
        return settings.field(self._file.headers, example, str(self._path))

    def _require_consistent_settings(self) -> None:
        infos = sorted(self._fields.columns - {OBSERVATIONS})
        if infos and self._final is not FinalTransition.DROP:
            raise UserError(
                f"{self._path}: {infos[0]!r} has no row for the final observation, so it cannot be used with "
                f"final_transition={self._final}; set it to {FinalTransition.DROP} or omit the column"
            )
        if self._cut_at_breaks and not self._arrivals:
            raise UserError(
                f"{self._path}: cut_at_breaks is true, but the file has no {NEXT_OBSERVATIONS!r}; set it to false"
            )
        if self._cut_at_breaks and self._autoreset is Autoreset.NEXT_STEP:
            raise UserError("cut_at_breaks is true and autoreset is next_step; allowed: one of both; omit one")

    @cached_property
    def _doubts(self) -> Sequence[str]:
        place, sentences = self._path.name, []
        if len(self._all_episodes) == 1 and not self._all_episodes[0].flagged:
            remedy = "set dataset.source.episode_length"
            remedy += ", or dataset.source.cut_at_breaks=true" if self._arrivals else ""
            sentences.append(doubts.one_long_episode(place, remedy))
        if self._autoreset is None and self._has_reset_rows():
            sentences.append(doubts.reset_rows(place))
        elif self._autoreset is None and self._overwritten:
            sentences.append(doubts.overwritten_arrivals(place, len(self._overwritten)))
        return sentences

    def _has_reset_rows(self) -> bool:
        """Whether the file looks as if the environment reset itself in the step after an end."""
        starts = [before.stop for before in self._all_episodes[:-1] if before.flagged]
        rewards = self._file.table.read([REWARDS], str(self._path))[REWARDS]
        return looks_like_reset_rows(starts, one_per_row(rewards, f"{self._path}: {REWARDS!r}"))

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        from_arrivals = bool(self._arrivals) and self._fields.columns == {OBSERVATIONS}
        return {
            "format": "d4rl",
            "dataset_id": self._dataset_id,
            "file": self._path.name,
            "sha256": file_sha256(self._path),
            **_reference_scores(self._facts),
            "episodes": len(self._episodes),
            "episodes_in_file": len(self._all_episodes),
            "episodes_without_transition": sum(not self._transitions(rows) for rows in self._all_episodes),
            "last_episode_unfinished": not self._all_episodes[-1].flagged,
            "cut_at_terminals": self._cut_at_terminals,
            "cut_at_timeouts": bool(self._file.end_columns),
            "cut_at_length": self._episode_length,
            "cut_at_breaks": self._cut_at_breaks,
            "autoreset": self._autoreset.value if self._autoreset else None,
            "overwritten_final_observations": len(self._overwritten),
            "final_observation": NEXT_OBSERVATIONS if from_arrivals else self._final.value,
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
