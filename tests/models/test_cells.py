"""The cells of v2 and v3, compared step by step with NumPy references in their published form."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.models.layers import BlockLinear
from dreamset.models.recurrent.cells import GRU, BlockGRU, LayerNormGRU
from tests.builders import seeded
from tests.models import references

BATCH, INPUTS, SIZE, HIDDEN, BLOCKS, STEPS = 3, 5, 12, 7, 4, 4


def drawn(cell: nn.Module) -> nn.Module:
    """``cell`` in float64 with random parameters, because a zero bias or a unit scale would hide errors."""
    generator = seeded()
    for parameter in cell.double().parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator) * 0.5
    return cell


def inputs() -> tuple[Tensor, Tensor]:
    generator = seeded(1)
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, generator=generator)
    return x, torch.randn(BATCH, SIZE, dtype=torch.float64, generator=generator)


def gru(size: int = SIZE) -> GRU:
    return GRU(INPUTS, size=size)


def layer_norm_gru(size: int = SIZE) -> LayerNormGRU:
    return LayerNormGRU(INPUTS, size=size)


def block_gru(size: int = SIZE) -> BlockGRU:
    return BlockGRU(INPUTS, size=size, hidden=HIDDEN, blocks=BLOCKS)


@pytest.mark.parametrize(
    ("make", "reference"), [(layer_norm_gru, references.layer_norm_gru), (block_gru, references.block_gru)]
)
def test_cell_follows_its_published_formula_step_by_step(
    make: Callable[[], nn.Module], reference: Callable[..., references.Array]
) -> None:
    cell = drawn(make())
    x, state = inputs()
    weights = references.weights_of(cell)
    expected = state.numpy()
    for t in range(STEPS):
        state = cell(x[t], state)
        expected = np.stack([reference(weights, x[t, b].numpy(), expected[b]) for b in range(BATCH)])
        np.testing.assert_allclose(state.detach().numpy(), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [gru, layer_norm_gru, block_gru])
def test_gradients_reach_every_weight_the_inputs_and_the_state(make: Callable[[], nn.Module]) -> None:
    cell = drawn(make())
    x, state = inputs()
    leaf_x, leaf_state = x[0].clone().requires_grad_(), state.clone().requires_grad_()
    cell(leaf_x, leaf_state).square().sum().backward()
    for name, value in [("x", leaf_x), ("h", leaf_state), *cell.named_parameters()]:
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name


@pytest.mark.parametrize("make", [layer_norm_gru, block_gru])
def test_negative_update_bias_makes_the_initial_state_changes_small(make: Callable[..., nn.Module]) -> None:
    with torch.no_grad():
        kept = make(400)(torch.zeros(1, INPUTS), torch.ones(1, 400)).mean()
    # The mean candidate is near zero, so the result is the share of the old state: 1 - sigmoid(-1) = 0.73.
    assert 0.6 < float(kept) < 0.9


def test_blocks_of_the_state_interact_only_through_the_summary() -> None:
    cell = drawn(block_gru())
    x, state = inputs()
    changed = state.clone()
    changed[:, : SIZE // BLOCKS] += 1  # the first block's part of the state
    with torch.no_grad():
        cell.summary[0].weight.zero_()
        cell.after[0] = nn.Identity()  # the norm depends on all units
        difference = (cell(x[0], changed) - cell(x[0], state)).abs().reshape(BATCH, BLOCKS, -1).amax(-1)
    assert (difference[:, 0] > 1e-6).all()
    assert (difference[:, 1:] == 0).all()


def test_indivisible_state_size_error_names_the_configuration_key() -> None:
    with pytest.raises(UserError, match=r"network\.deterministic.*multiple of 4"):
        block_gru(size=10)


def test_block_linear_equals_a_linear_layer_with_block_diagonal_kernel() -> None:
    layer = drawn(BlockLinear(6, 4, blocks=2))
    x = torch.randn(5, 6, dtype=torch.float64, generator=seeded(2))
    dense = torch.block_diag(*layer.weight)  # [6, 4]
    torch.testing.assert_close(layer(x).flatten(-2), x @ dense + layer.bias.flatten())
    with pytest.raises(ValueError, match="multiples of 4"):
        BlockLinear(6, 8, blocks=4)


def test_block_kernels_start_with_the_fan_in_of_all_blocks() -> None:
    torch.manual_seed(0)
    layer = BlockLinear(512, 1024, blocks=8)
    weight = layer.weight.detach()
    assert float(weight.std()) == pytest.approx(512**-0.5, rel=0.02)
    assert float(weight.abs().max()) <= 2 * 1.1368 * 512**-0.5
