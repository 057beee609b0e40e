"""Decodes recorded actions into one vector: concatenated numbers, or one choice among all combinations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.codecs import VectorCodec
from dreamset.datasets.sources.minari.spaces import LARGEST_ONE_HOT, Space, bounds, checked_shape, leaves
from dreamset.datasets.sources.minari.storage import LeafPath

_MOST_COMBINATIONS = 4096
_CHOICES = ("Discrete", "MultiDiscrete", "MultiBinary")


class ActionDecoder(Protocol):
    """Decodes the stored leaves of an action space into rows of one vector."""

    @property
    def spec(self) -> ActionSpec:
        """Size, kind and bounds of a row."""

    @property
    def paths(self) -> Sequence[LeafPath]:
        """The leaves below ``actions``, in the order of a row."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The meaning of the elements of a row, as plain json."""

    def decode(self, values: Sequence[Array], where: str) -> NDArray[np.float32]:
        """[rows, size] from the values of the leaves in the order of ``paths``; bad values raise a ``UserError``."""


def action_decoder(space: Space, where: str) -> ActionDecoder:
    """The decoder of a space: a Box, a discrete space, or a nested Dict or Tuple of only one of these kinds.

    Boxes are flattened and concatenated in the order of the space. Several discrete choices become one choice among all
    combinations, numbered in C order: the last choice of the last leaf changes fastest.

    Raises:
        UserError: if the space has another kind, both kinds, or more than 4096 combinations of several choices.
    """
    parts = leaves(space)
    kinds = {part["type"] for part in parts.values()}
    if not kinds or not kinds <= {"Box", *_CHOICES}:
        raise UserError(
            f"{where}: the action space has {' and '.join(sorted(kinds)) or 'no part'}; supported: Box, "
            f"{', '.join(_CHOICES)} and a Dict or Tuple of them; record the actions as one of these"
        )
    if kinds == {"Box"}:
        return NumbersDecoder(parts)
    if "Box" in kinds:
        raise UserError(
            f"{where}: the action space mixes Box with {' and '.join(sorted(kinds - {'Box'}))}; supported: only "
            f"Boxes or only choices; record the actions as one Box"
        )
    return ChoicesDecoder(parts, where)


@dataclass(frozen=True, slots=True)
class NumbersDecoder:
    """Decodes Boxes into one concatenated vector."""

    parts: Mapping[LeafPath, Space]

    @property
    def spec(self) -> ActionSpec:
        """The size of all Boxes together, with their bounds."""
        low, high = (
            tuple(bound for part in self.parts.values() for bound in bounds(part, side)) for side in ("low", "high")
        )
        return ActionSpec(len(low), discrete=False, low=low, high=high)

    @property
    def paths(self) -> Sequence[LeafPath]:
        """In the order of the space."""
        return list(self.parts)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Name and shape of every Box."""
        parts = [{"name": ".".join(path), "shape": list(checked_shape(part))} for path, part in self.parts.items()]
        return {"kind": "numbers, side by side", "parts": parts}

    def decode(self, values: Sequence[Array], where: str) -> NDArray[np.float32]:
        """[rows, size]."""
        columns = [
            VectorCodec(checked_shape(part)).decode(stored, _place(where, path))
            for (path, part), stored in zip(self.parts.items(), values, strict=True)
        ]
        return np.concatenate(columns, axis=1, dtype=np.float32)


class ChoicesDecoder:
    """Decodes several discrete choices into one choice among all combinations."""

    def __init__(self, parts: Mapping[LeafPath, Space], where: str) -> None:
        self._parts = {path: _Choices.of(part) for path, part in parts.items()}
        self._counts = tuple(count for part in self._parts.values() for count in part.counts)
        size = _combinations(self._counts, where)
        self.spec = ActionSpec(size, discrete=True, low=(0.0,) * size, high=(1.0,) * size)

    @property
    def paths(self) -> Sequence[LeafPath]:
        """In the order of the space; the last changes fastest."""
        return list(self._parts)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Name, number of values and first value of every choice."""
        parts = [
            {"name": ".".join(path), "choices": list(part.counts), "start": list(part.starts)}
            for path, part in self._parts.items()
        ]
        return {"kind": "one-hot among all combinations, of which the last choice changes fastest", "parts": parts}

    def decode(self, values: Sequence[Array], where: str) -> NDArray[np.float32]:
        """One-hot rows [rows, size]."""
        digits = [
            part.digits(stored, _place(where, path))
            for (path, part), stored in zip(self._parts.items(), values, strict=True)
        ]
        choice = np.ravel_multi_index(tuple(np.concatenate(digits, axis=1).T), self._counts)
        rows = np.zeros((len(choice), self.spec.size), np.float32)
        rows[np.arange(len(choice)), choice] = 1
        return rows


@dataclass(frozen=True, slots=True)
class _Choices:
    """The choices of one leaf, flattened."""

    shapes: tuple[tuple[int, ...], ...]  # allowed shapes of a stored row
    counts: tuple[int, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, space: Space) -> "_Choices":
        if space["type"] == "Discrete":
            return cls(((), (1,)), (int(space["n"]),), (int(space.get("start", 0)),))
        shape = checked_shape(space)
        counts = np.asarray(space["nvec"] if space["type"] == "MultiDiscrete" else np.full(shape, 2), np.int64)
        starts = np.broadcast_to(np.asarray(space.get("start", 0), np.int64), shape)
        return cls((shape,), tuple(counts.ravel().tolist()), tuple(starts.ravel().tolist()))

    def digits(self, values: Array, where: str) -> NDArray[np.int64]:
        """[rows, choices], each counted from 0."""
        if values.dtype.kind not in "iub" or values.shape[1:] not in self.shapes:
            got, needed = f"{values.dtype}{list(values.shape[1:])}", list(self.shapes[0])
            raise UserError(f"{where} holds {got} per row, its space declares integers of shape {needed}")
        indices: NDArray[np.int64] = values.reshape(len(values), len(self.counts)).astype(np.int64)
        start, end = np.array(self.starts), np.array(self.starts) + self.counts
        outside = np.argwhere((indices < start) | (indices >= end))
        if outside.size:
            step, element = map(int, outside[0])
            place = f"step {step}" if len(self.counts) == 1 else f"step {step}, element [{element}]"
            raise UserError(
                f"{where} is {indices[step, element]} at {place}; allowed: {start[element]} to {end[element] - 1}; "
                f"fix or drop the episode"
            )
        digits: NDArray[np.int64] = indices - start
        return digits


def _combinations(counts: Sequence[int], where: str) -> int:
    allowed = LARGEST_ONE_HOT if len(counts) == 1 else _MOST_COMBINATIONS
    size = 1
    for count in counts:
        size *= count
        if not 1 <= size <= allowed:
            factors = " x ".join(map(str, counts[:8])) + (" x ..." if len(counts) > 8 else "")
            raise UserError(
                f"{where}: the action space has {factors} combinations; allowed: 1 to {allowed}; "
                f"record fewer choices, or record the actions as a Box"
            )
    return size


def _place(where: str, path: LeafPath) -> str:
    return f"{where}: {'/'.join(('actions', *path))!r}"
