"""Random shifts of images against padding and cutting in NumPy."""

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.models.told.shifts import RandomShift, shifted
from tests.builders import seeded, tiny_batch


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=seeded(), dtype=torch.uint8)


def by_hand(window: np.ndarray, down: int, right: int, pad: int) -> np.ndarray:
    """Pads [T, H, W, C] with its border and cuts the shifted rectangle out."""
    height, width = window.shape[1:3]
    padded = np.pad(window, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    return padded[:, pad + down : pad + down + height, pad + right : pad + right + width]


def test_shift_cuts_the_same_rectangle_out_of_every_padded_image_of_a_window() -> None:
    frames = images(4, 3, 7, 5, 2)
    offsets = torch.tensor([[0, 0], [3, -3], [-2, 1], [-3, -3]])
    got = shifted(frames, offsets).numpy()
    expected = [
        by_hand(window.numpy(), *offset, pad=3) for window, offset in zip(frames, offsets.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(got, np.stack(expected))
    assert got.dtype == np.uint8


def test_offsets_reach_every_shift_up_to_the_limit_and_no_other() -> None:
    offsets = RandomShift(2).offsets(2000, seeded())
    pairs = {(down, right) for down, right in offsets.tolist()}
    assert pairs == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_only_images_are_shifted_and_only_in_training() -> None:
    batch, shift = tiny_batch(), RandomShift(3)
    moved = shift(batch.observations, seeded())
    assert torch.equal(moved["state"], batch.observations["state"])
    assert moved["image"].shape == batch.observations["image"].shape
    assert not torch.equal(moved["image"], batch.observations["image"])
    assert torch.equal(moved["image"], shift(batch.observations, seeded())["image"])
    assert not torch.equal(moved["image"], shift(batch.observations, seeded(1))["image"])
    same = shift.eval()(batch.observations, seeded())
    assert all(torch.equal(same[name], value) for name, value in batch.observations.items())


def test_shift_by_no_pixel_changes_nothing() -> None:
    batch = tiny_batch()
    assert torch.equal(RandomShift(0)(batch.observations, seeded())["image"], batch.observations["image"])


def test_negative_shift_is_refused() -> None:
    with pytest.raises(UserError, match="pixels is -1; allowed: 0 or more"):
        RandomShift(-1)
