"""Reads episode folders of DreamerV1, DreamerV2 and dreamerv3-torch: one npz file per episode."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import Array, RawEpisode, from_arrivals
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.actions import ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.columns import Headers, decode_all, headers_of, survey
from dreamset.datasets.sources.folder import checked_limit, digest, list_files
from dreamset.datasets.sources.rows import Flags, ends_terminally, flags, no_discount, one_per_row, require_transition
from dreamset.datasets.sources.segments import Piece, first_rows
from dreamset.datasets.sources.tables import ALL_ROWS, NPZ_ENDING, NpzTable

_ACTION, _REWARD, _DISCOUNT = "action", "reward", "discount"
_IS_FIRST, _IS_LAST, _IS_TERMINAL = "is_first", "is_last", "is_terminal"
_RESERVED = (_ACTION, _REWARD, _DISCOUNT, _IS_FIRST, _IS_LAST, _IS_TERMINAL)
_SKIPPED = {"log_": "a figure for the log", "logprob": "the policy's, no observation"}


class DreamerSource:
    """The episodes in a folder of ``*.npz`` files, sorted by name, which begins with the time of recording.

    Row t of ``action`` and ``reward`` led to observation t; row 0 is padding and is dropped. An episode has a true end
    if its last ``is_terminal`` is set or, without that key, if its last ``discount`` is 0.

    Args:
        path: The folder.
        observations: Inputs of the models; by default the images, or every column if there are none.
        privileged: Ground truth for probes only; by default every other numeric column that is alike in all files.
        episodes: Number of episodes to read, from the first; by default all.
        discrete: Number of choices if ``action`` holds one-hot rows, as Dreamer stores Atari's actions. By default the
            action is continuous, and one-hot rows are refused as ambiguous; 0 accepts them as continuous.
        action_low: Bounds of a continuous action, one number or one per element.
        action_high: As ``action_low``.
        cut_rows: Number of rows by which columns of a file may differ; longer columns are cut at the end.

    Raises:
        UserError: if there is no readable episode, or a setting does not match the files.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        discrete: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        cut_rows: int = 0,
    ) -> None:
        self._path = user_path(path)
        self._cut_rows = cut_rows
        files = list_files(self._path, [NPZ_ENDING])[: checked_limit(episodes)]
        self._tables = [NpzTable(file) for file in files]
        settings = ActionSettings(_ACTION, discrete, action_low, action_high)
        self._headers = headers_of(self._tables, str(self._path))
        self._action = settings.field_of_first(self._headers, str(self._path))
        columns = survey(self._headers, _RESERVED, _SKIPPED)
        self._fields, self._ignored = columns.choose(observations, privileged, str(self._path))

    @property
    def episode_count(self) -> int:
        """Number of files."""
        return len(self._tables)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return self._fields.described(self._action.spec, self._provenance, self._doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are in the order of the file names."""
        table = self._tables[number]
        where = f"episode {number} of {table.place}"
        headers = table.headers(where)
        columns = self._columns(headers)
        values = self._equally_long(table.read(sorted(columns), where), where)
        require_transition(len(values[_REWARD]) - 1, where)
        _require_one_episode(values, where)
        return from_arrivals(
            where,
            observations=decode_all(self._fields.observations, values, where),
            action=self._action.decode(values[_ACTION], where),
            reward=one_per_row(values[_REWARD], f"{where}: {_REWARD!r}"),
            terminated=ends_terminally(_terminal(values, where), where),
            privileged=decode_all(self._fields.privileged, values, where),
        )

    @cached_property
    def _doubts(self) -> Sequence[str]:
        pieces = [Piece(table, ALL_ROWS) for table in self._tables[: doubts.EXAMPLES]]
        return doubts.unpadded_first_rows(self._path.name, first_rows(pieces, [_ACTION, _REWARD]))

    def _columns(self, headers: Headers) -> set[str]:
        optional = {_DISCOUNT, _IS_FIRST, _IS_LAST, _IS_TERMINAL} & set(headers)
        return self._fields.columns | {_ACTION, _REWARD} | optional

    def _equally_long(self, values: Mapping[str, Array], where: str) -> dict[str, Array]:
        rows = {column: len(array) for column, array in values.items()}
        shortest = min(rows.values())
        if max(rows.values()) - shortest > self._cut_rows:
            raise UserError(
                f"{where}: the columns have {_in_words(rows)}; expected equal numbers of rows; drop the episode"
            )
        return {column: array[:shortest] for column, array in values.items()}

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "dreamer",
            **digest(table.path for table in self._tables),
            "episodes": len(self._tables),
            "ignored_columns": self._ignored,
            "cut_files": self._cut_files(),
        }

    def _cut_files(self) -> dict[str, str]:
        cut = {}
        for table, headers in self._headers.items():
            rows = {name: headers[name].shape[0] for name in self._columns(headers) & set(headers)}
            if 0 < max(rows.values()) - min(rows.values()) <= self._cut_rows:
                cut[table.name] = f"{_in_words(rows)}; cut to {min(rows.values())}"
        return dict(sorted(cut.items()))


def _require_one_episode(values: Mapping[str, Array], where: str) -> None:
    for column, inner in ((_IS_FIRST, slice(1, None)), (_IS_LAST, slice(0, -1))):
        if column in values and flags(values[column], f"{where}: {column!r}")[inner].any():
            raise UserError(f"{where}: {column!r} is set within the file, so the file holds several episodes; split it")


def _terminal(values: Mapping[str, Array], where: str) -> Flags:
    """DreamerV1 lacks ``is_terminal``, DreamerV2 lacks ``discount``; with both, a time limit may have discount 0."""
    if _IS_TERMINAL in values:
        return flags(values[_IS_TERMINAL], f"{where}: {_IS_TERMINAL!r}")
    if _DISCOUNT in values:
        return no_discount(values[_DISCOUNT], f"{where}: {_DISCOUNT!r}")
    raise UserError(f"{where}: has neither {_IS_TERMINAL!r} nor {_DISCOUNT!r}, so its kind of end is unknown; add one")


def _in_words(rows: Mapping[str, int]) -> str:
    by_rows: dict[int, list[str]] = {}
    for column, count in sorted(rows.items()):
        by_rows.setdefault(count, []).append(column)
    return ", ".join(f"{count} rows ({' '.join(columns)})" for count, columns in sorted(by_rows.items()))
