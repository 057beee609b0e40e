"""Redundancy reduction, compared with equations 1 and 2 of Barlow Twins in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.objectives.barlow_twins import BarlowTwins, barlow_twins
from tests.builders import seeded, tiny_batch, tiny_model

Array = NDArray[np.float64]
ROWS, SIZE, REDUNDANCY = 50, 4, 0.3


def loss_of_views(left: Array, right: Array, redundancy: float) -> float:
    """The loss, one correlation at a time."""
    total = 0.0
    for i in range(left.shape[1]):
        for j in range(right.shape[1]):
            correlation = np.corrcoef(left[:, i], right[:, j])[0, 1]
            total += (1 - correlation) ** 2 if i == j else redundancy * correlation**2
    return total


def loss(left: Array, right: Array, redundancy: float = REDUNDANCY) -> float:
    return barlow_twins(torch.from_numpy(left), torch.from_numpy(right), redundancy).mean().item()


def views(seed: int = 0) -> tuple[Array, Array]:
    """Two views with correlations of all signs, far from standardised."""
    random = np.random.default_rng(seed)
    left = random.normal(size=(ROWS, SIZE)) @ random.normal(size=(SIZE, SIZE))
    return 3 * left + 5, left + random.normal(size=(ROWS, SIZE))


def independent() -> Array:
    """Columns with mean 0, standard deviation 1 and no correlation with each other."""
    values = np.random.default_rng(0).normal(size=(ROWS, SIZE))
    basis, _ = np.linalg.qr(values - values.mean(0))
    standard: Array = basis * np.sqrt(ROWS)
    return standard


def test_mean_over_rows_is_the_published_loss() -> None:
    left, right = views()
    assert loss(left, right) == pytest.approx(loss_of_views(left, right, REDUNDANCY), rel=1e-5)


def test_gradient_of_the_mean_is_that_of_the_published_loss() -> None:
    """Central differences of the reference; a row's share must not change the gradient of the mean."""
    left, right = views()
    variable = torch.from_numpy(left).requires_grad_()
    barlow_twins(variable, torch.from_numpy(right), REDUNDANCY).mean().backward()
    assert variable.grad is not None
    for row, column in ((0, 0), (7, 2), (49, 3)):
        step = np.zeros_like(left)
        step[row, column] = 1e-5
        rise = loss_of_views(left + step, right, REDUNDANCY) - loss_of_views(left - step, right, REDUNDANCY)
        assert variable.grad[row, column].item() == pytest.approx(rise / 2e-5, rel=1e-3, abs=1e-8)


def test_loss_of_equal_views_without_redundancy_is_zero() -> None:
    values = independent()
    assert loss(values, 4 * values - 1) == pytest.approx(0, abs=1e-5)


def test_copies_of_one_dimension_cost_the_weight_of_every_pair() -> None:
    values = np.repeat(independent()[:, :1], SIZE, axis=1)
    assert loss(values, values) == pytest.approx(REDUNDANCY * SIZE * (SIZE - 1), rel=1e-4)


def test_a_constant_view_costs_one_for_every_dimension() -> None:
    values = independent()
    assert loss(values, np.full_like(values, 0.7)) == pytest.approx(SIZE, rel=1e-6)


def test_scale_and_offset_of_a_dimension_do_not_change_the_loss() -> None:
    left, right = views()
    moved = right * np.array([0.5, 2, 30, 4]) + np.array([-3, 0, 5, 9])
    assert loss(left, moved) == pytest.approx(loss(left, right), rel=1e-5)


def test_exchanging_states_and_observations_does_not_change_the_loss() -> None:
    left, right = views()
    assert loss(right, left) == pytest.approx(loss(left, right), rel=1e-9)


def objective() -> tuple[BarlowTwins, Any]:
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BarlowTwins(model, weight=0.5, redundancy=REDUNDANCY, size=6, hidden=8, layers=1), model


def test_objective_correlates_projected_features_with_the_observations_network() -> None:
    twins, model = objective()
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    got = twins(rollout, batch, model)["barlow_twins"]
    left = twins.state_head(rollout.features).flatten(0, 1).detach().double().numpy()
    right = twins.observation_head(rollout.embedding).flatten(0, 1).detach().double().numpy()
    assert got.value.mean().item() == pytest.approx(loss_of_views(left, right, REDUNDANCY), rel=1e-2)
    assert got.weight == 0.5


def test_gradients_reach_dynamics_encoder_and_both_heads() -> None:
    twins, model = objective()
    batch = tiny_batch()
    twins(model.observe(batch, seeded()), batch, model)["barlow_twins"].value.mean().backward()
    for network in (model.encoder, model.dynamics.cell, model.dynamics.posterior_out, twins.state_head):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    assert any(parameter.grad.any() for parameter in twins.observation_head.parameters() if parameter.grad is not None)
    assert all(parameter.grad is None for parameter in model.reward_head.parameters())


def test_model_without_embedding_is_refused_in_one_line() -> None:
    model = tiny_model()
    model.encoder.embedding_size = 0
    with pytest.raises(UserError, match=r"objective BarlowTwins compares states .* WorldModel has none"):
        BarlowTwins(model, weight=1.0, redundancy=REDUNDANCY, size=6, hidden=8, layers=1)
