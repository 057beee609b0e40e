"""Exploration, compared with the parameters of the distributions."""

import pytest
import torch

from dreamset.behaviors.action_distributions import BoundedNormal, TruncatedNormal
from dreamset.behaviors.exploration import GaussianNoise, Sampled, UniformChoice, mode
from dreamset.core.errors import UserError
from dreamset.models.distributions import OneHotCategorical
from tests.builders import seeded

COUNT = 20_000


def everywhere(*values: float) -> torch.Tensor:
    return torch.tensor(values).expand(COUNT, len(values))


def test_mode_returns_the_mode_of_the_distribution() -> None:
    distribution = TruncatedNormal(everywhere(0.25, -0.5), everywhere(0.3, 0.3))
    assert torch.equal(mode(distribution, seeded()), distribution.mode)


def test_sampled_actions_follow_the_policy_and_are_clipped() -> None:
    action = Sampled()(BoundedNormal(everywhere(0.2, 0.9), everywhere(0.1, 0.5)), seeded())
    torch.testing.assert_close(action[:, 0].mean(), torch.tensor(0.2), atol=0.005, rtol=0)
    torch.testing.assert_close(action[:, 0].std(), torch.tensor(0.1), atol=0.005, rtol=0)
    assert action.max() == 1
    share = (action[:, 1] == 1).double().mean().item()  # P(N(0.9, 0.5) > 1) = 1 - Phi(0.2) = 0.4207
    assert share == pytest.approx(0.4207, abs=0.015)


def test_sampled_discrete_actions_are_one_hot_with_the_policy_frequencies() -> None:
    action = Sampled()(OneHotCategorical(everywhere(0.7, 0.2, 0.1).log()), seeded())
    assert torch.equal(action.detach().sort(dim=-1).values, everywhere(0, 0, 1))
    torch.testing.assert_close(action.detach().mean(0), torch.tensor([0.7, 0.2, 0.1]), atol=0.015, rtol=0)


def test_gaussian_noise_around_the_mode_ignores_the_policy_std() -> None:
    distribution = TruncatedNormal(everywhere(0.1, -1.0), everywhere(2.0, 2.0))
    action = GaussianNoise(0.2)(distribution, seeded())
    torch.testing.assert_close(action[:, 0].mean(), torch.tensor(0.1), atol=0.005, rtol=0)
    torch.testing.assert_close(action[:, 0].std(), torch.tensor(0.2), atol=0.005, rtol=0)
    assert (action[:, 1] == -1).double().mean().item() == pytest.approx(0.5, abs=0.015)


def test_uniform_choice_mixes_uniform_actions_with_the_mode() -> None:
    action = UniformChoice(0.3)(OneHotCategorical(everywhere(0.2, 0.7, 0.1).log()), seeded())
    assert torch.equal(action.sort(dim=-1).values, everywhere(0, 0, 1))
    torch.testing.assert_close(action.mean(0), torch.tensor([0.1, 0.8, 0.1]), atol=0.015, rtol=0)


@pytest.mark.parametrize("build", [lambda: GaussianNoise(-0.1), lambda: UniformChoice(1.5), lambda: UniformChoice(-1)])
def test_invalid_exploration_settings_error_names_their_key(build) -> None:
    with pytest.raises(UserError, match=r"finetuning\.exploration\.(std|epsilon)"):
        build()
