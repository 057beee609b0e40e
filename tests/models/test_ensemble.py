"""The ensemble of priors: who sees which rows, what it learns and how its disagreement is measured."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.ensemble import LogProbabilitySpread, MeanDisagreement, MixtureSpread, Spread, bootstrap_mask
from dreamset.models.latents import CategoricalLatent, GaussianLatent
from tests.builders import seeded, tiny_batch, tiny_model

Array = NDArray[np.float64]
K, SIZE, CLASSES, MIN_STD, UNIMIX = 5, 6, 3, 0.1, 0.02
GAUSSIAN = GaussianLatent(SIZE, min_std=MIN_STD)
CATEGORICAL = CategoricalLatent(SIZE // CLASSES, CLASSES, unimix=UNIMIX)
UNMIXED = CategoricalLatent(SIZE // CLASSES, CLASSES)


# ---- who sees what


def test_every_member_sees_its_share_of_the_blocks_whatever_the_others_see() -> None:
    blocks = torch.arange(200_000)
    mask = bootstrap_mask(blocks, members=4, share=0.632).double()  # [4, 200000]
    np.testing.assert_allclose(mask.mean(1), 0.632, atol=0.005)
    np.testing.assert_allclose(torch.corrcoef(mask).numpy(), np.eye(4), atol=0.01)
    for lag in (1, 2, 7):  # neither do neighbouring blocks tell of each other
        np.testing.assert_allclose(torch.corrcoef(torch.stack([mask[0, lag:], mask[0, :-lag]]))[0, 1], 0, atol=0.01)


def test_a_block_is_seen_by_the_same_members_whenever_it_comes() -> None:
    far = 3 * 2**40 + torch.arange(7)
    whole = bootstrap_mask(torch.cat([torch.arange(50), far]), members=3, share=0.5)
    assert torch.equal(
        bootstrap_mask(torch.arange(20, 30).view(2, 5), members=3, share=0.5), whole[:, 20:30].view(3, 2, 5)
    )
    assert torch.equal(bootstrap_mask(far, members=3, share=0.5), whole[:, 50:])
    assert not torch.equal(whole[:, :7], whole[:, 50:])  # rows of another source are other rows


def test_a_share_of_one_leaves_nothing_out() -> None:
    assert bootstrap_mask(torch.arange(1000), members=2, share=1.0).all()


# ---- what it learns


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
def test_each_member_minimises_its_divergence_from_the_posterior_on_the_rows_it_sees(generation: str) -> None:
    model, batch = tiny_model(f"world_model={generation}", "world_model/ensemble=priors"), tiny_batch()
    ensemble = model.ensemble
    assert ensemble is not None
    ensemble.block = 2
    rollout = model.observe(batch, seeded())
    got = model.losses(rollout, batch)["ensemble"]
    expected = np.zeros(batch.row.shape)
    for number, member in enumerate(ensemble.members):
        kl = model.dynamics.latent.kl(rollout.posterior_parameters, member(rollout.posterior.deterministic))
        seen = bootstrap_mask(batch.row // 2, members=len(ensemble.members), share=0.632)[number]
        expected += np.where(seen.numpy(), kl.detach().numpy(), 0.0) / (7 * 0.632)
    np.testing.assert_allclose(got.value.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (expected > 0).any()


def test_nothing_but_the_members_learns_from_the_ensemble() -> None:
    plain, model = tiny_model(), tiny_model("world_model/ensemble=priors")
    assert model.ensemble is not None
    model.load_state_dict(plain.state_dict(), strict=False)
    batch = tiny_batch()
    losses = [m.losses(m.observe(batch, seeded()), batch) for m in (plain, model)]
    for name, loss in losses[0].items():
        assert torch.equal(loss.value, losses[1][name].value)
    losses[1]["ensemble"].value.mean().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {f"ensemble.{name}" for name, _ in model.ensemble.named_parameters()}


def test_members_agree_more_on_what_the_data_showed_than_on_what_they_did_not() -> None:
    torch.manual_seed(0)
    model, batch = tiny_model("world_model/ensemble=priors"), tiny_batch(8, 12)
    ensemble, latent = model.ensemble, model.dynamics.latent
    assert ensemble is not None
    ensemble.block = 3
    with torch.no_grad():
        rollout = model.observe(batch, seeded())
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        ensemble.loss(latent, rollout, batch.row).value.mean().backward()
        optimizer.step()
    state = rollout.posterior
    far = 3 * torch.randn(state.deterministic.shape, generator=seeded())
    for spread in (MeanDisagreement(), LogProbabilitySpread(), MixtureSpread()):
        known, unknown = (
            spread(latent, ensemble(h), state.stochastic).mean().item() for h in (state.deterministic, far)
        )
        assert known < 0.7 * unknown


# ---- how disagreement is measured


def members(seed: int, latent: GaussianLatent | CategoricalLatent) -> Array:
    return np.random.default_rng(seed).normal(size=(K, 2, 4, latent.parameter_size))


def draws(latent: GaussianLatent | CategoricalLatent) -> Array:
    numbers = np.random.default_rng(9)
    if latent is GAUSSIAN:
        return numbers.normal(size=(2, 4, SIZE))
    return np.eye(CLASSES)[numbers.integers(CLASSES, size=(2, 4, SIZE // CLASSES))].reshape(2, 4, SIZE)


def moments(raw: Array, latent: GaussianLatent | CategoricalLatent) -> tuple[Array, Array]:
    """Mean and variance of every element of z, by hand."""
    if latent is GAUSSIAN:
        return raw[..., :SIZE], (np.logaddexp(0, raw[..., SIZE:]) + MIN_STD) ** 2
    power = np.exp(raw.reshape(*raw.shape[:-1], -1, CLASSES))
    mean = (1 - UNIMIX) * power / power.sum(-1, keepdims=True) + UNIMIX / CLASSES
    mean = mean.reshape(raw.shape)
    return mean, mean * (1 - mean)


def log_density(raw: Array, value: Array, latent: GaussianLatent | CategoricalLatent) -> Array:
    mean, variance = moments(raw, latent)
    if latent is GAUSSIAN:
        return (-((value - mean) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)).sum(-1)
    return np.log((mean * value).reshape(*mean.shape[:-1], -1, CLASSES).sum(-1)).sum(-1)


def measured(spread: Spread, latent: GaussianLatent | CategoricalLatent, raw: Array) -> Array:
    return spread(latent, torch.from_numpy(raw), torch.from_numpy(draws(latent))).numpy()


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_mean_disagreement_is_the_mean_distance_from_the_members_mean(latent) -> None:
    raw = members(0, latent)
    mean, _ = moments(raw, latent)
    expected = np.sqrt(((mean - mean.mean(0)) ** 2).sum(-1)).mean(0)
    np.testing.assert_allclose(measured(MeanDisagreement(), latent, raw), expected, rtol=1e-12)


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_log_probability_spread_is_the_deviation_of_the_draws_log_densities(latent) -> None:
    raw = members(1, latent)
    expected = log_density(raw, draws(latent), latent).std(0)
    np.testing.assert_allclose(measured(LogProbabilitySpread(), latent, raw), expected, rtol=1e-12)


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_mixture_spread_is_the_deviation_of_draws_from_a_random_member(latent) -> None:
    raw = members(2, latent)
    mean, variance = moments(raw, latent)
    second = (variance + mean**2).mean(0)  # E[z^2] of the mixture
    expected = np.sqrt(second - mean.mean(0) ** 2).mean(-1)
    np.testing.assert_allclose(measured(MixtureSpread(), latent, raw), expected, rtol=1e-9)


@pytest.mark.parametrize("spread", [MeanDisagreement(), LogProbabilitySpread(), MixtureSpread()])
@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL, UNMIXED], ids=["gaussian", "categorical", "unmixed"])
def test_members_that_agree_have_a_finite_gradient(spread: Spread, latent) -> None:
    one = torch.from_numpy(members(3, latent)[:1]) * 300  # categoricals as sure as float64 can be
    all_alike = one.expand(K, -1, -1, -1).clone().requires_grad_()
    value = spread(latent, all_alike, torch.from_numpy(draws(latent)))
    if not isinstance(spread, MixtureSpread):
        np.testing.assert_allclose(value.detach().numpy(), 0, atol=1e-9)
    value.sum().backward()
    assert torch.isfinite(all_alike.grad).all()
