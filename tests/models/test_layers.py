"""Styles: the order of norm and activation, initial kernels and the default style of v1."""

import numpy as np
import pytest
import torch
from torch import nn

from dreamset.models.layers import ChannelNorm, elu, elu_layer_norm, mlp, relu, silu_rms_norm, truncated_normal_
from tests.builders import seeded
from tests.models.references import layer_norm, rms_norm, silu


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, generator=seeded(parameter.numel()))
    return module


def test_default_mlp_has_elu_layers_and_a_linear_output() -> None:
    network = mlp(3, 2, hidden=5, layers=2)
    assert [type(layer) for layer in network] == [nn.Linear, nn.ELU, nn.Linear, nn.ELU, nn.Linear]
    assert [type(layer) for layer in mlp(3, 2, hidden=5, layers=0)] == [nn.Linear]


@pytest.mark.parametrize(("style", "norm"), [(silu_rms_norm, rms_norm), (elu_layer_norm, layer_norm)])
def test_norm_is_applied_between_kernel_and_activation(style: object, norm: object) -> None:
    network = randomized(mlp(3, 2, hidden=5, layers=1, style=style()))
    first, normed, _, last = network
    x = np.random.default_rng(0).normal(size=(4, 3))
    hidden = x @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    hidden = norm(hidden, *(parameter.detach().numpy() for parameter in normed.parameters()))
    hidden = silu(hidden) if style is silu_rms_norm else np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


def test_channel_norm_normalises_each_position_separately() -> None:
    layer = randomized(ChannelNorm(nn.RMSNorm(6, eps=1e-4)))
    planes = torch.randn(2, 6, 3, 4, dtype=torch.float64, generator=seeded())
    expected = np.moveaxis(rms_norm(np.moveaxis(planes.numpy(), 1, -1), layer.norm.weight.detach().numpy()), -1, 1)
    np.testing.assert_allclose(layer(planes).detach().numpy(), expected, rtol=1e-12)
    assert [type(layer) for layer in relu().after_planes(6)] == [nn.ReLU]
    assert [type(layer) for layer in silu_rms_norm().after_planes(6)] == [ChannelNorm, nn.SiLU]


def test_v3_kernels_start_truncated_normal_with_variance_one_over_fan_in() -> None:
    torch.manual_seed(0)
    kernel = truncated_normal_(torch.empty(400, 30, 5, 5))
    assert float(kernel.std()) == pytest.approx(750**-0.5, rel=0.01)
    assert float(kernel.abs().max()) <= 2 * 1.1368 * 750**-0.5
    assert float(kernel.abs().max()) > 1.9 * 1.1368 * 750**-0.5
    half = truncated_normal_(torch.empty(400, 400), fan_in=1600)
    assert float(half.std()) == pytest.approx(1 / 40, rel=0.01)


def test_kernels_of_v1_and_v2_start_glorot_uniform() -> None:
    torch.manual_seed(0)
    layer = elu().linear(300, 100)
    assert float(layer.weight.detach().abs().max()) == pytest.approx((6 / 400) ** 0.5, rel=0.01)
    assert not layer.bias.detach().any()
