"""Reads LeRobot datasets of version 2 and 3: frames in parquet files, cameras as images or videos."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, user_path
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import decode_all
from dreamset.datasets.sources.folder import checked_limit
from dreamset.datasets.sources.lerobot.episodes import Entry, list_episodes
from dreamset.datasets.sources.lerobot.features import (
    ACTION,
    AUTO,
    REWARDS,
    SUCCESS,
    TERMINALS,
    action_field,
    checked_size,
    is_observation,
    step_feature,
    survey_features,
)
from dreamset.datasets.sources.lerobot.meta import INFO, load_info
from dreamset.datasets.sources.lerobot.parquet import images, numbers, read_columns
from dreamset.datasets.sources.lerobot.video import decode_frames
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import ends_terminally, flags

_FRAME, _TIME = "frame_index", "timestamp"


class LeRobotSource:
    """The episodes of a local LeRobot dataset, by index.

    Columns keep the names of the features, such as ``observation.state`` and ``observation.images.top``. The final
    observation is not recorded; ``final_transition`` sets how to treat the last action. An episode has a true end if
    the feature ``terminal`` is set in its last row; ``next.done`` only marks its last row. Without a reward, all
    rewards are 0, which suffices for a world model but not for a policy.

    Args:
        path: the folder that contains ``meta``.
        observations: inputs of the models. Default: every numeric or image feature named ``observation...``.
        privileged: features for probes only, such as ``task_index``. Default: none.
        episodes: number of episodes to read, from the first. Default: all.
        image_size: side, or height and width, to which images are shrunk while decoding. Default: as recorded.
        action_low: smallest action, one number or one per element; ``meta/stats.json`` lists the recorded extremes.
        action_high: largest action.
        discrete: number of choices if the actions are discrete.
        final_transition: "drop" omits the last action, "repeat" repeats the last observation as its arrival.
        reward: feature of the reward of each step. "auto": ``next.reward`` or ``reward``. None: not recorded.
        terminal: feature that is set at true ends. "auto": ``next.success``, ``next.terminated`` or ``terminated``.
            None: no episode has one.

    Raises:
        UserError: if the metadata are damaged or a setting does not match them.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        image_size: int | Sequence[int] | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        discrete: int | None = None,
        final_transition: str = FinalTransition.DROP,
        reward: str | None = AUTO,
        terminal: str | None = AUTO,
    ) -> None:
        self._root, where = user_path(path), str(path)
        self._info = load_info(self._root)
        self._size = checked_size(image_size)
        self._final = FinalTransition.checked(final_transition)
        survey = survey_features(self._info.features, self._size)
        inputs = [name for name in survey.usable if is_observation(name)] if observations is None else observations
        self._fields, ignored = survey.choose(inputs, privileged or [], where)
        self._reward = step_feature(self._info.features, "reward", reward, REWARDS, where)
        self._terminal = step_feature(self._info.features, "terminal", terminal, TERMINALS, where)
        self._ignored = {name: why for name, why in ignored.items() if name not in (self._reward, self._terminal)}
        self._doubts = [doubts.no_rewards(INFO, REWARDS)] if reward == AUTO and self._reward is None else []
        self._action = action_field(self._info.features, discrete, action_low, action_high, where)
        self._listing = list_episodes(self._root, self._info, self._videos)
        long_enough = [entry for entry in self._listing.entries if self._final.transitions(entry.length) > 0]
        self._episodes = long_enough[: checked_limit(episodes)]

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance, self._doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are sorted by index."""
        entry = self._episodes[number]
        where = f"episode_{entry.index} of {self._root}"
        table = read_columns(entry.data, sorted(self._stored), where, episode=entry.index)
        self._require_complete(table, entry, where)
        values = {name: self._column(name, table, entry, where) for name in self._fields.columns}
        return self._final.apply(
            RawEpisode(
                name=where,
                observations=decode_all(self._fields.observations, values, where),
                actions=self._action.decode(self._numbers(ACTION, table, where), where),
                rewards=self._rewards(table, where),
                terminated=self._is_terminated(table, where),
                privileged=decode_all(self._fields.privileged, values, where),
            )
        )

    @property
    def _stored(self) -> set[str]:
        """The columns to read from the tables."""
        present = {name for name in (self._reward, self._terminal) if name}
        times = {_TIME} if self._videos else set()
        return {ACTION, _FRAME} | present | times | (self._fields.columns - set(self._videos))

    @property
    def _videos(self) -> list[str]:
        return sorted(name for name in self._fields.columns if self._info.features[name].is_video)

    def _column(self, name: str, table: pa.Table, entry: Entry, where: str) -> Array:
        feature = self._info.features[name]
        if feature.is_video:
            part = entry.videos[name]
            times = part.start + self._numbers(_TIME, table, where)[:, 0].astype(np.float64)
            return decode_frames(
                part.file, times, fps=self._info.fps, shape=feature.image_shape, size=self._size, where=where
            )
        if feature.is_image:
            return images(table, name, feature.image_shape, self._size, where)
        return self._numbers(name, table, where).reshape(len(table), *feature.shape)

    def _numbers(self, name: str, table: pa.Table, where: str) -> Array:
        feature = self._info.features.get(name)
        return numbers(table, name, feature.shape if feature else (1,), where)

    def _rewards(self, table: pa.Table, where: str) -> Array:
        if self._reward is None:
            return np.zeros(len(table), np.float32)
        return self._numbers(self._reward, table, where)[:, 0]

    def _is_terminated(self, table: pa.Table, where: str) -> bool:
        if self._terminal is None:
            return False
        ends = flags(self._numbers(self._terminal, table, where), f"{where}: {self._terminal!r}")
        # a robot may succeed and go on, but no episode goes on after a true end
        return bool(ends[-1]) if self._terminal == SUCCESS else ends_terminally(ends, where)

    def _require_complete(self, table: pa.Table, entry: Entry, where: str) -> None:
        frames = self._numbers(_FRAME, table, where)[:, 0]
        if len(frames) != entry.length:
            raise UserError(
                f"{where}: {entry.data.name} has {len(frames)} frames of it, expected {entry.length}; copy or download "
                f"the dataset again, or drop the episode"
            )
        wrong = np.flatnonzero(frames != np.arange(entry.length))
        if wrong.size:
            step = wrong[0]
            raise UserError(
                f"{where}: frame_index is {frames[step]} in row {step}, expected {step}; a frame is missing or "
                f"misplaced, drop the episode"
            )

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "lerobot",
            "codebase_version": self._info.version,
            "robot_type": self._info.robot,
            "fps": self._info.fps,
            **_digest(self._root, self._files()),
            "episodes": len(self._episodes),
            "episodes_in_dataset": len(self._listing.entries),
            "episodes_in_another_file_than_listed": self._listing.moved,
            "episodes_without_transition": sum(self._final.transitions(e.length) < 1 for e in self._listing.entries),
            "rewards": self._reward or "absent",
            "terminal_flag": self._terminal or "absent",
            "lossy": self._videos,
            "image_size": list(self._size) if self._size else None,
            "final_observation": self._final.value,
            "ignored_columns": self._ignored,
            "ignored_task_texts": self._info.tasks,
        }

    def _files(self) -> set[Path]:
        data = {entry.data for entry in self._episodes}
        videos = {entry.videos[name].file for entry in self._episodes for name in self._videos}
        return {self._root / INFO, *self._listing.files, *data, *videos}


def _digest(root: Path, files: Iterable[Path]) -> dict[str, Any]:
    """``folder.digest`` of the files in use; other files in the folder do not change it."""
    entries = sorted(
        (file.relative_to(root).as_posix(), file.stat().st_size, file_sha256(file)) for file in files if file.is_file()
    )
    return {
        "files": len(entries),
        "bytes": sum(size for _, size, _ in entries),
        "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
    }
