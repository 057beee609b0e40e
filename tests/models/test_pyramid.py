"""The image and vector networks of v3, and the upsampled convolution compared with its direct form."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, VectorStatistics
from dreamset.models.decoders import PyramidImageDecoder, SymlogVectorDecoder, UpsampledConvolution
from dreamset.models.distributions import SquaredError, SymlogSquaredError
from dreamset.models.encoders import PooledImageEncoder, SymlogVectorEncoder, pyramid_widths
from dreamset.models.layers import silu_rms_norm
from tests.builders import seeded
from tests.models.references import rms_norm, silu

STATISTICS = VectorStatistics((3.0, -1.0), (2.0, 0.5))


def frames(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_upsampled_convolution_equals_repeated_pixels_and_a_convolution(size: tuple[int, int]) -> None:
    layer = UpsampledConvolution(3, 2, silu_rms_norm()).double()
    torch.nn.init.normal_(layer.bias)
    planes = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    got = layer(planes)
    repeated = planes.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(repeated, layer.weight, layer.bias, padding=2)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(expected)
    leaves = (planes, layer.weight, layer.bias)
    ours, theirs = (torch.autograd.grad((value * weight).sum(), leaves) for value in (got, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("edge", "multiples"), [(16, [2, 3]), (32, [2, 3, 4]), (64, [2, 3, 4, 4]), (128, [2, 3, 4, 4, 4])]
)
def test_pyramid_widths_halve_a_frame_to_four_by_four_positions(edge: int, multiples: list[int]) -> None:
    assert pyramid_widths(ArraySpec((edge, edge, 3), "uint8"), 8) == [8 * multiple for multiple in multiples]


@pytest.mark.parametrize("shape", [(8, 8, 3), (48, 48, 3), (64, 32, 3)])
def test_error_for_unsupported_frames_names_their_shape(shape: tuple[int, ...]) -> None:
    for make in (
        lambda: PooledImageEncoder(ArraySpec(shape, "uint8"), depth=2),
        lambda: PyramidImageDecoder(20, ArraySpec(shape, "uint8"), depth=2, deterministic=16, hidden=4),
    ):
        with pytest.raises(UserError) as error:
            make()
        assert str(shape) in str(error.value)


@pytest.mark.parametrize("edge", [16, 32, 64])
def test_pooled_encoder_convolves_pools_normalises_and_activates_at_each_level(edge: int) -> None:
    torch.manual_seed(0)
    encoder = PooledImageEncoder(ArraySpec((edge, edge, 3), "uint8"), depth=2).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = frames(2, 3, edge, edge, 3)
    planes = image.double().reshape(6, edge, edge, 3).permute(0, 3, 1, 2) / 255 - 0.5
    for level in range(len(encoder.layers) // 4):
        conv, norm = encoder.layers[4 * level], encoder.layers[4 * level + 2].norm
        planes = F.conv2d(planes, conv.weight, conv.bias, padding=2)
        planes = planes.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(dim=(3, 5))
        normed = rms_norm(planes.movedim(1, -1).detach().numpy(), norm.weight.detach().numpy())
        planes = torch.from_numpy(silu(normed)).movedim(-1, 1)
    assert planes.shape[2:] == (4, 4)
    torch.set_default_dtype(torch.float64)
    try:
        embedding = encoder(image)
    finally:
        torch.set_default_dtype(torch.float32)
    assert embedding.shape == (2, 3, encoder.embedding_size)
    np.testing.assert_allclose(
        embedding.flatten(0, 1).detach().numpy(), planes.flatten(1).numpy(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("edge", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pyramid_decoder_log_probability_is_the_summed_squared_error(edge: int, channels: int) -> None:
    torch.manual_seed(0)
    spec = ArraySpec((edge, edge, channels), "uint8")
    decoder = PyramidImageDecoder(24, spec, depth=2, deterministic=16, hidden=6)
    features, image = torch.randn(2, 3, 24), frames(2, 3, edge, edge, channels)
    prediction = decoder(features)
    mean = np.moveaxis(prediction.mean.detach().double().numpy(), 2, -1)
    assert ((mean > -0.5) & (mean < 0.5)).all()
    expected = -((image.numpy() / 255 - 0.5 - mean) ** 2).sum(axis=(2, 3, 4))
    got = prediction.log_prob(decoder.target(image)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert (prediction.mean[0, 0] != prediction.mean[0, 1]).all()  # every pixel depends on the features


def test_every_pixel_depends_on_deterministic_and_stochastic_state() -> None:
    torch.manual_seed(0)
    decoder = PyramidImageDecoder(24, ArraySpec((32, 32, 3), "uint8"), depth=4, deterministic=16, hidden=6)
    features = torch.randn(24)
    for changed in (range(16), range(16, 24)):
        other = features.clone()
        other[list(changed)] += 1
        assert (decoder(features).mean != decoder(other).mean).all()


def test_squared_error_distributions_omit_half_and_constant() -> None:
    mean, target = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 5))
    for axes in (0, 1, 3):
        got = SquaredError(torch.from_numpy(mean), event_axes=axes).log_prob(torch.from_numpy(target))
        expected = -((target - mean) ** 2).sum(axis=tuple(range(4 - axes, 4)))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13)
    location, raw = np.array([[0.5, -2.0]]), np.array([[3.0, -100.0]])
    distribution = SymlogSquaredError(torch.from_numpy(location))
    expected = -((np.sign(raw) * np.log1p(np.abs(raw)) - location) ** 2).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(torch.from_numpy(raw)).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(distribution.mean.numpy(), [[np.expm1(0.5), -np.expm1(2.0)]], rtol=1e-12)


def test_v3_vector_networks_use_symlog_and_no_statistics() -> None:
    torch.manual_seed(0)
    encoder = SymlogVectorEncoder(ArraySpec((2,), "float32"), STATISTICS, hidden=8, layers=2)
    vector = torch.tensor([[7.0, -200.0]])
    squashed = torch.tensor([[np.log(8.0), -np.log(201.0)]], dtype=torch.float32)
    torch.testing.assert_close(encoder(vector), encoder.layers(squashed))
    assert not torch.allclose(encoder(vector), encoder.layers(vector))
    assert isinstance(encoder.layers[-1], torch.nn.SiLU)  # the published encoder has no linear output
    decoder = SymlogVectorDecoder(5, ArraySpec((2,), "float32"), STATISTICS, hidden=8, layers=2)
    features = torch.randn(1, 5)
    expected = -(squashed - decoder.layers(features)).square().sum(-1)
    torch.testing.assert_close(decoder(features).log_prob(decoder.target(vector)), expected)
