"""Decodes actions of formats without a declared action space: bounded numbers or one-hot rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.codecs import Codec, OneHotCodec, VectorCodec, inferred_codec
from dreamset.datasets.sources.columns import Headers
from dreamset.datasets.sources.tables import Table

UNKNOWN_SPACE = ActionSpec(0, False, (), ())  # of recordings without actions, until they are joined with others

_MOST_CHOICES = 1 << 16


@dataclass(frozen=True, slots=True)
class ActionField:
    """The action column, decoded as bounded numbers or as one-hot rows."""

    column: str
    codec: Codec
    spec: ActionSpec

    def decode(self, values: Array, where: str) -> Array:
        """[rows, size] of the stored actions; the caller has removed padding rows."""
        if isinstance(self.codec, OneHotCodec) and values.dtype.kind == "f":
            values = self._integers(values, where)
        return self.codec.decode(values, f"{where}: {self.column!r}")

    def _integers(self, values: Array, where: str) -> Array:
        """Discrete actions that were stored as floats, for example because padding is NaN."""
        whole = np.equal(np.mod(values, 1), 0)
        if not whole.all():
            raise UserError(
                f"{where}: {self.column!r} contains fractions, expected whole numbers for a discrete action"
            )
        return values.astype(np.int64)


@dataclass(frozen=True, slots=True)
class ActionSettings:
    """The user's settings of the action: column, number of choices if discrete, bounds otherwise."""

    column: str
    discrete: int | None  # None: continuous, but an error if the data look discrete; 0: continuous in any case
    low: float | Sequence[float]
    high: float | Sequence[float]

    def field(self, headers: Headers, example: Array, where: str) -> ActionField:
        """The decoder of the column; ``example`` holds the actions of one episode.

        Raises:
            UserError: if the settings do not match the column, or it is unclear whether the action is discrete.
        """
        self.require(headers, where)
        shape, place = headers[self.column].shape[1:], f"{where}: {self.column!r}"
        if len(shape) > 1:
            raise UserError(
                f"{place} has rows of shape {list(shape)}; allowed: one number or one vector; reshape it or, if its "
                f"first axis counts episodes, use dataset=npz_folder with dataset.source.boundaries={{batch: true}}"
            )
        if self.discrete:
            return self._discrete(shape, self.discrete, place)
        inferred_codec(example.dtype, shape, place)  # raises if the values are not numbers
        if self.discrete is None:
            _require_continuous(example, place)
        vector = VectorCodec(shape)
        low, high = (_bounds(value, vector.spec.size, place) for value in (self.low, self.high))
        return ActionField(self.column, vector, ActionSpec(vector.spec.size, False, low, high))

    def require(self, headers: Headers, where: str) -> None:
        """Raises a ``UserError`` if the column is missing."""
        if self.column not in headers:
            raise UserError(
                f"{where}: {self.column!r} is missing; available: {sorted(headers)}; set the action to one of them; "
                f"recordings without actions cannot train a world model"
            )

    def field_of_first(self, files: Mapping[Table, Headers], where: str) -> ActionField:
        """``field``, by the first of ``files`` with a readable action column."""
        failures = []
        for table, headers in files.items():
            try:
                example = table.read([self.column], table.place)[self.column]
            except UserError as error:
                failures.append(error)
            else:
                return self.field(headers, example, table.place)
        raise UserError(f"{where}: no file has a readable action; the first error: {failures[0]}") from failures[0]

    def _discrete(self, shape: tuple[int, ...], choices: int, place: str) -> ActionField:
        if not 1 < choices <= _MOST_CHOICES:
            raise UserError(f"{place}: discrete is {choices}; allowed: 2 to {_MOST_CHOICES}, 0 or null")
        spec = ActionSpec(choices, True, (0.0,) * choices, (1.0,) * choices)
        if shape in ((), (1,)):
            return ActionField(self.column, OneHotCodec(choices, 0), spec)
        if shape == (choices,):
            return ActionField(self.column, VectorCodec(shape), spec)
        raise UserError(
            f"{place} has rows of shape {list(shape)}, but discrete={choices} needs one number or {choices}; "
            f"fix the ingest settings"
        )


def unrecorded_space(
    size: int | None, discrete: int | None, low: float | Sequence[float], high: float | Sequence[float], where: str
) -> ActionSpec:
    """The action space of recordings without actions, by the settings; ``UNKNOWN_SPACE`` if they do not tell it.

    Raises:
        UserError: if the settings contradict each other.
    """
    if discrete:
        if not 1 < discrete <= _MOST_CHOICES or size not in (None, discrete):
            raise UserError(
                f"{where}: discrete is {discrete} and action_size {size}; allowed: 2 to {_MOST_CHOICES} choices, and "
                f"the same action_size or null; fix the ingest settings"
            )
        return ActionSpec(discrete, True, (0.0,) * discrete, (1.0,) * discrete)
    if size is None:
        return UNKNOWN_SPACE
    return ActionSpec(size, False, *(_bounds(value, size, where) for value in (low, high)))


def _require_continuous(example: Array, place: str) -> None:
    """Refuses data that look discrete, since training on them as continuous raises no error."""
    if example.dtype.kind in "iub" and example.shape[1:] in ((), (1,)):
        raise UserError(
            f"{place} contains integers: set discrete to the number of choices, or to 0 if the action is continuous"
        )
    width = int(np.prod(example.shape[1:]))
    rows = example.reshape(len(example), width).astype(np.float64)
    rows = rows[np.any(rows != 0, axis=1) & ~np.isnan(rows).any(axis=1)]  # without padding
    if width > 1 and len(rows) and np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all():
        raise UserError(
            f"{place} contains only one-hot rows: set discrete to {width}, or to 0 if the action is continuous"
        )


def _bounds(value: float | Sequence[float], size: int, place: str) -> tuple[float, ...]:
    bounds = np.asarray(value, np.float64)
    if bounds.shape not in ((), (size,)):
        raise UserError(f"{place}: {bounds.size} bounds are set, expected 1 or {size}; fix the ingest settings")
    return tuple(np.broadcast_to(bounds, (size,)).tolist())
