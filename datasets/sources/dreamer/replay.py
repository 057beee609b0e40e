"""Reads the replay buffer of the current DreamerV3: chunks of steps, linked by their file names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import Lost, RawEpisode
from dreamset.datasets.sources.actions import ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import decode_all, survey
from dreamset.datasets.sources.folder import checked_limit, digest, list_files
from dreamset.datasets.sources.rows import Flags, ends_terminally, flags, one_per_row
from dreamset.datasets.sources.segments import Segments, marked_table, readable_headers, segments_of
from dreamset.datasets.sources.tables import NPZ_ENDING, NpzTable, Table

_REWARD = "reward"
_IS_FIRST, _IS_LAST, _IS_TERMINAL = "is_first", "is_last", "is_terminal"
_FLAGS = (_IS_FIRST, _IS_LAST, _IS_TERMINAL)
_SKIPPED = {
    "stepid": "where the step was stored",
    "dyn/": "the recurrent state of the agent that recorded",
    "log/": "a figure for the log",
}
_NAME = re.compile(r"(?P<time>[^-]+)-(?P<chunk>[^-]+)-(?P<successor>[^-]+)-(?P<rows>\d+)")


class DreamerV3Source:
    """The episodes in a replay folder of DreamerV3 (``logdir/replay``).

    Every worker wrote a stream of steps, cut into files ``time-chunk-successor-length.npz``. An episode may span
    several files, and a file may hold several episodes. In a step, ``action`` was taken at the observation, but
    ``reward`` was received on arrival there. In the last step of an episode ``action`` is padding and is dropped.

    An episode without ``is_last`` was abandoned or is in progress. It ends like a time limit where the next episode
    begins or the stream ends, and its last action is dropped because its outcome is unknown. An episode without
    ``is_first`` lost its beginning because the previous file is missing. The provenance counts both cases.

    Args:
        path: The folder.
        observations: Inputs of the models; by default the images, or every column if there are none.
        privileged: Ground truth for probes only; by default every other numeric column that is alike in all files.
        episodes: Number of episodes to read, by the start time of their streams; by default all.
        action: Name of the action column; other action columns are observations or privileged if selected.
        discrete: Number of choices if the action is stored as an integer or as one-hot rows; 0 if it is continuous
            although it looks discrete.
        action_low: Bounds of a continuous action, one number or one per element.
        action_high: As ``action_low``.

    Raises:
        UserError: if there is no readable chunk, or a setting does not match the files.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        action: str = "action",
        discrete: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
    ) -> None:
        chunks = [_Chunk.of(file) for file in list_files(user_path(path), [NPZ_ENDING])]
        streams = [[marked_table(chunk.table, _mark) for chunk in stream] for stream in _streams(chunks)]
        segments = [entry for stream in streams for entry in segments_of(stream, lambda _previous, _following: True)]
        self._segments = Segments.of(segments, checked_limit(episodes))
        headers = readable_headers([file for stream in streams for file in stream], str(path))
        self._action = ActionSettings(action, discrete, action_low, action_high).field_of_first(headers, str(path))
        columns = survey(headers, (action, _REWARD, *_FLAGS), _SKIPPED)
        self._fields, self._ignored = columns.choose(observations, privileged, str(path))

    @property
    def episode_count(self) -> int:
        """Number of episodes and parts of episodes."""
        return len(self._segments.entries)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance)

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are in the order of recording, stream by stream."""
        segment = self._segments.segment(number)
        where = f"episode {number} of {segment.place}"
        columns = {*self._fields.columns, self._action.column, _REWARD, _IS_TERMINAL}
        values = segment.read(sorted(columns), where)
        return RawEpisode(
            name=where,
            observations=decode_all(self._fields.observations, values, where),
            actions=self._action.decode(values[self._action.column][:-1], where),
            rewards=one_per_row(values[_REWARD], f"{where}: {_REWARD!r}")[1:],
            terminated=ends_terminally(flags(values[_IS_TERMINAL], f"{where}: {_IS_TERMINAL!r}"), where),
            privileged=decode_all(self._fields.privileged, values, where),
            lost=Lost() if segment.has_last else Lost(transitions=1),  # its reward was not recorded
        )

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "dreamer_v3_replay",
            **digest(self._segments.files),
            **self._segments.provenance,
            "ignored_columns": self._ignored,
        }


@dataclass(frozen=True, slots=True)
class _Chunk:
    table: NpzTable
    identity: str
    successor: str

    @classmethod
    def of(cls, file: Path) -> "_Chunk":
        match = _NAME.fullmatch(file.stem)
        if match is None:
            raise UserError(
                f"{file}: is not named time-chunk-successor-length.npz, so it is not a chunk of a replay buffer; "
                f"for folders of episodes use DreamerSource (dataset=dreamer_episodes)"
            )
        return cls(NpzTable(file), match["chunk"], match["successor"])


def _streams(chunks: Sequence[_Chunk]) -> Iterator[list[_Chunk]]:
    """Chunks in sequence; a missing or repeated successor ends a stream."""
    by_identity = {chunk.identity: chunk for chunk in chunks}
    successors = {chunk.successor for chunk in chunks}
    heads = [chunk for chunk in chunks if chunk.identity not in successors]
    met: set[str] = set()
    for head in (*heads, *chunks):  # chunks that remain after the heads form cycles
        stream = []
        chunk: _Chunk | None = head
        while chunk is not None and chunk.identity not in met:
            met.add(chunk.identity)
            stream.append(chunk)
            chunk = by_identity.get(chunk.successor)
        if stream:
            yield stream


def _mark(table: Table) -> tuple[Flags, Flags]:
    values = table.read(_FLAGS, table.place)
    first, last, terminal = (flags(values[name], f"{table.place}: {name!r}") for name in _FLAGS)
    if not len(first) == len(last) == len(terminal):
        raise UserError(f"{table.place}: the flags have different numbers of rows; copy it again")
    return first, last | terminal
