"""One episode, as recorded by a source (``RawEpisode``) and as written to a store (``Episode``)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec

Array = NDArray[np.generic]

_ACTION_TOLERANCE = 1e-4  # of the action's range: tolerates rounding from float64 to float32


class EpisodeSpec(Protocol):
    """The columns that every episode must have. ``DataSpec`` and ``SourceDescription`` implement it."""

    @property
    def observations(self) -> Mapping[str, ArraySpec]:
        """Inputs of the models."""

    @property
    def privileged(self) -> Mapping[str, ArraySpec]:
        """Ground truth, for probes only."""

    @property
    def action(self) -> ActionSpec:
        """The action space."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What a reader left out at the end of an episode because its outcome was not recorded."""

    transitions: int = 0
    reward: float = 0.0  # their sum
    terminal: bool = False  # whether the true end of the episode went with them


@dataclass(frozen=True, slots=True)
class RawEpisode:
    """N transitions as recorded: ``actions[t]`` is taken AT observation ``t`` and earns ``rewards[t]``."""

    name: str  # for messages, such as "episode_12 of /data/main_data.hdf5"
    observations: Mapping[str, Array]  # name -> [N + 1, ...]
    actions: Array | None  # [N, A]; None: they were not recorded
    rewards: Array  # [N]
    terminated: bool  # a true end, not a time limit
    privileged: Mapping[str, Array]  # name -> [N + 1, ...]
    lost: Lost = Lost()
    split: str | None = None  # the split that the data declare, if any
    demonstration: bool = True  # whether it is worth imitating


@dataclass(frozen=True, slots=True)
class Episode:
    """N + 1 rows of every column, aligned by the time rule of ``core/records.py``."""

    observations: Mapping[str, Array]  # name -> [N + 1, ...]
    action: NDArray[np.float32]  # [N + 1, A] row t led to observation t; row 0 is zero
    reward: NDArray[np.float32]  # [N + 1] received on arrival; row 0 is zero
    is_first: NDArray[np.bool_]  # [N + 1]
    is_last: NDArray[np.bool_]  # [N + 1]
    is_terminal: NDArray[np.bool_]  # [N + 1]
    privileged: Mapping[str, Array]  # name -> [N + 1, ...]
    acted: bool = True  # whether the actions are known; otherwise they are zeros
    demonstration: bool = True  # whether it is worth imitating

    @property
    def rows(self) -> int:
        """Rows of every column: one more than transitions."""
        return len(self.reward)


def actions_of(raw: RawEpisode) -> Array:
    """The actions of an episode, for those who cannot do without.

    Raises:
        UserError: if it has none.
    """
    if raw.actions is None:
        raise UserError(f"{raw.name}: has no actions, which are needed here; leave the episode out")
    return raw.actions


def from_arrivals(
    name: str,
    *,
    observations: Mapping[str, Array],
    action: Array,
    reward: Array,
    terminated: bool,
    privileged: Mapping[str, Array],
) -> RawEpisode:
    """An episode of a format in which row t of ``action`` and ``reward`` led to observation t; drops row 0."""
    return RawEpisode(name, observations, action[1:], reward[1:], terminated, privileged)


def align(raw: RawEpisode, fields: EpisodeSpec) -> Episode:
    """Checks the episode and moves each action and reward to the row of its arrival.

    Columns may come in any memory order and byte order; those of the result are contiguous and native.

    Raises:
        UserError: see ``check``.
    """
    check(raw, fields)
    rows = len(raw.rewards) + 1
    unknown = np.zeros((rows - 1, fields.action.size), np.float32)
    last = np.arange(rows) == rows - 1
    return Episode(
        observations=_plain(raw.observations, fields.observations),
        action=_after_zero_row(unknown if raw.actions is None else raw.actions),
        reward=_after_zero_row(raw.rewards),
        is_first=np.arange(rows) == 0,
        is_last=last,
        is_terminal=last & raw.terminated,
        privileged=_plain(raw.privileged, fields.privileged),
        acted=raw.actions is not None,
        demonstration=raw.demonstration,
    )


def _plain(columns: Mapping[str, Array], specs: Mapping[str, ArraySpec]) -> dict[str, Array]:
    """The columns contiguous and in native byte order, as HDF5 writes them; copies only what is not."""
    return {name: np.ascontiguousarray(values, specs[name].dtype) for name, values in columns.items()}


def check(raw: RawEpisode, fields: EpisodeSpec) -> None:
    """Checks names, shapes, dtypes, action bounds and that every value is finite; actions only if there are any.

    Raises:
        UserError: with the episode and, where applicable, the column, step, element and value.
    """
    if np.ndim(raw.rewards) != 1 or len(raw.rewards) < 1:
        got = np.shape(raw.rewards)
        raise UserError(f"{raw.name}: rewards have shape {got}, expected [N] with at least one transition; drop it")
    _check_names(raw, "observations", raw.observations, fields.observations)
    _check_names(raw, "privileged columns", raw.privileged, fields.privileged)
    for column, values, spec, rows in _expected(raw, fields):
        _check_array(raw, column, values, spec, rows)
        _check_finite(raw, column, values)
    _check_finite(raw, "rewards", _to_float32(raw.rewards))
    if raw.actions is not None:
        _check_action_range(raw, raw.actions, fields.action)


def _expected(raw: RawEpisode, fields: EpisodeSpec) -> Iterator[tuple[str, Array, ArraySpec, int]]:
    transitions = len(raw.rewards)
    for name, spec in fields.observations.items():
        yield f"observation {name!r}", raw.observations[name], spec, transitions + 1
    for name, spec in fields.privileged.items():
        yield f"privileged {name!r}", raw.privileged[name], spec, transitions + 1
    if raw.actions is not None:
        yield "actions", raw.actions, ArraySpec((fields.action.size,), "float32"), transitions


def _check_names(raw: RawEpisode, kind: str, got: Mapping[str, Array], wanted: Mapping[str, ArraySpec]) -> None:
    if set(got) != set(wanted):
        raise UserError(f"{raw.name}: {kind} are {sorted(got)}, every episode must have {sorted(wanted)}")


def _check_array(raw: RawEpisode, column: str, values: Array, spec: ArraySpec, rows: int) -> None:
    if values.shape[:1] != (rows,):
        got, needed = (values.shape or (0,))[0], f"{rows} (for {len(raw.rewards)} rewards)"
        raise UserError(f"{raw.name}: {column} has {got} rows, expected {needed}; fix or drop the episode")
    if values.shape[1:] != spec.shape or values.dtype.newbyteorder("=") != np.dtype(spec.dtype):
        got = f"{values.dtype}{list(values.shape[1:])}"
        raise UserError(f"{raw.name}: {column} holds {got} per row, expected {spec.dtype}{list(spec.shape)}")


def _check_finite(raw: RawEpisode, column: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    finite = np.isfinite(values)
    if finite.all():
        return
    step, *element = (int(i) for i in np.argwhere(~finite)[0])
    place = f"step {step}" + (f", element {element}" if element else "")
    raise UserError(
        f"{raw.name}: {column} is {values[step][tuple(element)]} at {place}; every value must be finite in float32: "
        f"fix or drop the episode, or omit the column"
    )


def _check_action_range(raw: RawEpisode, actions: Array, action: ActionSpec) -> None:
    values = actions.astype(np.float64)
    if action.discrete and not _is_one_hot(values):
        raise UserError(f"{raw.name}: actions of a discrete space must be one-hot rows of {action.size} numbers")
    low, high = np.array(action.low), np.array(action.high)
    reach = np.where(np.isfinite(high - low), high - low, 0.0) * _ACTION_TOLERANCE
    outside = (values < low - reach) | (values > high + reach)
    if outside.any():
        step, element = (int(i) for i in np.argwhere(outside)[0])
        ends = f"{values[:, element].min():g} to {values[:, element].max():g}"
        raise UserError(
            f"{raw.name}: actions is {values[step, element]:g} at step {step}, element [{element}]; allowed: "
            f"[{low[element]:g}, {high[element]:g}]: add the transform ClipActions or RescaleActions, or set the "
            f"source's action_low and action_high to the bounds of the data (this episode has {ends})"
        )


def _is_one_hot(rows: NDArray[np.float64]) -> bool:
    return bool(np.isin(rows, (0.0, 1.0)).all() and (rows.sum(axis=1) == 1).all())


def _after_zero_row(values: Array) -> NDArray[np.float32]:
    shifted = np.zeros((len(values) + 1, *values.shape[1:]), np.float32)
    shifted[1:] = values
    return shifted


def _to_float32(values: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the caller reports
        return values.astype(np.float32)
