"""Sources of the random numbers of a search: a generator, or a tensor that a traced program takes as an argument."""

import math

import torch
from torch import Tensor


class Generated:
    """Draws when asked, so that no more numbers exist than one iteration needs.

    Args:
        count: N.
        like: gives the precision.
        generator: source of the numbers.
    """

    def __init__(self, count: int, like: Tensor, generator: torch.Generator) -> None:
        self.count, self.dtype, self.generator = count, like.dtype, generator

    def __call__(self, *sizes: int) -> Tensor:
        """Standard normal numbers, [N, *sizes]."""
        shape = (self.count, *sizes)
        return torch.randn(shape, generator=self.generator, device=self.generator.device, dtype=self.dtype)


class Sliced:
    """Takes the numbers from a tensor [N, M], from left to right."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.used = numbers, 0

    def __call__(self, *sizes: int) -> Tensor:
        """[N, *sizes]."""
        start, self.used = self.used, self.used + math.prod(sizes)
        taken: Tensor = self.numbers[:, start : self.used].unflatten(1, sizes)
        return taken


class Counted:
    """Counts how many numbers a search needs for each state; it gives zeros."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.total = like, 0

    def __call__(self, *sizes: int) -> Tensor:
        """Zeros [N, *sizes]."""
        self.total += math.prod(sizes)
        return self.like.new_zeros(len(self.like), *sizes)
