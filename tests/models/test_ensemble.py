"""The ensemble of priors: its bootstrap samples, its training and the measures of its disagreement."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.behaviors.rewards.spreads import LogProbabilitySpread, MeanDisagreement, MixtureSpread, Spread
from dreamset.models.layers import elu, elu_layer_norm, mlp, side_by_side, silu_rms_norm
from dreamset.models.recurrent.ensemble import PriorEnsemble, PriorPredictions, bootstrap_mask
from dreamset.models.recurrent.latents import CategoricalLatent, GaussianLatent
from tests.builders import seeded, tiny_batch, tiny_model, without_zeros

Array = NDArray[np.float64]
K, SIZE, CLASSES, MIN_STD, UNIMIX = 5, 6, 3, 0.1, 0.02
GAUSSIAN = GaussianLatent(SIZE, min_std=MIN_STD)
CATEGORICAL = CategoricalLatent(SIZE // CLASSES, CLASSES, unimix=UNIMIX)
UNMIXED = CategoricalLatent(SIZE // CLASSES, CLASSES)


# ---- bootstrap samples


def test_members_train_on_independent_samples_of_the_given_share() -> None:
    blocks = torch.arange(200_000)
    mask = bootstrap_mask(blocks, members=4, share=0.632).double()  # [4, 200000]
    np.testing.assert_allclose(mask.mean(1), 0.632, atol=0.005)
    np.testing.assert_allclose(torch.corrcoef(mask).numpy(), np.eye(4), atol=0.01)
    for lag in (1, 2, 7):  # neighbouring blocks are uncorrelated too
        np.testing.assert_allclose(torch.corrcoef(torch.stack([mask[0, lag:], mask[0, :-lag]]))[0, 1], 0, atol=0.01)


def test_bootstrap_mask_of_a_block_is_always_the_same() -> None:
    far = 3 * 2**40 + torch.arange(7)
    whole = bootstrap_mask(torch.cat([torch.arange(50), far]), members=3, share=0.5)
    assert torch.equal(
        bootstrap_mask(torch.arange(20, 30).view(2, 5), members=3, share=0.5), whole[:, 20:30].view(3, 2, 5)
    )
    assert torch.equal(bootstrap_mask(far, members=3, share=0.5), whole[:, 50:])
    assert not torch.equal(whole[:, :7], whole[:, 50:])  # rows with other numbers get another mask


def test_share_of_one_selects_every_block() -> None:
    assert bootstrap_mask(torch.arange(1000), members=2, share=1.0).all()


# ---- batched predictions of all members


def elu_by_hand(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(x))


def layer_norm_by_hand(x: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * weight + bias


def rms_norm_by_hand(x: Array, weight: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * weight


STYLES = {  # style, its norm, its activation
    "v1 and v2": (elu(), None, elu_by_hand),
    "v2 with norm": (elu_layer_norm(), layer_norm_by_hand, elu_by_hand),
    "v3": (silu_rms_norm(), rms_norm_by_hand, lambda x: x / (1 + np.exp(-x))),
}


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("name", STYLES)
def test_side_by_side_equals_each_network_computed_by_hand(name: str, layers: int) -> None:
    style, norm, activation = STYLES[name]
    networks = [mlp(5, 4, hidden=6, layers=layers, style=style).double() for _ in range(3)]
    for network in networks:
        without_zeros(network)
    inputs = np.random.default_rng(0).normal(size=(2, 3, 5))
    got = side_by_side(networks, torch.from_numpy(inputs))
    assert got.shape == (3, 2, 3, 4)
    for number, network in enumerate(networks):
        weights = iter([parameter.detach().numpy() for parameter in network.parameters()])
        expected = inputs
        for _ in range(layers):
            expected = expected @ next(weights).T + next(weights)
            if norm is not None:
                expected = norm(expected, *(next(weights) for _ in range(norm.__code__.co_argcount - 1)))
            expected = activation(expected)
        expected = expected @ next(weights).T + next(weights)
        np.testing.assert_allclose(got[number].detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", STYLES)
def test_side_by_side_gives_each_network_its_own_gradients(name: str) -> None:
    networks = [mlp(5, 4, hidden=6, layers=2, style=STYLES[name][0]).double() for _ in range(3)]
    inputs = torch.randn(7, 5, generator=seeded(), dtype=torch.float64, requires_grad=True)
    leaves = [inputs, *(parameter for network in networks for parameter in network.parameters())]
    weights = torch.randn(3, 7, 4, generator=seeded(1), dtype=torch.float64)  # different for each network
    got = torch.autograd.grad((side_by_side(networks, inputs) * weights).sum(), leaves)
    alone = sum((network(inputs) * weight).sum() for network, weight in zip(networks, weights, strict=True))
    for one, other in zip(got, torch.autograd.grad(alone, leaves), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-10, atol=1e-12)


def test_members_are_initialised_like_priors_constructed_one_by_one() -> None:
    dynamics = tiny_model("world_model=dreamer_v3").dynamics
    torch.manual_seed(3)
    ensemble = PriorEnsemble(dynamics, members=4)
    torch.manual_seed(3)
    alone = [dynamics.new_prior() for _ in range(4)]
    for member, other in zip(ensemble.members, alone, strict=True):
        for one, same in zip(member.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, same)
    first, second = (member[0].weight for member in ensemble.members[:2])
    assert not torch.equal(first, second)


def test_state_dict_has_one_prior_per_member_number() -> None:
    model = tiny_model("world_model=dreamer_v3", "world_model/ensemble=priors")
    prior = model.dynamics.prior_head.state_dict()
    shapes = {f"members.{k}.{name}": value.shape for k in range(7) for name, value in prior.items()}
    ensemble = model.ensemble
    assert ensemble is not None
    assert {name: value.shape for name, value in ensemble.state_dict().items()} == shapes
    ensemble.load_state_dict({f"members.{k}.{name}": value for k in range(7) for name, value in prior.items()})
    h = torch.randn(2, 3, model.dynamics.cell.size, generator=seeded())
    expected = model.dynamics.prior_head(h).expand(7, -1, -1, -1)
    np.testing.assert_allclose(ensemble(h).detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


# ---- training


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
def test_members_minimise_their_kl_on_their_own_bootstrap_rows(generation: str) -> None:
    model, batch = tiny_model(f"world_model={generation}", "world_model/ensemble=priors"), tiny_batch()
    ensemble = model.ensemble
    assert ensemble is not None
    ensemble.block = 2
    rollout = model.observe(batch, seeded())
    got = model.losses(rollout, batch)["ensemble"]
    expected = np.zeros(batch.row.shape)
    for number, member in enumerate(ensemble.members):
        kl = model.dynamics.latent.kl(rollout.details.posterior, member(rollout.states.deterministic))
        mask = bootstrap_mask(batch.row // 2, members=len(ensemble.members), share=0.632)[number]
        expected += np.where(mask.numpy(), kl.detach().numpy(), 0.0) / (7 * 0.632)
    np.testing.assert_allclose(got.value.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (expected > 0).any()


def test_ensemble_loss_trains_only_the_ensemble_members() -> None:
    plain, model = tiny_model(), tiny_model("world_model/ensemble=priors")
    assert model.ensemble is not None
    model.load_state_dict(plain.state_dict(), strict=False)
    batch = tiny_batch()
    losses = [m.losses(m.observe(batch, seeded()), batch) for m in (plain, model)]
    for name, loss in losses[0].items():
        assert torch.equal(loss.value, losses[1][name].value)
    losses[1]["ensemble"].value.mean().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {f"ensemble.{name}" for name, _ in model.ensemble.named_parameters()}


def test_trained_members_disagree_less_on_the_data_than_off_it() -> None:
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
        ensemble.loss(rollout, batch.action, batch).value.mean().backward()
        optimizer.step()
    state = rollout.states
    far = 3 * torch.randn(state.deterministic.shape, generator=seeded())
    for spread in (MeanDisagreement(), LogProbabilitySpread(), MixtureSpread()):
        on_data, off_data = (
            spread(PriorPredictions(latent, ensemble(h), state.stochastic)).mean().item()
            for h in (state.deterministic, far)
        )
        assert on_data < 0.7 * off_data


# ---- measures of disagreement


def members(seed: int, latent: GaussianLatent | CategoricalLatent) -> Array:
    return np.random.default_rng(seed).normal(size=(K, 2, 4, latent.parameter_size))


def draws(latent: GaussianLatent | CategoricalLatent) -> Array:
    numbers = np.random.default_rng(9)
    if latent is GAUSSIAN:
        return numbers.normal(size=(2, 4, SIZE))
    return np.eye(CLASSES)[numbers.integers(CLASSES, size=(2, 4, SIZE // CLASSES))].reshape(2, 4, SIZE)


def moments(raw: Array, latent: GaussianLatent | CategoricalLatent) -> tuple[Array, Array]:
    """Mean and variance of every element of z, computed by hand."""
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
    return spread(PriorPredictions(latent, torch.from_numpy(raw), torch.from_numpy(draws(latent)))).numpy()


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_mean_disagreement_is_the_mean_distance_from_the_members_mean(latent) -> None:
    raw = members(0, latent)
    mean, _ = moments(raw, latent)
    expected = np.sqrt(((mean - mean.mean(0)) ** 2).sum(-1)).mean(0)
    np.testing.assert_allclose(measured(MeanDisagreement(), latent, raw), expected, rtol=1e-12)


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_log_probability_spread_is_the_deviation_of_log_densities(latent) -> None:
    raw = members(1, latent)
    expected = log_density(raw, draws(latent), latent).std(0)
    np.testing.assert_allclose(measured(LogProbabilitySpread(), latent, raw), expected, rtol=1e-12)


@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])
def test_mixture_spread_is_the_deviation_of_the_mixture(latent) -> None:
    raw = members(2, latent)
    mean, variance = moments(raw, latent)
    second = (variance + mean**2).mean(0)  # E[z^2] of the mixture
    expected = np.sqrt(second - mean.mean(0) ** 2).mean(-1)
    np.testing.assert_allclose(measured(MixtureSpread(), latent, raw), expected, rtol=1e-9)


@pytest.mark.parametrize("spread", [MeanDisagreement(), LogProbabilitySpread(), MixtureSpread()])
@pytest.mark.parametrize("latent", [GAUSSIAN, CATEGORICAL, UNMIXED], ids=["gaussian", "categorical", "unmixed"])
def test_spread_of_identical_members_has_a_finite_gradient(spread: Spread, latent) -> None:
    one = torch.from_numpy(members(3, latent)[:1]) * 300  # categoricals as certain as float64 allows
    identical = one.expand(K, -1, -1, -1).clone().requires_grad_()
    value = spread(PriorPredictions(latent, identical, torch.from_numpy(draws(latent))))
    if not isinstance(spread, MixtureSpread):
        np.testing.assert_allclose(value.detach().numpy(), 0, atol=1e-9)
    value.sum().backward()
    assert torch.isfinite(identical.grad).all()
