"""Goals from recorded data: what was observed in a later row of the same episode."""

from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.windows import Indices


@dataclass(frozen=True, slots=True)
class LaterRows:
    """The goal of a window is a row of the episode of its last row, at or after it; all such rows are equally likely.

    Args:
        within: the largest distance of the goal from the window's last row; None: to the end of the episode.

    Raises:
        UserError: if ``within`` is negative.
    """

    within: int | None = None

    def __post_init__(self) -> None:
        if self.within is not None and self.within < 0:
            raise UserError(f"goals.within is {self.within}; allowed: 0 or more, or null; change it")

    def draw(self, last: Indices, ends: Indices, generator: np.random.Generator) -> Indices:
        """The row of each window's goal, [n].

        Args:
            last: [n] the last row of each window, counted in its episode.
            ends: [n] the last row of this episode.
            generator: source of the random numbers.
        """
        farthest = ends if self.within is None else np.minimum(ends, last + self.within)
        return generator.integers(last, farthest, endpoint=True)
