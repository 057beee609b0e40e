"""Reads files of named columns in any layout: settings give the role and the alignment of each column."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.actions import UNKNOWN_SPACE, ActionSettings, unrecorded_space
from dreamset.datasets.sources.arrivals import equal_rows
from dreamset.datasets.sources.autoreset import Autoreset
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.boundaries import checked_boundaries
from dreamset.datasets.sources.columns import Headers, headers_of
from dreamset.datasets.sources.files import open_table, video_hint
from dreamset.datasets.sources.folder import checked_limit, digest
from dreamset.datasets.sources.joined import (
    Named,
    joined_name,
    joins_among,
    parts_of,
    stored_columns,
    with_joins,
)
from dreamset.datasets.sources.mapped.columns import EpisodeDecoder, MappedColumns
from dreamset.datasets.sources.mapped.doubts import Suspect
from dreamset.datasets.sources.mapped.splits import DeclaredSplits
from dreamset.datasets.sources.scanning import counted
from dreamset.datasets.sources.segments import Damage, Piece
from dreamset.datasets.sources.tables import Table, kept_open
from dreamset.datasets.sources.timing import Alignment, TimeRule


class MappedSource:
    """The episodes in one file, or in all files of a folder; the settings name the columns.

    Args:
        path: A file (npz, HDF5, parquet or CSV), or a folder of such files. A folder with ``.npy`` files counts as one
            file, whose columns have the names of the files.
        observations: Name and column of each model input, such as ``{image: obs/rgb}``; columns in groups of HDF5 files
            are named by their path. Several columns, ``{state: [x, v]}``, stand side by side in one vector.
        action: Column of the action, or several columns that stand side by side; null if no actions were recorded.
        reward: Column of the reward; null if none was recorded: the reward is then 0.
        terminal: Column that is true in the last row of an episode with a true end; null if no episode has one.
        privileged: As ``observations``, for ground truth that only probes read.
        alignment: Time of row t of action and reward: ``follows`` (the action taken at observation t and the reward
            for it) or ``precedes`` (the action that led to observation t and the reward received there). One word, or
            ``{action: follows, reward: precedes}``.
        filled_last_row: Whether the last row is padding, as in RLDS, in columns that follow and have as many rows as
            the observations. If one column precedes, it is padding in any case.
        final_transition: How to treat the last action if its outcome was not recorded: ``drop`` it with the terminal
            flag, or ``repeat`` the last observation as its outcome.
        next_observations: Name and column of each observation and privileged column after the step of the same row;
            gives the final observations. Empty if there are no such columns.
        boundaries: How to find the episodes. Null: each file is an episode. ``{groups: data}``: each group below
            ``data`` in an HDF5 file is an episode; "" is the root. ``{folders: ""}``: each folder in ``path`` is one,
            and its files hold the columns: ``action.npy`` is ``action``, and ``x`` in ``obs.npz`` is ``obs/x``.
            ``{batch: true}``: arrays [episodes, steps, ...]. For episodes in sequence: ``{ends: [done, timeout]}``,
            columns of which one is true in the last row of each episode; ``{changes: episode}``, a column whose value
            changes where an episode begins; ``{lengths: ep_len}``, a column of lengths; ``{stops: episode_ends}``,
            their sums; ``{every: 1000}``, a number of rows; or ``{breaks: [done]}``, as ``ends`` and also where a next
            observation is not the following observation.
        splits: Lists of the episodes for training and validation, such as ``{train: mask/train, validation:
            mask/valid}``: columns with names of groups. Episodes in neither list are left out. By default the split is
            random.
        autoreset: When the environment reset itself. ``next_step``: the row after an end has the final observation
            and an ignored action; needs ``{ends: columns}``. ``same_step``: the next observation in the last row is
            the first one of the next episode, so the final observation is missing. ``disabled``: it is the final one.
            Null: as ``same_step`` for episodes in which it equals the first observation of the next episode.
        discrete: Number of choices if the action is stored as an integer or as one-hot rows; 0 if it is continuous
            although it looks discrete.
        action_low: Bounds of a continuous action, one number or one per element.
        action_high: As ``action_low``.
        action_size: Number of elements of the action, for recordings without actions; ``discrete`` gives it, too. Null:
            that of the data with which they are joined.
        episodes: Number of episodes to read, by file name and position; by default all.

    Raises:
        UserError: if a setting has an unknown value, or no episode matches the settings.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Mapping[str, Named],
        action: Named | None,
        reward: str | None,
        terminal: str | None,
        privileged: Mapping[str, Named] | None = None,
        alignment: str | Mapping[str, str] = "follows",
        filled_last_row: bool = False,
        final_transition: str = "drop",
        next_observations: Mapping[str, Named] | None = None,
        boundaries: Mapping[str, Any] | None = None,
        splits: Mapping[str, str] | None = None,
        autoreset: str | None = None,
        discrete: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        action_size: int | None = None,
        episodes: int | None = None,
    ) -> None:
        if not observations:
            raise UserError(f"{path}: no observation is named; set observations to {{name: column}}")
        self._path = user_path(path)
        named = [observations, privileged or {}, next_observations or {}]
        acted = [] if action is None else [action]
        self._joins = joins_among([*acted, *(columns for names in named for columns in names.values())])
        self._columns = MappedColumns(
            observations={name: joined_name(columns) for name, columns in observations.items()},
            privileged={name: joined_name(columns) for name, columns in (privileged or {}).items()},
            arrivals=_arrivals({**observations, **(privileged or {})}, next_observations or {}, str(path)),
            action=None if action is None else ActionSettings(joined_name(action), discrete, action_low, action_high),
            reward=reward,
            terminal=terminal,
            time=TimeRule.checked(alignment, filled_last_row=filled_last_row, final_transition=final_transition),
        )
        if action is not None and action_size is not None:
            raise UserError(
                f"{path}: action_size is {action_size}, but the column {joined_name(action)!r} tells the size; set "
                f"dataset.source.action_size to null, or dataset.source.action to null if there are no actions"
            )
        self._space = UNKNOWN_SPACE  # replaced by that of the column, or by the settings if there is no column
        if action is None:
            self._space = unrecorded_space(action_size, discrete, action_low, action_high, str(path))
        self._autoreset, self._layout = Autoreset.checked(autoreset), dict(boundaries or {})
        self._require_following_steps()
        self._boundaries = checked_boundaries(
            boundaries, arrivals=parts_of(self._columns.arrivals, self._joins), autoreset=self._autoreset
        )
        self._splits = DeclaredSplits.checked(splits, self._layout)
        self._split_of: dict[Table, str] = {}
        self._outside_splits = 0
        self._pieces = self._find()[: checked_limit(episodes)]
        self._decoder = self._first_fitting()

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self._pieces)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        field = self._decoder.action
        action = self._space if field is None else field.spec
        return self._decoder.fields.described(action, self._provenance, self._doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are sorted by file name and position."""
        piece = self._pieces[number]
        if isinstance(piece, Damage):
            raise UserError(f"episode {number} of {piece.reason}")
        where = f"episode {number} of {piece.table.place}"
        values = piece.table.read(self._columns.names, where, piece.rows)
        trusted = number not in self._overwritten
        raw = self._decoder.decode(
            self._columns.completed(values, where, reset_row=piece.reset_row, trusted=trusted), where
        )
        return replace(raw, split=self._split_of.get(piece.table))

    def _require_following_steps(self) -> None:
        """Final observations beside the steps, and rows without a step, make no sense if the steps are padded."""
        time, named = self._columns.time, "next_observations" if self._columns.arrivals else "autoreset=next_step"
        if not self._columns.arrivals and self._autoreset is not Autoreset.NEXT_STEP:
            return
        if time.filled_last_row or {time.action, time.reward} != {Alignment.FOLLOWS}:
            raise UserError(
                f"{self._path}: {named} needs alignment=follows and filled_last_row=false; fix the ingest settings"
            )

    def _find(self) -> list[Piece | Damage]:
        pieces: list[Piece | Damage] = []
        for file in self._boundaries.places(self._path):
            table = open_table(file)
            try:
                pieces.extend(self._pieces_in(file))
            except UserError as error:
                pieces.append(Damage(table, str(error)))
        return pieces

    def _pieces_in(self, file: Path) -> list[Piece]:
        """The episodes of a file; if it declares splits, only those in a split."""
        pieces = [
            replace(piece, table=with_joins(piece.table, self._joins))
            for piece in self._boundaries.pieces(file, stored_columns(self._columns.names, self._joins))
        ]
        if not self._splits.columns:
            return pieces
        split_of = self._splits.of_pieces(file, pieces)
        self._split_of |= {piece.table: split for piece, split in split_of}
        self._outside_splits += len(pieces) - len(split_of)
        return [piece for piece, _ in split_of]

    def _first_fitting(self) -> EpisodeDecoder:
        """The decoder of the first episode that matches the settings, most common columns first."""
        pieces = [piece for piece in self._pieces if isinstance(piece, Piece)]
        failures = [UserError(piece.reason) for piece in self._pieces if isinstance(piece, Damage)]
        tables = dict.fromkeys(piece.table for piece in pieces)
        self._headers = headers = headers_of(tables, str(self._path)) if pieces else {}
        ranks = {table: rank for rank, table in enumerate(headers)}
        for piece in sorted((piece for piece in pieces if piece.table in ranks), key=lambda piece: ranks[piece.table]):
            try:
                return self._fitting(piece, headers[piece.table])
            except UserError as error:
                failures.append(error)
        reason = f"{failures[0]}{video_hint(self._path)}"
        raise UserError(f"{self._path}: no episode matches the settings; the first error: {reason}") from failures[0]

    def _fitting(self, piece: Piece, headers: Headers) -> EpisodeDecoder:
        place, column = piece.table.place, self._columns.action_column
        if column is None:
            return self._columns.decoder(headers, None, place)
        if column not in headers:
            raise UserError(
                f"{place}: {column!r} is missing; available: {sorted(headers)}; set dataset.source.action to one of "
                f"them, or to null if no actions were recorded"
            )
        example = piece.table.read([column], place, piece.rows)[column]
        return self._columns.decoder(headers, example, place)

    @cached_property
    def _doubts(self) -> Sequence[str]:
        readable = [piece for piece in self._pieces if isinstance(piece, Piece)]
        suspect = Suspect(self._path.name, self._columns, self._boundaries, readable)
        sentences = list(suspect.doubts())
        if self._autoreset is None and suspect.has_reset_rows():
            sentences.append(doubts.reset_rows(self._path.name))
        elif self._autoreset is None and self._overwritten:
            sentences.append(doubts.overwritten_arrivals(self._path.name, len(self._overwritten)))
        return sentences

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        columns = self._columns
        return {
            "format": "mapped",
            **digest({piece.table.path for piece in self._pieces}),
            "episodes": len(self._pieces),
            "observations": dict(columns.observations),
            "privileged": dict(columns.privileged),
            "action": columns.action_column,
            "reward": columns.reward,
            "terminal": columns.terminal,
            "alignment": {"action": columns.time.action.value, "reward": columns.time.reward.value},
            "filled_last_row": columns.time.filled_last_row,
            "final_transition": columns.time.final.value,
            "next_observations": dict(columns.arrivals),
            "boundaries": self._layout,
            "autoreset": self._autoreset.value if self._autoreset else None,
            "overwritten_final_observations": len(self._overwritten),
            "splits": self._splits.columns,
            "episodes_outside_splits": self._outside_splits,
            "ignored_columns": self._ignored_columns(),
        }

    @cached_property
    def _overwritten(self) -> frozenset[int]:
        """Episodes whose last arrival is not their final observation, but the first one of the next episode."""
        if not self._columns.arrivals or self._autoreset in (Autoreset.DISABLED, Autoreset.NEXT_STEP):
            return frozenset()
        if self._autoreset is Autoreset.SAME_STEP:
            return frozenset(range(len(self._pieces)))
        with kept_open():
            neighbours = enumerate(pairwise(counted(self._pieces)))
            equal = {number for number, (piece, after) in neighbours if self._runs_on(piece, after)}
        if not equal:
            return frozenset()
        last = {piece.table.path: n for n, piece in enumerate(self._pieces)}  # nothing shows whether they are
        return frozenset({*equal, *(last[self._pieces[n].table.path] for n in equal), len(self._pieces) - 1})

    def _runs_on(self, piece: Piece | Damage, following: Piece | Damage) -> bool:
        """Whether the last arrival of a piece is the first observation of the following one."""
        if isinstance(piece, Damage) or isinstance(following, Damage):
            return False
        arrivals = self._columns.arrivals
        with suppress(UserError):  # reading the episode reports it
            last = piece.table.read(sorted(set(arrivals.values())), piece.table.place, piece.last_row)
            first = following.table.read(sorted(arrivals), following.table.place, following.first(1))
            return all(bool(equal_rows(last[arrived], first[name]).all()) for name, arrived in arrivals.items())
        return False

    def _ignored_columns(self) -> dict[str, str]:
        """Ignored columns of all readable files."""
        names = self._columns.names
        known = {*names, *stored_columns(names, self._joins), *self._joins, *self._boundaries.columns}
        present = {name for headers in self._headers.values() for name in headers}
        return dict.fromkeys(sorted(present - known), "not named in the settings")


def _arrivals(columns: Mapping[str, Named], following: Mapping[str, Named], where: str) -> dict[str, str]:
    """The column after the step of each column; all columns have one, or none has."""
    if not following:
        return {}
    for name in sorted(columns.keys() ^ following.keys()):
        problem = "lacks" if name in columns else "names the unknown"
        raise UserError(
            f"{where}: next_observations {problem} {name!r}; allowed: every name of observations and privileged; "
            f"fix the setting, or omit the column"
        )
    arrivals = {joined_name(columns[name]): joined_name(column) for name, column in following.items()}
    if arrivals.keys() & set(arrivals.values()):
        raise UserError(f"{where}: next_observations and observations name the same column; fix the ingest settings")
    return arrivals
