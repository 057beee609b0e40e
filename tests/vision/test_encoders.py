"""What all frozen encoders share: resizing, pooling, batches, digests."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.vision import EfficientNetLite0, RandomWeights
from dreamset.vision.base import BATCH, label
from dreamset.vision.networks import pooled, prepared


def encoder(seed: int = 0, **settings: int) -> RandomWeights:
    return RandomWeights(EfficientNetLite0(**{"size": 64, **settings}), seed=seed)  # type: ignore[arg-type]


def images(count: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_features_do_not_depend_on_the_other_images() -> None:
    frames, network = images(BATCH + 3), encoder()
    together = network.features(frames).astype(np.float64)
    alone = np.concatenate([network.features(frame[None]) for frame in frames]).astype(np.float64)
    np.testing.assert_allclose(together, alone, atol=2e-3 * np.abs(alone).max())  # rounding to float16
    np.testing.assert_array_equal(network.features(frames), together.astype(np.float16))


def test_no_images_give_no_features() -> None:
    assert encoder().features(images(0)).shape == (0, 16, 112)


def test_pool_averages_neighbouring_patches() -> None:
    frames = images(2)
    fine = encoder().features(frames).astype(np.float64).reshape(2, 4, 4, 112)
    expected = np.stack([fine[:, y : y + 2, x : x + 2].mean(axis=(1, 2)) for y in (0, 2) for x in (0, 2)], axis=1)
    coarse = encoder(pool=2)
    assert coarse.shape == (4, 112)
    np.testing.assert_allclose(coarse.features(frames), expected, atol=2e-3 * np.abs(expected).max())


def test_pool_moves_whole_blocks_of_a_map() -> None:
    maps = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert pooled(maps, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_pool_that_leaves_a_remainder_is_refused() -> None:
    with pytest.raises(UserError, match="pool is 3; allowed: divisors of 4"):
        encoder(pool=3).shape  # noqa: B018


def test_images_are_shrunk_with_antialiasing_and_normalised() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    planes = prepared(torch.from_numpy(stripes), 8, (127.0,) * 3, (2.0,) * 3)
    assert planes.shape == (1, 3, 8, 8)
    assert float(planes[..., 1:-1, :].abs().max()) < 1  # stripes become grey, and grey becomes zero


def test_images_of_the_right_size_are_only_normalised() -> None:
    planes = prepared(torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8), 1, (0.0, 128.0, 5.0), (1.0, 2.0, 50.0))
    assert planes.flatten().tolist() == [0.0, 0.0, 5.0]


def test_images_of_another_shape_are_stretched() -> None:
    tall = np.repeat(images(1, 32, 64), 2, axis=1)
    assert encoder().features(tall[:, ::2]).shape == encoder().features(tall).shape == (1, 16, 112)


@pytest.mark.parametrize("shape", [(2, 64, 64, 1), (2, 64, 64, 9), (2, 64, 64)])
def test_images_without_three_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"reads images \[height, width, 3\], got .* StackFrames"):
        encoder().features(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("settings", [{"pool": 2}, {"block": 9}, {"size": 96}, {"seed": 1}])
def test_digest_follows_every_setting_that_changes_the_features(settings: dict[str, int]) -> None:
    assert encoder(**settings).digest != encoder().digest == encoder().digest


def test_digest_follows_the_weights() -> None:
    one, other = EfficientNetLite0(size=64), EfficientNetLite0(size=64)
    for made, seed in ((one, 1), (other, 2)):
        vars(made)["_loaded"] = RandomWeights(made, seed).network()  # in place of pretrained weights
    assert one.digest != other.digest


def test_label_is_name_and_digest() -> None:
    assert label(encoder()) == f"random_efficientnet_lite0:{encoder().digest}"


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    frames = images(2)
    np.testing.assert_array_equal(encoder().features(frames), encoder().features(frames))
    assert not np.array_equal(encoder(1).features(frames), encoder().features(frames))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("block", [1, 10, 15])
def test_random_features_neither_vanish_nor_explode(block: int) -> None:
    features = encoder(block=block).features(images(2)).astype(np.float64)
    assert 0.1 < features.std() < 100


@pytest.mark.parametrize("settings", [{"device": "tpu"}, {"pool": 0}, {"size": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="allowed: 1 or more for size and pool, and auto, cpu, cuda for device"):
        RandomWeights(EfficientNetLite0(**settings)).shape  # type: ignore[arg-type]  # noqa: B018


def test_import_and_construction_load_no_pytorch() -> None:
    code = (
        "import sys; from dreamset.vision import *; RandomWeights(EfficientNetLite0()); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
