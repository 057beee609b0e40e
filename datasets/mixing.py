"""Batches that several datasets share, as offline and online data do while a policy is refined."""

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

ROWS_OF_A_SOURCE = 2**40  # more than any has: keeps the numbers of different sources' rows apart
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 spread as evenly as any number's


@dataclass(frozen=True, slots=True)
class Part:
    """A source and its share of the rows; ``None`` stands for one that has no window yet."""

    source: WindowSampler | None
    share: float


class MixedSampler(BatchStream):
    """Batches of which every source fills its share, the rows of one source after those of the other.

    Shares are relative to their sum; that of a source without data goes to the others. Once there are data, make a new
    sampler with the source and give it the old one's state: the state is a number, and batches depend on nothing else.

    A share of s gets floor(s B) or ceil(s B) rows of a batch of B, and s B on average over the batches: systematic
    rounding, whose offset is k times the golden ratio modulo 1 in batch k. Which batch gets how many is thereby fixed,
    whatever the seed.

    Raises:
        UserError: if no source has data, a share is not above 0, or the sources differ in what a row or window holds;
            statistics may differ, ``spec`` has those of the first source.
    """

    def __init__(self, parts: Sequence[Part], *, batch_size: int, seed: int, rank: int = 0) -> None:
        if not parts or not all(0 < part.share < math.inf for part in parts):
            raise UserError(f"the shares of a mixture are {[part.share for part in parts]}; allowed: numbers above 0")
        filled = [(number, part.source, part.share) for number, part in enumerate(parts) if part.source is not None]
        if not filled:
            raise UserError("no source of the mixture has data; give one that has")
        self._numbers, self._sources, shares = zip(*filled, strict=True)
        first, *others = self._sources
        for number, other in zip(self._numbers[1:], others, strict=True):
            _require_equal(first, other, f"source {number} of the mixture")
        super().__init__(first.spec, batch_size=batch_size, length=first.length, seed=seed, rank=rank)
        # rounded, since 0.1 + 0.2 must not be a hair above 0.3
        self._quotas = [round(share / sum(shares) * batch_size, 9) for share in accumulate(shares, initial=0.0)]

    def rows(self, number: int) -> list[int]:
        """How many rows of batch ``number`` each source with data fills."""
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
        offset = round(number * GOLDEN % 1, 9) % 1  # so far below 1 that no sum is rounded up to the next integer
        return [math.floor(quota + offset) for quota in self._quotas]


def _require_equal(first: WindowSampler, other: WindowSampler, name: str) -> None:
    wanted, found = _content(first), _content(other)
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if wanted.get(key) != found.get(key):
            raise UserError(
                f"{name} has {key} = {found.get(key, 'nothing')}, the first has {wanted.get(key, 'nothing')}; "
                f"mix sources of the same kind only"
            )


def _content(source: WindowSampler) -> dict[str, Any]:
    """What sources must agree on, flat: dotted name -> value."""
    return {"window length": source.length, **dict(_flat(_described(source.spec)))}


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
