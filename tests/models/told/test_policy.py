"""Policies of TD-MPC and the running scale, compared with densities and schedules in NumPy."""

import math

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import TanhNormal
from dreamset.models.layers import elu
from dreamset.models.told.policy import ClippedNormal, DeterministicPolicy, RunningScale, SquashedGaussianPolicy
from tests.builders import seeded
from tests.models.told.references import dense

BOX = ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0))
DISCRETE = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)


def latents(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, 6, dtype=torch.float64, generator=seeded()) * scale


def squashed(**settings: float) -> SquashedGaussianPolicy:
    torch.manual_seed(0)
    return SquashedGaussianPolicy(6, BOX, hidden=8, layers=2, style=elu(), **settings).double()


def test_log_std_is_squashed_into_its_bounds() -> None:
    policy = squashed()
    features = latents(5, scale=20)
    raw = dense(policy.layers, features.numpy())
    log_std = -10 + 6 * (np.tanh(raw[:, 2:]) + 1)
    distribution = policy(features)
    np.testing.assert_allclose(distribution.location.detach(), raw[:, :2], rtol=1e-9)
    np.testing.assert_allclose(distribution.scale.detach(), np.exp(log_std), rtol=1e-9)
    wild = squashed(low=-2.0, high=1.0)(latents(200, scale=1e4)).scale.log()
    assert float(wild.detach().min()) == pytest.approx(-2.0)
    assert float(wild.detach().max()) == pytest.approx(1.0)


def test_zero_noise_gives_the_mode_and_samples_stay_in_the_box() -> None:
    distribution = squashed()(latents(300, scale=10))
    assert torch.equal(distribution.sample(torch.zeros(300, 2)), distribution.mode)
    sample = distribution.sample(distribution.noise(seeded()))
    assert float(sample.detach().abs().max()) <= 1
    assert distribution.noise_kind == "normal"


def test_log_prob_of_a_sample_is_the_normal_density_divided_by_the_slope_of_tanh() -> None:
    distribution = squashed()(latents(50))
    noise = distribution.noise(seeded(1))
    location, scale = distribution.location.detach().numpy(), distribution.scale.detach().numpy()
    u = location + scale * noise.numpy()
    density = np.exp(-0.5 * noise.numpy() ** 2) / (scale * math.sqrt(2 * math.pi)) / (1 - np.tanh(u) ** 2)
    got = distribution.log_prob(distribution.sample(noise)).detach().numpy()
    np.testing.assert_allclose(got, np.log(density).sum(-1), rtol=1e-6)


def test_entropy_of_the_action_is_the_mean_of_minus_its_log_probabilities() -> None:
    distribution = TanhNormal(torch.tensor([0.3, -1.0]).double(), torch.tensor([0.7, 1.5]).double())
    noise = torch.randn(200_000, 2, generator=seeded(), dtype=torch.float64)
    sampled = -distribution.log_prob(distribution.sample(noise)).mean()
    assert float(sampled) == pytest.approx(float(distribution.entropy()), abs=0.01)


def test_bonus_of_the_published_code_would_grow_with_the_std_while_the_entropy_of_the_action_falls() -> None:
    wide, wider = (TanhNormal(torch.zeros(1), torch.full((1,), std)) for std in (1.0, 7.0))
    entropies = [float(one.entropy()) for one in (wide, wider)]
    assert entropies[1] < entropies[0]


def deterministic(**settings: float) -> DeterministicPolicy:
    torch.manual_seed(0)
    return DeterministicPolicy(6, BOX, hidden=8, layers=2, **settings).double()


def test_deterministic_policy_is_tanh_of_its_network_and_its_std_falls_linearly() -> None:
    policy = deterministic(start=0.5, end=0.05, over=10)
    features = latents(5)
    np.testing.assert_allclose(
        policy(features).mode.detach(), np.tanh(dense(policy.layers, features.numpy())), rtol=1e-9
    )
    stds = []
    for _ in range(13):
        stds.append(float(policy(features).scale))
        policy.after_update()
    np.testing.assert_allclose(stds, [0.5 - 0.045 * min(n, 10) for n in range(13)], rtol=1e-6)


def test_schedule_resumes_with_the_state_dict() -> None:
    first, second = deterministic(over=4), deterministic(over=4)
    first.after_update()
    second.load_state_dict(first.state_dict())
    assert second.std == first.std < 0.5


def test_noise_of_an_action_is_limited_then_clipped_to_the_box_with_a_straight_gradient() -> None:
    location = torch.tensor([0.0, 0.9, -0.5], requires_grad=True)
    distribution = ClippedNormal(location, torch.tensor(0.5), limit=0.3)
    action = distribution.sample(torch.tensor([0.2, 2.0, -9.0]))
    torch.testing.assert_close(action, torch.tensor([0.1, 1.0, -0.8]))
    (gradient,) = torch.autograd.grad(action.sum(), location)
    assert gradient.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(distribution.sample(torch.zeros(3)), distribution.mode)


def test_density_of_the_clipped_normal_is_that_of_the_normal() -> None:
    distribution = ClippedNormal(torch.tensor([0.1, -0.2]), torch.tensor(0.5))
    reference = torch.distributions.Normal(distribution.location, torch.tensor([0.5, 0.5]))
    action = torch.tensor([0.4, -0.9])
    torch.testing.assert_close(distribution.log_prob(action), reference.log_prob(action).sum())
    torch.testing.assert_close(distribution.entropy(), reference.entropy().sum())


@pytest.mark.parametrize("policy", [SquashedGaussianPolicy, DeterministicPolicy])
def test_policies_refuse_discrete_actions(policy: type) -> None:
    with pytest.raises(UserError, match="needs continuous actions, but the dataset has 3 discrete actions; choose"):
        policy(6, DISCRETE, hidden=8, layers=1)


def test_policies_refuse_empty_ranges() -> None:
    with pytest.raises(UserError, match=r"'low' is 2\.0 and 'high' is 2\.0; allowed"):
        squashed(low=2.0)
    with pytest.raises(UserError, match=r"'over' are 0\.5, 0\.05 and 0; allowed"):
        deterministic(over=0)


def test_running_scale_averages_ranges_that_are_at_least_the_floor() -> None:
    scale = RunningScale(rate=0.1)
    assert float(scale.scale) == 1.0
    values = np.random.default_rng(0).normal(size=(40, 5)) * 10
    expected = 1.0
    for factor in (1.0, 0.001, 2.0):
        scale.update(torch.from_numpy(values * factor))
        low, high = np.percentile(values * factor, [5, 95])
        expected += 0.1 * (max(high - low, 1.0) - expected)
        assert float(scale.scale) == pytest.approx(expected, rel=1e-5)
