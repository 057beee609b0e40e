"""Actions in recorded states: expectations, integrals, densities at the bounds, and what is refused."""

import math

import numpy as np
import pytest
import torch

from dreamset.behaviors.action_distributions import BoundedNormal
from dreamset.behaviors.latent_sac.choices import AllActions, SampledActions, kind_of
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import OneHotCategorical, TanhNormal
from tests.builders import seeded

INFINITE = (math.inf, math.inf)


def normal(*shape: int) -> TanhNormal:
    generator = seeded(5)
    location = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return TanhNormal(location, 0.3 + torch.rand(*shape, generator=generator, dtype=torch.float64))


def test_discrete_expectation_is_the_sum_over_all_actions() -> None:
    logits = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.float64)
    choices = AllActions().choices(OneHotCategorical(logits, unimix=0.1), seeded())
    probs = 0.9 * np.exp(logits.numpy()) / np.exp(logits.numpy()).sum() + 0.1 / 3
    values = torch.tensor([[5.0, -1.0, 2.0]], dtype=torch.float64)
    assert choices.mean(values).item() == pytest.approx((probs * values.numpy()).sum())
    assert choices.entropy().item() == pytest.approx(-(probs * np.log(probs)).sum())
    assert torch.equal(choices.action[0], torch.eye(3, dtype=torch.float64))


def test_continuous_expectation_is_one_sample_of_the_policy_with_its_density() -> None:
    policy = normal(4, 6, 2)
    choices = SampledActions().choices(policy, seeded(3))
    noise = policy.noise(seeded(3)).numpy()
    u = policy.location.numpy() + policy.scale.numpy() * noise
    log_normal = -0.5 * noise**2 - np.log(policy.scale.numpy()) - 0.5 * np.log(2 * np.pi)
    expected = (log_normal - np.log(1 - np.tanh(u) ** 2)).sum(-1)
    np.testing.assert_allclose(choices.action[..., 0, :], np.tanh(u), rtol=1e-12)
    np.testing.assert_allclose(choices.log_prob[..., 0], expected, rtol=1e-9)
    np.testing.assert_allclose(choices.entropy(), -expected, rtol=1e-9)


def test_density_of_a_sample_is_precise_where_tanh_rounds_to_one() -> None:
    location = torch.tensor([12.0], requires_grad=True)
    action, log_prob = TanhNormal(location, torch.tensor([0.5])).sample_with_log_prob(torch.tensor([1.0]))
    slope = 2 * (math.log(2) - 12.5 - math.log1p(math.exp(-25)))
    assert action.item() == 1.0
    assert log_prob.item() == pytest.approx(-0.5 - math.log(0.5) - 0.5 * math.log(2 * math.pi) - slope, rel=1e-6)
    (gradient,) = torch.autograd.grad(log_prob, location)
    assert gradient.item() == pytest.approx(2.0, rel=1e-5)  # of -ln(1 - tanh^2), which pulls the policy inside


def test_integral_over_continuous_actions_weights_each_action_by_its_density() -> None:
    policy = normal(3, 1)
    proposals = SampledActions().proposals(policy, 4, seeded())
    values = 2.0 * proposals.action.squeeze(-1)
    uniform, own = proposals.action[..., :4, 0].numpy(), proposals.action[..., 4:, 0].numpy()
    u = np.arctanh(own)
    location, scale = policy.location.numpy(), policy.scale.numpy()
    density = np.exp(-0.5 * ((u - location) / scale) ** 2) / (scale * np.sqrt(2 * np.pi)) / (1 - own**2)
    expected = np.log((np.exp(2 * uniform) / 0.5).sum(-1) / 8 + (np.exp(2 * own) / density).sum(-1) / 8)
    np.testing.assert_allclose(proposals.log_sum_exp(values), expected, rtol=1e-8)


def test_integral_over_continuous_actions_approaches_its_closed_form() -> None:
    policy = TanhNormal(torch.tensor([[0.2]]), torch.tensor([[0.8]]))
    proposals = SampledActions().proposals(policy, 40_000, seeded())
    estimate = proposals.log_sum_exp(1.5 * proposals.action.squeeze(-1)).item()
    assert estimate == pytest.approx(math.log((math.exp(1.5) - math.exp(-1.5)) / 1.5), abs=0.02)


def test_integral_over_discrete_actions_is_their_sum() -> None:
    values = torch.tensor([[1.0, -2.0, 0.5]])
    proposals = AllActions().proposals(OneHotCategorical(torch.zeros(1, 3)), 10, seeded())
    assert proposals.log_sum_exp(values).item() == pytest.approx(math.log(np.exp(values.numpy()).sum()))


def test_recorded_actions_at_the_bounds_have_a_moderate_density() -> None:
    action = torch.tensor([[1.0], [-1.0], [0.25]])
    interior = SampledActions().interior(action)
    torch.testing.assert_close(interior, torch.tensor([[0.999], [-0.999], [0.25]]))
    log_prob = TanhNormal(torch.zeros(3, 1), torch.ones(3, 1)).log_prob(interior)
    assert log_prob.abs().max() < 5  # at the bounds themselves it would be -20
    assert torch.equal(AllActions().interior(torch.eye(3)), torch.eye(3))


def test_unbounded_actions_are_refused_in_one_line() -> None:
    spec = ActionSpec(2, discrete=False, low=tuple(-bound for bound in INFINITE), high=INFINITE)
    with pytest.raises(UserError, match="the dataset's actions have no bounds: ") as error:
        kind_of(spec)
    assert "\n" not in str(error.value)


def test_policies_of_another_distribution_are_refused_by_key() -> None:
    with pytest.raises(UserError, match=r"behavior\.actor has the distribution BoundedNormal; .*: TanhNormal"):
        SampledActions().require(BoundedNormal(torch.zeros(1), torch.ones(1)), "behavior.actor")
    with pytest.raises(UserError, match=r"behavior\.actor has the distribution TanhNormal; .*: OneHotCat"):
        AllActions().require(normal(1, 1), "behavior.actor")
