"""The bounded contrastive objective, compared with its equation in NumPy."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.objectives.cosine_contrastive import CosineContrastive, symmetric_info_nce
from tests.builders import seeded, tiny_batch, tiny_model

Array = NDArray[np.float64]
ROWS, SIZE, TEMPERATURE = 7, 3, 0.2


def loss_of_pairs(states: Array, observations: Array, temperature: float) -> Array:
    """The mean of both directions for each row, one pair of vectors at a time."""
    rows = len(states)
    similarity = np.empty((rows, rows))
    for i, state in enumerate(states):
        for j, observation in enumerate(observations):
            cosine = state @ observation / (np.linalg.norm(state) * np.linalg.norm(observation))
            similarity[i, j] = cosine / temperature
    to_observations = np.array([np.logaddexp.reduce(similarity[i]) - similarity[i, i] for i in range(rows)])
    to_states = np.array([np.logaddexp.reduce(similarity[:, i]) - similarity[i, i] for i in range(rows)])
    return 0.5 * (to_observations + to_states)


def loss(states: Array, observations: Array, temperature: float = TEMPERATURE) -> Array:
    got: Array = symmetric_info_nce(torch.from_numpy(states), torch.from_numpy(observations), temperature).numpy()
    return got


def vectors(seed: int = 0) -> tuple[Array, Array]:
    states, observations = np.random.default_rng(seed).normal(size=(2, ROWS, SIZE))
    return states, observations


def test_loss_is_the_mean_cross_entropy_of_both_directions() -> None:
    states, observations = vectors()
    np.testing.assert_allclose(loss(states, observations), loss_of_pairs(states, observations, TEMPERATURE), rtol=1e-12)


def test_lengths_of_vectors_do_not_change_the_loss() -> None:
    states, observations = vectors()
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(2, ROWS, 1))
    np.testing.assert_allclose(
        loss(states * lengths[0], observations * lengths[1]), loss(states, observations), rtol=1e-11
    )


def test_exchanging_states_and_observations_does_not_change_the_loss() -> None:
    states, observations = vectors()
    np.testing.assert_allclose(loss(observations, states), loss(states, observations), rtol=1e-12)


def test_loss_without_information_is_the_logarithm_of_the_number_of_rows() -> None:
    states, observations = vectors()
    states[:], observations[:] = states[0], observations[0]
    np.testing.assert_allclose(loss(states, observations), math.log(ROWS), rtol=1e-12)


def test_loss_is_bounded_by_the_temperature() -> None:
    """Cosines differ by at most 2, so even the best state cannot lower the loss without end."""
    directions = np.random.default_rng(0).normal(size=(ROWS, ROWS))
    basis, _ = np.linalg.qr(directions)
    best = loss(basis, basis)
    np.testing.assert_allclose(best, math.log(1 + (ROWS - 1) * math.exp(-1 / TEMPERATURE)), rtol=1e-9)
    np.testing.assert_allclose(loss(1e6 * basis, basis), best, rtol=1e-9)
    assert (loss(-basis, basis) <= math.log(ROWS) + 2 / TEMPERATURE).all()


def test_lower_temperature_rewards_small_differences_between_directions() -> None:
    """Observations 0.1 rad apart are hard to tell apart at a temperature of 1 and easy at 0.001."""
    angles = 0.1 * np.arange(ROWS)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    hard, easy = loss(directions, directions, 1.0), loss(directions, directions, 0.001)
    assert hard.mean() > 0.9 * math.log(ROWS)
    assert easy.max() < 0.02


def objective() -> tuple[CosineContrastive, Any]:
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CosineContrastive(model, weight=0.5, temperature=TEMPERATURE, size=6, hidden=8, layers=1), model


def test_objective_compares_each_state_with_all_observations_and_the_reverse() -> None:
    contrastive, model = objective()
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    got = contrastive(rollout, batch, model)["cosine_contrastive"]
    states = contrastive.state_head(rollout.features).flatten(0, 1).detach().double().numpy()
    observations = contrastive.observation_head(rollout.embedding).flatten(0, 1).detach().double().numpy()
    expected = loss_of_pairs(states, observations, TEMPERATURE)
    np.testing.assert_allclose(got.value.detach().numpy().reshape(-1), expected, rtol=1e-4, atol=1e-5)
    assert got.weight == 0.5


@pytest.mark.parametrize("side", ["features", "embedding"])
def test_each_side_of_a_pair_alone_trains_the_encoder(side: str) -> None:
    contrastive, model = objective()
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    one_path = replace(rollout, **{side: getattr(rollout, side).detach()})
    contrastive(one_path, batch, model)["cosine_contrastive"].value.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.encoder.parameters())


def test_model_without_embedding_is_refused_in_one_line() -> None:
    model = tiny_model()
    model.encoder.embedding_size = 0
    with pytest.raises(UserError, match=r"objective CosineContrastive compares states .* WorldModel has none"):
        CosineContrastive(model, weight=1.0, temperature=TEMPERATURE, size=6, hidden=8, layers=1)
