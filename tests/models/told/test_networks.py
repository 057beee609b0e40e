"""Encoder and dynamics of TD-MPC against NumPy, their initial weights, and the sizes of the published models."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.heads import SymlogTwoHotHead
from dreamset.models.layers import elu_orthogonal, mish_layer_norm
from dreamset.models.told.critics import QEnsemble
from dreamset.models.told.networks import FrameEncoder, LatentDynamics, LatentEncoder
from dreamset.models.told.norms import simplicial, unnormalized
from dreamset.models.told.policy import SquashedGaussianPolicy
from tests.builders import seeded, tiny_batch, tiny_spec, without_zeros
from tests.models.told.references import dense, layer_norm, sim_norm


def vector_spec(**sizes: int) -> DataSpec:
    """Vectors of these sizes whose mean is their number and whose std is 2."""
    return DataSpec(
        observations={name: ArraySpec((size,), "float32") for name, size in sizes.items()},
        action=ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0)),
        privileged={},
        statistics={
            name: VectorStatistics((float(number),) * size, (2.0,) * size)
            for number, (name, size) in enumerate(sorted(sizes.items()))
        },
    )


def vector_encoder(**settings: object) -> LatentEncoder:
    torch.manual_seed(0)
    encoder = LatentEncoder(vector_spec(b=2, a=3), size=16, hidden=8, layers=2, **settings).double()
    without_zeros(encoder)
    return encoder


def vectors(*shape: int) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(*shape, size, dtype=torch.float64, generator=seeded()) for name, size in (("b", 2), ("a", 3))
    }


def hidden_by_hand(encoder: LatentEncoder, observations: dict[str, torch.Tensor]) -> np.ndarray:
    joined = np.concatenate([observations["a"].numpy() / 2, (observations["b"].numpy() - 1) / 2], axis=-1)
    trunk = encoder.observations.of_vectors.layers
    return dense(nn.Sequential(*trunk, encoder.last), joined)


def test_encoder_reads_all_standardised_vectors_in_one_network_and_normalises_the_latent() -> None:
    encoder, observations = vector_encoder(), vectors(4, 5)
    raw = hidden_by_hand(encoder, observations)
    scale, shift = (parameter.detach().numpy() for parameter in encoder.norm.parameters())
    expected = sim_norm(layer_norm(raw, scale, shift), group=8)
    np.testing.assert_allclose(encoder(observations).detach().numpy(), expected, rtol=1e-7)
    kinds = [type(layer) for layer in encoder.observations.of_vectors.layers]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.Mish] * 2


def test_encoder_of_v1_has_elu_layers_and_no_norm() -> None:
    encoder, observations = vector_encoder(style=elu_orthogonal(), norm=unnormalized), vectors(4)
    np.testing.assert_allclose(encoder(observations).detach().numpy(), hidden_by_hand(encoder, observations), rtol=1e-7)


@pytest.mark.parametrize(("edge", "positions"), [(64, 16), (32, 4), (84, 36), (8, 1)])
def test_convolutions_leave_the_published_positions(edge: int, positions: int) -> None:
    encoder = FrameEncoder(ArraySpec((edge, edge, 9), "uint8"), depth=32)
    assert encoder.embedding_size == 32 * positions
    image = torch.randint(0, 256, (2, 3, edge, edge, 9), generator=seeded(), dtype=torch.uint8)
    assert encoder(image).shape == (2, 3, 32 * positions)


def test_convolutions_have_the_published_kernels() -> None:
    layers = [
        layer for layer in FrameEncoder(ArraySpec((64, 64, 3), "uint8"), depth=32).layers if list(layer.parameters())
    ]
    assert [(layer.kernel_size[0], layer.stride[0], layer.out_channels) for layer in layers] == [
        (7, 2, 32),
        (5, 2, 32),
        (3, 2, 32),
        (3, 1, 32),
    ]


def test_convolution_is_that_of_each_position_by_hand() -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(ArraySpec((9, 11, 3), "uint8"), depth=4)
    without_zeros(encoder)
    image = torch.randint(0, 256, (9, 11, 3), generator=seeded(), dtype=torch.uint8)
    (layer, _) = encoder.layers
    kernel, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    pixels = image.numpy().astype(np.float64) / 255 - 0.5
    expected = np.zeros((4, 2, 3))
    for row in range(2):
        for column in range(3):
            window = pixels[2 * row : 2 * row + 7, 2 * column : 2 * column + 7].transpose(2, 0, 1)
            expected[:, row, column] = np.maximum((kernel * window).sum((1, 2, 3)) + bias, 0)
    np.testing.assert_allclose(encoder(image).detach().numpy(), expected.ravel(), rtol=1e-4, atol=1e-5)


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(UserError, match="at least 8 pixels"):
        FrameEncoder(ArraySpec((7, 7, 3), "uint8"), depth=4)


def test_images_and_vectors_give_one_latent_that_depends_on_both() -> None:
    encoder = LatentEncoder(tiny_spec(), size=8, hidden=6, layers=1, depth=4)
    observations = dict(tiny_batch().observations)
    latent = encoder(observations)
    assert latent.shape == (3, 6, 8)
    for name in observations:
        changed = {**observations, name: observations[name].flip(0)}
        assert not torch.equal(encoder(changed), latent)


def test_dynamics_is_a_normalised_network_on_latent_and_action() -> None:
    torch.manual_seed(0)
    dynamics = LatentDynamics(16, 2, hidden=8, layers=2).double()
    without_zeros(dynamics)
    latent = torch.randn(3, 4, 16, dtype=torch.float64, generator=seeded())
    action = torch.rand(3, 4, 2, dtype=torch.float64, generator=seeded())
    raw = dense(dynamics.layers, np.concatenate([latent.numpy(), action.numpy()], axis=-1))
    scale, shift = (parameter.detach().numpy() for parameter in dynamics.norm.parameters())
    expected = sim_norm(layer_norm(raw, scale, shift), group=8)
    np.testing.assert_allclose(dynamics(latent, action).detach().numpy(), expected, rtol=1e-7)


def test_size_that_no_group_divides_is_refused() -> None:
    with pytest.raises(UserError, match="latent has 20 elements and 'group' is 8"):
        LatentDynamics(20, 2, hidden=8, layers=1)
    LatentDynamics(20, 2, hidden=8, layers=1, norm=partial(simplicial, group=5))


def test_kernels_of_v2_start_normal_with_one_std_and_those_of_v1_orthogonal() -> None:
    torch.manual_seed(0)
    for units in (100, 400):
        layer = mish_layer_norm().linear(units, 300)
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert not layer.bias.detach().any()
    kernel = elu_orthogonal().linear(30, 20).weight.detach()
    torch.testing.assert_close(kernel @ kernel.t(), torch.eye(20), atol=1e-5, rtol=0)


PUBLISHED = {  # units of the encoder and of the others, latent, Q networks, encoder's hidden layers, parameters
    "1M": (256, 384, 128, 2, 1, 1_218_491),
    "5M": (256, 512, 512, 5, 1, 4_964_458),
    "19M": (1024, 1024, 768, 5, 2, 18_077_802),
    "48M": (1792, 1792, 768, 5, 3, 47_235_178),
    "317M": (4096, 4096, 1376, 8, 4, 312_656_857),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_about_the_published_number_of_parameters(name: str) -> None:
    """With 39 observed numbers and 6 actions; the published counts include an embedding of the task, too."""
    units, hidden, size, members, layers, count = PUBLISHED[name]
    spec = replace(vector_spec(state=39), action=ActionSpec(6, discrete=False, low=(-1.0,) * 6, high=(1.0,) * 6))
    with torch.device("meta"):
        parts = (
            LatentEncoder(spec, size=size, hidden=units, layers=layers),
            LatentDynamics(size, 6, hidden=hidden, layers=2),
            SymlogTwoHotHead(size + 6, hidden=hidden, layers=2),
            SquashedGaussianPolicy(size, spec.action, hidden=hidden, layers=2),
            QEnsemble(size, 6, members=members, hidden=hidden, layers=2),
        )
    total = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert total == count
    assert total / 1e6 == pytest.approx(float(name.removesuffix("M")), rel=0.25)
