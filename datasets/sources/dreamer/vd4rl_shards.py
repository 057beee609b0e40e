"""Reads the 84 x 84 form of V-D4RL: HDF5 shards that may begin and end within an episode."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import RawEpisode, from_arrivals
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.actions import ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import decode_all, survey
from dreamset.datasets.sources.folder import checked_limit, digest, list_files, natural_order
from dreamset.datasets.sources.rows import Flags, ends_terminally, no_discount, one_per_row
from dreamset.datasets.sources.segments import (
    MarkedTable,
    Segment,
    Segments,
    first_rows,
    marked_table,
    readable_headers,
    segments_of,
)
from dreamset.datasets.sources.tables import HDF5_ENDINGS, HDF5Table, Table

_ACTION, _REWARD, _DISCOUNT, _STEP_TYPE = "action", "reward", "discount", "step_type"
_FIRST, _LAST = 0, 2  # values of step_type
_IMAGE = {"observation": "image"}  # name of the images in the shards: name in the store


class VD4RLShards:
    """The episodes in HDF5 files whose borders may lie within an episode.

    An episode begins where ``step_type`` is 0 and ends where it is 2. If a shard ends within an episode and the shard
    with the next number begins within one, both parts are one episode. A part without beginning is an episode of its
    own; the action and reward of its first row are dropped, because the previous observation is missing. A part without
    end is an episode that ends like a time limit. A single row has no transition and is skipped. The provenance counts
    all these cases.

    Settings and errors are those of ``VD4RLSource``.
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
    ) -> None:
        files = [marked_table(HDF5Table(file), _mark) for file in list_files(user_path(path), HDF5_ENDINGS)]
        self._name = user_path(path).name
        self._segments = Segments.of(segments_of(files, _continues), checked_limit(episodes))
        headers = readable_headers(files, str(path))
        self._action = ActionSettings(_ACTION, 0, action_low, action_high).field_of_first(headers, str(path))
        columns = survey(headers, (_ACTION, _REWARD, _DISCOUNT, _STEP_TYPE), {})
        usable = {_IMAGE.get(name, name): field for name, field in columns.usable.items()}
        self._fields, self._ignored = replace(columns, usable=usable).choose(observations, privileged, str(path))

    @property
    def episode_count(self) -> int:
        """Number of episodes and parts of episodes."""
        return len(self._segments.entries)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance, self._doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are in the order of the shards."""
        segment = self._segments.segment(number)
        where = f"episode {number} of {segment.place}"
        values = segment.read(sorted({*self._fields.columns, _ACTION, _REWARD, _DISCOUNT}), where)
        return from_arrivals(
            where,
            observations=decode_all(self._fields.observations, values, where),
            action=self._action.decode(values[_ACTION], where),
            reward=one_per_row(values[_REWARD], f"{where}: {_REWARD!r}"),
            terminated=ends_terminally(no_discount(values[_DISCOUNT], f"{where}: {_DISCOUNT!r}"), where),
            privileged=decode_all(self._fields.privileged, values, where),
        )

    @cached_property
    def _doubts(self) -> Sequence[str]:
        segments = [entry for entry in self._segments.entries if isinstance(entry, Segment) and entry.has_first]
        firsts = first_rows([segment.pieces[0] for segment in segments[: doubts.EXAMPLES]], [_ACTION, _REWARD])
        return doubts.unpadded_first_rows(self._name, firsts)

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "vd4rl",
            **digest(self._segments.files),
            **self._segments.provenance,
            "ignored_columns": self._ignored,
        }


def _mark(table: Table) -> tuple[Flags, Flags]:
    place = f"{table.place}: {_STEP_TYPE!r}"
    kind = one_per_row(table.read([_STEP_TYPE], table.place)[_STEP_TYPE], place)
    if not np.isin(kind, (_FIRST, 1, _LAST)).all():
        raise UserError(f"{place} has values other than 0, 1 and 2; copy or download it again")
    return kind == _FIRST, kind == _LAST


def _continues(previous: MarkedTable, following: MarkedTable) -> bool:
    """Whether the numbers in the file names are consecutive, as in 4.hdf5 and 5.hdf5."""
    (before, _), (after, _) = (natural_order(marked.table.path.stem) for marked in (previous, following))
    changed = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
    if len(before) != len(after) or len(changed) != 1:
        return False
    old, new = changed[0]
    return isinstance(old, int) and new == old + 1
