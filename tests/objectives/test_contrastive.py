"""The contrastive objective, compared with equation 12 in NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.objectives.contrastive import Contrastive, info_nce, pairwise_log_prob
from tests.builders import seeded, tiny_batch, tiny_model

Array = NDArray[np.float64]
PAIRS, SIZE = 7, 3


def log_density_of_pairs(states: Array, mean: Array, std: Array) -> Array:
    """ln N(states[i]; mean[j], std[j]), computed with the whole [M, M, F] array."""
    difference = states[:, None] - mean[None]
    return (-0.5 * (difference / std[None]) ** 2 - np.log(std[None]) - 0.5 * np.log(2 * np.pi)).sum(axis=-1)


def minus_j_s(log_prob: Array) -> Array:
    """-(ln q(s_i | o_i) - ln sum_j q(s_i | o_j))."""
    return np.array([np.logaddexp.reduce(row) - row[i] for i, row in enumerate(log_prob)])


def gaussians(seed: int = 0) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    states, mean = random.normal(size=(2, PAIRS, SIZE))
    return states, mean, random.uniform(0.2, 2, size=(PAIRS, SIZE))


def test_pairwise_log_prob_is_the_log_density_up_to_a_constant() -> None:
    states, mean, std = gaussians()
    got = pairwise_log_prob(*(torch.from_numpy(array) for array in (states, mean, std))).numpy()
    difference = got - log_density_of_pairs(states, mean, std)
    np.testing.assert_allclose(difference, difference[0, 0], rtol=1e-11)


def test_a_common_offset_of_the_features_costs_no_precision() -> None:
    random = np.random.default_rng(0)
    rows, size, std = 50, 230, 0.12
    states = 20 + 0.02 * random.normal(size=(rows, size))  # alike, so that the loss is not zero anyway
    mean = states + 0.02 * random.normal(size=(rows, size))
    exact = minus_j_s(log_density_of_pairs(states, mean, np.full_like(mean, std)))
    single = (torch.from_numpy(array).float() for array in (states, mean, np.full_like(mean, std)))
    np.testing.assert_allclose(info_nce(pairwise_log_prob(*single)).numpy(), exact, atol=2e-4)


def test_gradients_of_pairs_are_those_of_the_log_density() -> None:
    arrays = [torch.from_numpy(array).requires_grad_() for array in gaussians()]
    states, mean, std = arrays
    direct = torch.distributions.Normal(mean[None], std[None]).log_prob(states[:, None]).sum(-1)
    expected = torch.autograd.grad(info_nce(direct).sum(), arrays)
    computed = torch.autograd.grad(info_nce(pairwise_log_prob(*arrays)).sum(), arrays)
    for gradient, reference in zip(computed, expected, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_info_nce_is_the_negative_log_share_of_the_matching_observation() -> None:
    log_prob = log_density_of_pairs(*gaussians())
    np.testing.assert_allclose(info_nce(torch.from_numpy(log_prob)).numpy(), minus_j_s(log_prob), rtol=1e-12)
    assert not np.allclose(minus_j_s(log_prob), minus_j_s(log_prob.T))  # the sum is over observations, not states


def test_info_nce_ignores_a_constant_added_to_every_pair() -> None:
    log_prob = torch.from_numpy(log_density_of_pairs(*gaussians()))
    torch.testing.assert_close(info_nce(log_prob + 123.0), info_nce(log_prob))


def test_info_nce_approaches_zero_for_observations_that_identify_states() -> None:
    states, _, _ = gaussians()
    tight = [
        info_nce(torch.from_numpy(log_density_of_pairs(states, states, np.full_like(states, std)))).mean().item()
        for std in (1.0, 0.3, 0.05)
    ]
    assert tight[0] > tight[1] > tight[2] >= 0
    assert tight[2] == pytest.approx(0, abs=1e-6)


def test_info_nce_of_uninformative_observations_is_the_logarithm_of_their_number() -> None:
    states, mean, std = gaussians()
    mean[:], std[:] = mean[0], std[0]
    same = log_density_of_pairs(states, mean, std)
    expected = torch.full((PAIRS,), math.log(PAIRS), dtype=torch.float64)
    torch.testing.assert_close(info_nce(torch.from_numpy(same)), expected)


def test_info_nce_of_shuffled_pairs_exceeds_that_of_matching_pairs() -> None:
    states, _, _ = gaussians()
    std = np.full_like(states, 0.5)
    matching = log_density_of_pairs(states, states, std)
    shuffled = log_density_of_pairs(states, np.roll(states, 1, axis=0), std)
    assert (info_nce(torch.from_numpy(shuffled)) > info_nce(torch.from_numpy(matching))).all()


def objective() -> tuple[Contrastive, torch.nn.Module]:
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Contrastive(model, weight=0.5, hidden=8, layers=1, min_std=0.1), model


def test_contrastive_loss_compares_each_state_with_all_observations() -> None:
    contrastive, model = objective()
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    loss = contrastive(rollout, batch, model)["contrastive"]
    rows = batch.reward.numel()
    states = rollout.features.detach().double().numpy().reshape(rows, -1)
    mean, raw = np.split(
        contrastive.state_model(rollout.embedding).detach().double().numpy().reshape(rows, -1), 2, axis=-1
    )
    expected = minus_j_s(log_density_of_pairs(states, mean, np.logaddexp(0, raw) + 0.1))
    np.testing.assert_allclose(loss.value.detach().numpy().reshape(-1), expected, rtol=1e-4, atol=1e-4)
    assert loss.weight == 0.5


def test_contrastive_gradients_reach_dynamics_encoder_and_state_model() -> None:
    contrastive, model = objective()
    batch = tiny_batch()
    contrastive(model.observe(batch, seeded()), batch, model)["contrastive"].value.mean().backward()
    for network in (model.encoder, model.dynamics.cell, model.dynamics.posterior_out, contrastive.state_model):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in model.reward_head.parameters())


@pytest.mark.parametrize("side", ["features", "embedding"])
def test_each_side_of_a_pair_alone_trains_the_encoder(side: str) -> None:
    """The encoder receives gradients through the state and through the embedding; each path alone trains it."""
    contrastive, model = objective()
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    one_path = replace(rollout, **{side: getattr(rollout, side).detach()})
    contrastive(one_path, batch, model)["contrastive"].value.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.encoder.parameters())
