"""Decoders: the transposed convolution compared with PyTorch's, log-probabilities compared with NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, VectorStatistics
from dreamset.models.decoders import Decoder, ImageDecoder, TransposedConvolution
from dreamset.models.layers import elu
from tests.builders import tiny_batch, tiny_spec


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 4)])
def test_transposed_convolution_equals_pytorch_in_values_and_gradients(kernel: int, size: tuple[int, int]) -> None:
    layer = TransposedConvolution(3, 2, kernel).double()
    torch.nn.init.normal_(layer.bias)
    planes = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    got = layer(planes)
    expected = F.conv_transpose2d(planes, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(expected)
    leaves = (planes, layer.weight, layer.bias)
    for ours, theirs in zip(
        torch.autograd.grad((got * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("edge", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_decoder_log_probability_sums_over_every_recorded_pixel(edge: int, channels: int) -> None:
    torch.manual_seed(0)
    decoder = ImageDecoder(5, ArraySpec((edge, edge, channels), "uint8"), depth=8)
    features = torch.randn(2, 3, 5)
    image = torch.randint(0, 256, (2, 3, edge, edge, channels), dtype=torch.uint8)
    prediction = decoder(features)
    target = image.numpy() / 255 - 0.5
    mean = np.moveaxis(prediction.mean.detach().numpy().astype(np.float64), 2, -1)
    density = -0.5 * (target - mean) ** 2 - 0.5 * np.log(2 * np.pi)
    got = prediction.log_prob(decoder.target(image)).detach().numpy()
    np.testing.assert_allclose(got, density.sum(axis=(2, 3, 4)), rtol=1e-5)
    assert (prediction.mean[0, 0] != prediction.mean[0, 1]).all()  # every pixel depends on the features


@pytest.mark.parametrize("shape", [(48, 48, 3), (64, 32, 3), (8, 8, 3)])
def test_image_decoder_error_names_the_refused_and_supported_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError) as error:
        ImageDecoder(5, ArraySpec(shape, "uint8"), depth=2)
    assert str(shape) in str(error.value)
    assert "[16, 32, 64]" in str(error.value)


def test_vector_log_probabilities_are_in_standardised_units() -> None:
    spec, batch = tiny_spec(), tiny_batch()
    decoder = Decoder(5, spec, depth=2, hidden=8, layers=1, names=["state"])
    features = torch.randn(*batch.reward.shape, 5, generator=torch.Generator().manual_seed(0))
    statistics = spec.statistics["state"]
    target = (batch.observations["state"].numpy() - np.array(statistics.mean)) / np.array(statistics.std)
    mean = decoder(features)["state"].mean.detach().numpy()
    expected = (-0.5 * (target - mean) ** 2 - 0.5 * np.log(2 * np.pi)).sum(axis=-1)
    got = decoder.log_prob(features, batch.observations)
    assert set(got) == {"state"}
    np.testing.assert_allclose(got["state"].detach().numpy(), expected, rtol=1e-5)


def test_every_observation_is_decoded_under_its_own_name() -> None:
    spec, batch = tiny_spec(), tiny_batch()
    renamed = replace(
        spec,
        observations={"camera.front": spec.observations["image"], "state": spec.observations["state"]},
    )
    decoder = Decoder(5, renamed, depth=2, hidden=8, layers=1)
    features = torch.randn(*batch.reward.shape, 5)
    observations = {"camera.front": batch.observations["image"], "state": batch.observations["state"]}
    log_prob = decoder.log_prob(features, observations)
    assert set(log_prob) == set(renamed.observations)
    alone = decoder.decoders["camera/front"]
    expected = alone(features).log_prob(alone.target(observations["camera.front"]))
    torch.testing.assert_close(log_prob["camera.front"], expected)


@pytest.mark.parametrize("layers", [0, 2])
def test_vectors_on_a_trunk_share_all_layers_but_the_last(layers: int) -> None:
    spec = tiny_spec()
    more = {**spec.observations, "goal": ArraySpec((2,), "float32")}
    statistics = {**spec.statistics, "goal": VectorStatistics((5.0, -5.0), (0.5, 2.0))}
    spec = replace(spec, observations=more, statistics=statistics)
    decoder = Decoder(7, spec, depth=2, hidden=8, layers=layers, vector_trunk=elu())
    features = torch.randn(2, 3, 7)
    decoded = decoder(features)
    shared = decoder.trunk(features)
    assert set(decoded) == {"goal", "image", "state"}
    for name, size in (("goal", 2), ("state", 3)):
        (output,) = decoder.decoders[name].layers
        assert output.weight.shape == (size, 8 if layers else 7)
        torch.testing.assert_close(decoded[name].mean, output(shared))
    torch.testing.assert_close(decoded["image"].mean, decoder.decoders["image"](features).mean)
    hidden = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Linear) and layer.out_features == 8]
    assert len(hidden) == layers
