"""Npz and HDF5 files of any layout: settings say what each column is and when it took place."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.actions import ActionSettings
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.boundaries import checked_boundaries
from dreamset.datasets.sources.columns import Headers, headers_of
from dreamset.datasets.sources.folder import checked_limit, digest, list_files
from dreamset.datasets.sources.mapped.columns import EpisodeDecoder, MappedColumns
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.segments import Damage, Piece
from dreamset.datasets.sources.tables import TABLE_ENDINGS, open_table
from dreamset.datasets.sources.timing import TimeRule


class MappedSource:
    """Episodes in one file, or in all files of a folder, whose columns the settings name.

    Args:
        path: A ``.npz`` or HDF5 file, or a folder of such files.
        observations: Name of each model input and the column that holds it, such as ``{image: obs/rgb}``; columns in
            groups of HDF5 files are named by their path.
        action: Column of the action.
        reward: Column of the reward; null if none was recorded, which makes it 0.
        terminal: Column that is true in the last row of an episode with a true end; null if none has one.
        privileged: As ``observations``, for what only probes see.
        alignment: When row t of action and reward took place: ``follows`` (the action taken at observation t and the
            reward that it earned) or ``precedes`` (the action that led to observation t and the reward received
            there). One word, or ``{action: follows, reward: precedes}``.
        filled_last_row: Whether in columns that follow, and have as many rows as the observations, the last row is
            filling, as in RLDS. Where one column precedes, this is so in any case.
        final_transition: What becomes of the last action where it is not, so that its outcome was not recorded:
            ``drop`` it, and with it the terminal flag, or ``repeat`` the last observation as its outcome.
        boundaries: Where the episodes are. Null: each file is one. ``{groups: data}``: each group below ``data`` of
            an HDF5 file, "" for its root. One after the other with ``{ends: [done, timeout]}``, columns of which one
            is true in the last row of each, or ``{lengths: ep_len}``, a column of their lengths.
        discrete: Number of choices if the action is stored as an integer or as one-hot rows; 0 says that it is
            continuous whatever it looks like.
        action_low: Bounds of a continuous action, one number or one per element.
        action_high: As ``action_low``.
        episodes: Only so many of the first episodes, by name of file and place in it.

    Raises:
        UserError: if a setting has no such choice, or there is no episode that fits the settings.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Mapping[str, str],
        action: str,
        reward: str | None,
        terminal: str | None,
        privileged: Mapping[str, str] | None = None,
        alignment: str | Mapping[str, str] = "follows",
        filled_last_row: bool = False,
        final_transition: str = "drop",
        boundaries: Mapping[str, Any] | None = None,
        discrete: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
        episodes: int | None = None,
    ) -> None:
        if not observations:
            raise UserError(f"{path}: no observation to learn from is named; set observations to {{name: column}}")
        self._path = Path(path)
        self._columns = MappedColumns(
            observations=dict(observations),
            privileged=dict(privileged or {}),
            action=ActionSettings(action, discrete, action_low, action_high),
            reward=reward,
            terminal=terminal,
            time=TimeRule.checked(alignment, filled_last_row=filled_last_row, final_transition=final_transition),
        )
        self._boundaries, self._layout = checked_boundaries(boundaries), dict(boundaries or {})
        self._pieces = self._find()[: checked_limit(episodes)]
        self._decoder = self._first_fitting()

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return len(self._pieces)

    def describe(self) -> SourceDescription:
        """What each episode holds and where it comes from."""
        return self._decoder.fields.described(self._decoder.action.spec, self._provenance)

    def read(self, number: int) -> RawEpisode:
        """Episodes by name of file and by their place in it."""
        piece = self._pieces[number]
        if isinstance(piece, Damage):
            raise UserError(f"episode {number} of {piece.reason}")
        where = f"episode {number} of {piece.table.place}"
        return self._decoder.decode(piece.table.read(self._columns.names, where, piece.rows), where)

    def _find(self) -> list[Piece | Damage]:
        found: list[Piece | Damage] = []
        for file in list_files(self._path, TABLE_ENDINGS) if self._path.is_dir() else [self._path]:
            table = open_table(file)
            try:
                found.extend(self._boundaries.pieces(file, self._columns.names))
            except UserError as error:
                found.append(Damage(table, str(error)))
        return found

    def _first_fitting(self) -> EpisodeDecoder:
        """By the first episode in which all columns are, of those with the most common columns."""
        pieces = [piece for piece in self._pieces if isinstance(piece, Piece)]
        failures = [UserError(piece.reason) for piece in self._pieces if isinstance(piece, Damage)]
        headers = headers_of({piece.table: None for piece in pieces}, str(self._path)) if pieces else {}
        ranks = {table: rank for rank, table in enumerate(headers)}
        for piece in sorted((piece for piece in pieces if piece.table in ranks), key=lambda piece: ranks[piece.table]):
            try:
                return self._fitting(piece, headers[piece.table])
            except UserError as error:
                failures.append(error)
        raise UserError(f"{self._path}: no episode fits the settings; the first one: {failures[0]}") from failures[0]

    def _fitting(self, piece: Piece, headers: Headers) -> EpisodeDecoder:
        place, column = piece.table.place, self._columns.action.column
        example = piece.table.read([column], place, piece.rows)[column]
        return self._columns.decoder(headers, example, place)

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        columns, dropped = self._columns, self._dropped_terminals()
        return {
            "format": "mapped",
            **digest({piece.table.path for piece in self._pieces}),
            "episodes": len(self._pieces),
            "observations": dict(columns.observations),
            "privileged": dict(columns.privileged),
            "action": columns.action.column,
            "reward": columns.reward,
            "terminal": columns.terminal,
            "alignment": {"action": columns.time.action.value, "reward": columns.time.reward.value},
            "filled_last_row": columns.time.filled_last_row,
            "final_transition": columns.time.final.value,
            "boundaries": self._layout,
            "dropped_final_transitions": len(dropped),
            "dropped_terminals": sum(dropped),
            "ignored_columns": self._ignored_columns(),
        }

    def _dropped_terminals(self) -> list[bool]:
        """For each episode that loses its last transition, whether with it a true end is lost."""
        if self._columns.time.final is not FinalTransition.DROP:
            return []
        terminal = [self._columns.terminal] if self._columns.terminal else []
        dropped = []
        for piece in self._pieces:
            with suppress(UserError):  # reading the episode says it
                if not isinstance(piece, Damage) and self._columns.lacks_arrival(piece.lengths(self._columns.names)):
                    place = piece.table.place
                    flags = self._columns.terminal_flags(piece.table.read(terminal, place, piece.rows), place)
                    dropped.append(bool(flags[-1:].any()))
        return dropped

    def _ignored_columns(self) -> dict[str, str]:
        """Of all files that can be read."""
        known = {*self._columns.names, *self._boundaries.columns}
        found: set[str] = set()
        for table in {piece.table: None for piece in self._pieces if isinstance(piece, Piece)}:
            with suppress(UserError):
                found |= set(table.headers(table.place))
        return dict.fromkeys(sorted(found - known), "not named in the settings")
