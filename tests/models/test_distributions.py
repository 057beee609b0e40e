"""Distributions, compared with densities written in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.distributions import Bernoulli, TanhNormal, UnitNormal

Array = NDArray[np.float64]


def normal_log_density(x: Array, mean: Array, std: Array) -> Array:
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def tanh_normal_log_density(action: Array, location: Array, scale: Array) -> Array:
    """Change of variables a = tanh(u): p(a) = p(u) du/da = p(u) / (1 - a^2), per element."""
    return normal_log_density(np.arctanh(action), location, scale) - np.log1p(-action) - np.log1p(action)


@pytest.mark.parametrize("event_axes", [0, 1, 3])
def test_unit_normal_sums_the_normal_density_over_its_event_axes(event_axes: int) -> None:
    mean, target = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 5))
    density = normal_log_density(target, mean, np.ones_like(mean))
    expected = density.sum(axis=tuple(range(4 - event_axes, 4)))
    got = UnitNormal(torch.from_numpy(mean), event_axes=event_axes).log_prob(torch.from_numpy(target))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13)


def test_bernoulli_log_probability_accepts_hard_and_soft_targets() -> None:
    logit = np.array([-40.0, -2.0, 0.0, 3.0, 40.0])
    log_yes, log_no = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    for target in (0.0, 0.25, 1.0):
        got = Bernoulli(torch.from_numpy(logit)).log_prob(torch.full((5,), target))
        np.testing.assert_allclose(got.numpy(), target * log_yes + (1 - target) * log_no, rtol=1e-12, atol=1e-15)
    flags = torch.tensor([True, False, True, False, True])
    expected = np.where(flags.numpy(), log_yes, log_no)
    np.testing.assert_allclose(
        Bernoulli(torch.from_numpy(logit)).log_prob(flags).numpy(), expected, rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(Bernoulli(torch.from_numpy(logit)).mean.numpy(), np.exp(log_yes), rtol=1e-12, atol=1e-15)


def test_tanh_normal_log_probability_follows_the_change_of_variables() -> None:
    random = np.random.default_rng(0)
    location, scale = random.normal(size=(50, 3)), random.uniform(0.1, 3, size=(50, 3))
    action = np.tanh(random.normal(size=(50, 3)) * 2)
    expected = tanh_normal_log_density(action, location, scale).sum(axis=-1)
    got = TanhNormal(torch.from_numpy(location), torch.from_numpy(scale)).log_prob(torch.from_numpy(action))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(("location", "scale"), [(0.0, 0.5), (0.4, 0.7), (-1.0, 0.2)])
def test_tanh_normal_density_integrates_to_one(location: float, scale: float) -> None:
    cells = 20_000
    action = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 - 1
    distribution = TanhNormal(torch.tensor([location], dtype=torch.float64), torch.tensor([scale]).double())
    density = distribution.log_prob(action[:, None]).exp()
    assert float(density.sum() * 2 / cells) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("gap", [2.0**-6, 2.0**-12, 2.0**-18, 2.0**-22])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_tanh_normal_log_probability_stays_precise_near_the_bounds(gap: float, sign: float) -> None:
    action = np.array([sign * (1 - gap)])  # exact in float32
    expected = tanh_normal_log_density(action, np.array([0.5]), np.array([2.0]))
    distribution = TanhNormal(torch.tensor([0.5]), torch.tensor([2.0]))
    got = distribution.log_prob(torch.from_numpy(action).float())
    assert float(got) == pytest.approx(float(expected[0]), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("bound", [-1.0, 1.0])
def test_tanh_normal_log_probability_is_finite_at_the_bounds(bound: float) -> None:
    location, scale = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
    value = TanhNormal(location, scale).log_prob(torch.tensor([bound]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(location.grad).all()
    assert torch.sign(location.grad).item() == bound  # a location nearer to the action makes it more likely


def test_tanh_normal_sample_has_the_pathwise_gradient() -> None:
    location = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([1.5, -0.4], dtype=torch.float64)
    action = TanhNormal(location, scale).sample(noise)
    expected = np.tanh(np.array([0.3, -1.2]) + np.array([0.5, 2.0]) * noise.numpy())
    np.testing.assert_allclose(action.detach().numpy(), expected, rtol=1e-14)
    action.sum().backward()
    np.testing.assert_allclose(location.grad.numpy(), 1 - expected**2, rtol=1e-12)
    np.testing.assert_allclose(scale.grad.numpy(), (1 - expected**2) * noise.numpy(), rtol=1e-12)


def test_tanh_normal_samples_follow_its_own_density() -> None:
    location, scale = torch.tensor([0.4], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    distribution = TanhNormal(location, scale)
    cells = 4000
    action = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 - 1
    density = distribution.log_prob(action[:, None]).exp() * 2 / cells
    noise = torch.randn(200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = distribution.sample(noise)
    assert float(samples.mean()) == pytest.approx(float((density * action).sum()), abs=0.005)
    assert float(samples.square().mean()) == pytest.approx(float((density * action.square()).sum()), abs=0.005)


def test_tanh_normal_mode_is_the_action_of_the_most_likely_u() -> None:
    location = torch.tensor([-3.0, 0.2])
    np.testing.assert_allclose(TanhNormal(location, torch.ones(2)).mode.numpy(), np.tanh([-3.0, 0.2]), rtol=1e-6)
