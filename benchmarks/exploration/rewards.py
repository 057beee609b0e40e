"""A second reward for the point mass of DM Control."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNER = (0.2, 0.2)  # the arena reaches from -0.3 to 0.3
RADIUS = 0.2  # distance in m from which on the reward is 0


def corner(*, privileged: Mapping[str, NDArray[Any]], **_: object) -> NDArray[np.float64]:
    """1 on arrival in the corner, less with the distance to it, [N].

    Args:
        privileged: ``state`` [N + 1, 4], which begins with the position. The other arguments are not used.
    """
    position = privileged["state"][1:, :2].astype(np.float64)
    distance: NDArray[np.float64] = np.linalg.norm(position - CORNER, axis=1)
    return np.clip(1 - distance / RADIUS, 0, 1)
