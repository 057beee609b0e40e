"""Batches mixed from several datasets, such as offline and online data during fine-tuning."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.datasets.batches import ROW, Columns
from dreamset.datasets.sampler import WindowSampler
from dreamset.datasets.stream import BatchStream

ROWS_OF_A_SOURCE = 2**40  # more than any source has: keeps the row numbers of different sources distinct
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 are spread evenly


@dataclass(frozen=True, slots=True)
class Part:
    """A source and its share of the rows; ``None`` stands for a source without data."""

    source: WindowSampler | None
    share: float


class MixedSampler(BatchStream):
    """Batches in which every source fills its share of the rows, source after source.

    Shares are relative to their sum; the share of a source without data goes to the others. Once that source has data,
    make a new sampler with it and load the old sampler's state: the state is the number of the next batch.

    A share of s gets floor(s B) or ceil(s B) rows of a batch of B, and s B on average over the batches. The rounding is
    systematic, with an offset of k times the golden ratio modulo 1 in batch k, so the counts do not depend on the seed.

    Raises:
        UserError: if no source has data, a share is not positive, or the sources differ in columns or window length.
            Statistics may differ; ``spec`` has those of the first source.
    """

    def __init__(self, parts: Sequence[Part], *, batch_size: int, seed: int, rank: int = 0) -> None:
        if not parts or not all(0 < part.share < math.inf for part in parts):
            raise UserError(f"the shares of a mixture are {[part.share for part in parts]}; allowed: numbers above 0")
        filled = [(number, part.source, part.share) for number, part in enumerate(parts) if part.source is not None]
        if not filled:
            raise UserError("no source of the mixture has data; add a source with data")
        self._numbers, self._sources, shares = zip(*filled, strict=True)
        first, *others = self._sources
        for number, other in zip(self._numbers[1:], others, strict=True):
            _require_equal(first, other, f"source {number} of the mixture")
        super().__init__(
            first.spec, batch_size=batch_size, length=first.length, seed=seed, rank=rank, goals=first.goals is not None
        )
        self.marks = sorted({mark for source in self._sources for mark in source.marks})
        # rounded, because 0.1 + 0.2 is slightly above 0.3 in floating point
        self._quotas = [round(share / sum(shares) * batch_size, 9) for share in accumulate(shares, initial=0.0)]

    def rows(self, number: int) -> list[int]:
        """Number of rows of batch ``number`` from each source with data."""
        return [stop - start for start, stop in pairwise(self._borders(number))]

    def fill(self, number: int, columns: Columns) -> None:
        """See ``BatchStream``."""
        spans = pairwise(self._borders(number))
        for place, source, (start, stop) in zip(self._numbers, self._sources, spans, strict=True):
            if stop > start:
                part = {name: values[start:stop] for name, values in columns.items()}
                source.fill(part, self._generator(number, place))
                np.add(part[ROW], place * ROWS_OF_A_SOURCE, out=part[ROW])

    def _borders(self, number: int) -> list[int]:
        offset = round(number * GOLDEN % 1, 9) % 1  # below 1 by enough that no sum rounds up to the next integer
        return [math.floor(quota + offset) for quota in self._quotas]


def _require_equal(first: WindowSampler, other: WindowSampler, name: str) -> None:
    expected, actual = _content(first), _content(other)
    for key in [*expected, *(key for key in actual if key not in expected)]:
        if expected.get(key) != actual.get(key):
            raise UserError(
                f"{name} has {key} = {actual.get(key, 'nothing')}, the first has {expected.get(key, 'nothing')}; "
                f"mix sources of the same kind only"
            )


def _content(source: WindowSampler) -> dict[str, Any]:
    """Everything that sources must agree on: dotted name -> value."""
    own = {"window length": source.length, "goals": source.goals}
    return own | dict(_flat(_described(source.spec)))


def _described(spec: DataSpec) -> dict[str, Any]:
    described = asdict(spec)
    described.pop("statistics")
    return described


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
