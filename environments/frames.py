"""Rendered frames: an area filter without an imaging library, and rendering errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

HEADLESS = (
    "MuJoCo renders without a display through EGL (Debian: apt-get install libegl1 libegl-mesa0) or, slower, with "
    "MUJOCO_GL=osmesa (libosmesa6)"
)


def area_resize(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resizes [H, W, C] to [height, width, C]; each new pixel is the rounded mean of the area that it covers.

    The aspect ratio may change. All sums are of whole numbers below 2^53, so the result does not depend on the order of
    additions.
    """
    if frame.shape[:2] == (height, width):
        return frame
    rows, columns, channels = frame.shape
    total = _overlaps(rows, height) @ frame.reshape(rows, -1)
    total = _overlaps(columns, width) @ total.reshape(height, columns, channels)
    area = rows * columns
    resized: NDArray[np.uint8] = ((total.astype(np.int64) + area // 2) // area).astype(np.uint8)
    return resized


@lru_cache(maxsize=16)
def _overlaps(source: int, target: int) -> NDArray[np.float64]:
    """[target, source] the overlap of target and source pixels, in units of 1 / target."""
    edges = np.arange(target + 1) * source
    pixels = np.arange(source + 1) * target
    low = np.maximum(edges[:-1, None], pixels[None, :-1])
    high = np.minimum(edges[1:, None], pixels[None, 1:])
    overlaps: NDArray[np.float64] = np.maximum(high - low, 0).astype(np.float64)
    return overlaps


class Camera:
    """The rendered frames of an environment at one size."""

    def __init__(self, env: gymnasium.Env[Any, Any], size: int, name: str) -> None:
        self._env = env
        self._size = size
        self._name = name
        self._works = False

    def __call__(self) -> NDArray[np.uint8]:
        """[size, size, 3].

        Raises:
            UserError: at the first frame, if this machine cannot render.
        """
        if self._works:
            return self._frame()
        with translated_rendering(self._name):
            frame = self._frame()
        self._works = True
        return frame

    def _frame(self) -> NDArray[np.uint8]:
        frame: Any = self._env.render()
        if np.ndim(frame) != 3:
            raise UserError(
                f"{self._name} renders no frames (its render() returns {type(frame).__name__}); set image_size to null"
            )
        return area_resize(np.asarray(frame, np.uint8), self._size, self._size)


@contextmanager
def translated_rendering(name: str) -> Iterator[None]:
    """Turns any error of a graphics library into a ``UserError`` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name} cannot be rendered on this machine ({reason}). {HEADLESS}") from error
