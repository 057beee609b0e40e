"""The area filter against exact fractions, and rendering that fails in one line."""

from fractions import Fraction

import gymnasium
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.environments.frames import Camera, area_resize


def exact_mean(frame: np.ndarray, top: Fraction, left: Fraction, height: Fraction, width: Fraction) -> Fraction:
    """The mean of a rectangle of a frame [H, W], pixel by pixel."""
    total = Fraction(0)
    for row in range(frame.shape[0]):
        rows = max(Fraction(0), min(top + height, Fraction(row + 1)) - max(top, Fraction(row)))
        for column in range(frame.shape[1]):
            columns = max(Fraction(0), min(left + width, Fraction(column + 1)) - max(left, Fraction(column)))
            total += rows * columns * int(frame[row, column])
    return total / (height * width)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (7, 4), (12, 9), (1, 1)])
def test_each_pixel_is_the_mean_of_the_area_it_covers(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    resized = area_resize(frame, *size)
    height, width = Fraction(8, size[0]), Fraction(6, size[1])
    for row in range(size[0]):
        for column in range(size[1]):
            for channel in range(3):
                mean = exact_mean(frame[..., channel], row * height, column * width, height, width)
                assert resized[row, column, channel] == (mean + Fraction(1, 2)).__floor__()


def test_frame_of_the_target_size_is_unchanged() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    np.testing.assert_array_equal(area_resize(frame, 8, 6), frame)


def test_white_stays_white_at_any_size() -> None:
    assert (area_resize(np.full((500, 333, 3), 255, np.uint8), 64, 64) == 255).all()


class Painter(gymnasium.Env[None, None]):
    def __init__(self, *frames: object) -> None:
        self.frames = list(frames)

    def render(self) -> object:
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return frame


@pytest.mark.parametrize("error", [AttributeError("no glGetError"), RuntimeError("no\nscreen"), ImportError("libEGL")])
def test_rendering_failure_is_one_line_with_the_remedy(error: Exception) -> None:
    with pytest.raises(UserError, match="Task-v0 cannot be rendered") as caught:
        Camera(Painter(error), 4, "Task-v0")()
    message = str(caught.value)
    assert " ".join(str(error).split()) in message
    assert "libegl1" in message
    assert "\n" not in message


def test_environment_without_frames_is_named() -> None:
    with pytest.raises(UserError, match=r"Task-v0 renders no frames.*NoneType.*image_size to null"):
        Camera(Painter(None), 4, "Task-v0")()


def test_failure_after_the_first_frame_is_not_reported_as_a_driver_problem() -> None:
    camera = Camera(Painter(np.zeros((8, 8, 3), np.uint8), ValueError("ours")), 4, "Task-v0")
    assert camera().shape == (4, 4, 3)
    with pytest.raises(ValueError, match="ours"):
        camera()
