"""Turns the columns of an episode into transitions, by the user's mapping."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.actions import ActionField, ActionSettings
from dreamset.datasets.sources.arrivals import Arrivals, completed
from dreamset.datasets.sources.columns import Field, Headers, SelectedFields, decode_all
from dreamset.datasets.sources.rows import Flags, flags, one_per_row, require_transition
from dreamset.datasets.sources.timing import Alignment, TimeRule, transition_rows


@dataclass(frozen=True, slots=True)
class MappedColumns:
    """The roles of the columns and the time rule of action and reward."""

    observations: Mapping[str, str]  # name of the input -> column
    privileged: Mapping[str, str]
    arrivals: Arrivals
    action: ActionSettings | None  # None: not recorded
    reward: str | None
    terminal: str | None
    time: TimeRule

    @property
    def names(self) -> list[str]:
        """Names of the columns to read."""
        return sorted({*self._observed_columns, *self._step_columns})

    @property
    def preceding(self) -> list[str]:
        """The columns whose first row is padding because they precede."""
        rules = {self.action_column: self.time.action, self.reward: self.time.reward}
        return [column for column, rule in rules.items() if column is not None and rule is Alignment.PRECEDES]

    @property
    def action_column(self) -> str | None:
        """The column of the actions; None if they were not recorded."""
        return None if self.action is None else self.action.column

    def completed(
        self, values: Mapping[str, Array], where: str, *, reset_row: bool, trusted: bool
    ) -> Mapping[str, Array]:
        """The values with the final observation, as far as it was recorded.

        Args:
            values: The recorded rows of every column.
            where: The episode, for messages.
            reset_row: Whether the last row has only the final observation.
            trusted: Whether the last arrival is the final observation.
        """
        if reset_row:
            cut = self._step_columns - self._observed_columns
            values = {name: rows[:-1] if name in cut else rows for name, rows in values.items()}
        remedy = "drop the episode, or set dataset.source.boundaries={breaks: []} to cut such episodes"
        return completed(values, self.arrivals, where, trusted=trusted, remedy=remedy)

    def terminal_flags(self, values: Mapping[str, Array], where: str) -> Flags:
        """[rows] flags of true ends; a single False without such a column."""
        if self.terminal is None:
            return np.zeros(1, bool)
        return flags(values[self.terminal], f"{where}: {self.terminal!r}")

    def decoder(self, headers: Headers, example: Array | None, where: str) -> "EpisodeDecoder":
        """The decoder of episodes, from the headers and actions of one episode; None if there are no actions.

        Raises:
            UserError: if a column is missing or does not match its role.
        """
        self._require_single_rewards(headers, where)
        inputs = {name: Field.of(column, headers, where) for name, column in self.observations.items()}
        probed = {name: Field.of(column, headers, where) for name, column in self.privileged.items()}
        action = None if self.action is None or example is None else self.action.field(headers, example, where)
        return EpisodeDecoder(self, SelectedFields(inputs, probed), action)

    def transitions(self, rows: Mapping[str, int]) -> tuple[int, int]:
        """Numbers of observations and transitions, given the rows per column; equal if the last outcome is missing."""
        observed = self._observed(rows)
        return observed, self.time.transitions(observed, *self._timed(rows))

    @property
    def _observed_columns(self) -> set[str]:
        """The columns that have a row for the final observation if it was recorded."""
        return {*self.observations.values(), *self.privileged.values()}

    @property
    def _step_columns(self) -> set[str]:
        """The columns with one row per step."""
        return {*self.arrivals.values(), *filter(None, (self.action_column, self.reward, self.terminal))}

    def _require_single_rewards(self, headers: Headers, where: str) -> None:
        """Refuses arrays [episodes, steps] that would be read as one episode."""
        for column in filter(None, (self.reward, self.terminal)):
            shape = headers[column].shape[1:] if column in headers else ()
            if shape not in ((), (1,)):
                raise UserError(
                    f"{where}: {column!r} has rows of shape {list(shape)}, expected one number; if its first axis "
                    f"counts episodes, set dataset.source.boundaries={{batch: true}}"
                )

    def _observed(self, rows: Mapping[str, int]) -> int:
        return rows[next(iter(self.observations.values()))]

    def _timed(self, rows: Mapping[str, int]) -> list[int]:
        return [rows[column] for column in (self.action_column, self.reward) if column is not None]


@dataclass(frozen=True, slots=True)
class EpisodeDecoder:
    """Decodes episodes from the stored values of ``columns``."""

    columns: MappedColumns
    fields: SelectedFields
    action: ActionField | None  # None: not recorded

    def decode(self, values: Mapping[str, Array], where: str) -> RawEpisode:
        """The episode, with action t taken at observation t.

        Raises:
            UserError: if the columns have inconsistent rows, or values do not match their column.
        """
        rows = {column: len(array) for column, array in values.items()}
        observed, transitions = self.columns.transitions(rows)
        require_transition(transitions, where)
        raw = RawEpisode(
            name=where,
            observations=decode_all(self.fields.observations, values, where),
            actions=self._actions(values, observed, transitions, where),
            rewards=self._rewards(values, observed, transitions, where),
            terminated=self._terminated(values, observed, transitions, where),
            privileged=decode_all(self.fields.privileged, values, where),
        )
        return self.columns.time.final.apply(raw) if transitions == observed else raw

    def _actions(self, values: Mapping[str, Array], observed: int, transitions: int, where: str) -> Array | None:
        if self.action is None:
            return None
        column, rule = self.action.column, self.columns.time.action
        place = f"{where}: {column!r}"
        return self.action.decode(
            transition_rows(values[column], rule, observations=observed, transitions=transitions, place=place), where
        )

    def _rewards(self, values: Mapping[str, Array], observed: int, transitions: int, where: str) -> Array:
        if self.columns.reward is None:
            return np.zeros(transitions, np.float32)
        place = f"{where}: {self.columns.reward!r}"
        rewards = one_per_row(values[self.columns.reward], place)
        return transition_rows(
            rewards, self.columns.time.reward, observations=observed, transitions=transitions, place=place
        )

    def _terminated(self, values: Mapping[str, Array], observed: int, transitions: int, where: str) -> bool:
        terminal = self.columns.terminal_flags(values, where)
        if self.columns.terminal is not None and len(terminal) not in (observed, transitions):
            raise UserError(
                f"{where}: {self.columns.terminal!r} has {len(terminal)} rows, expected {transitions} or {observed}; "
                f"fix or drop the episode"
            )
        return self.columns.time.is_terminated(terminal, where)
