"""How a policy explores: against the distributions' own parameters."""

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


def test_without_exploration_the_mode_is_taken() -> None:
    distribution = TruncatedNormal(everywhere(0.25, -0.5), everywhere(0.3, 0.3))
    assert torch.equal(mode(distribution, seeded()), distribution.mode)


def test_draws_follow_the_policy_and_are_clipped_to_the_bounds() -> None:
    drawn = Sampled()(BoundedNormal(everywhere(0.2, 0.9), everywhere(0.1, 0.5)), seeded())
    torch.testing.assert_close(drawn[:, 0].mean(), torch.tensor(0.2), atol=0.005, rtol=0)
    torch.testing.assert_close(drawn[:, 0].std(), torch.tensor(0.1), atol=0.005, rtol=0)
    assert drawn.max() == 1
    share = (drawn[:, 1] == 1).double().mean().item()  # P(N(0.9, 0.5) > 1) = 1 - Phi(0.2) = 0.4207
    assert share == pytest.approx(0.4207, abs=0.015)


def test_draws_of_choices_are_one_hot_and_as_frequent_as_they_are_likely() -> None:
    drawn = Sampled()(OneHotCategorical(everywhere(0.7, 0.2, 0.1).log()), seeded())
    assert torch.equal(drawn.detach().sort(dim=-1).values, everywhere(0, 0, 1))
    torch.testing.assert_close(drawn.detach().mean(0), torch.tensor([0.7, 0.2, 0.1]), atol=0.015, rtol=0)


def test_gaussian_noise_is_added_to_the_mode_whatever_the_policy_s_own_spread() -> None:
    distribution = TruncatedNormal(everywhere(0.1, -1.0), everywhere(2.0, 2.0))
    drawn = GaussianNoise(0.2)(distribution, seeded())
    torch.testing.assert_close(drawn[:, 0].mean(), torch.tensor(0.1), atol=0.005, rtol=0)
    torch.testing.assert_close(drawn[:, 0].std(), torch.tensor(0.2), atol=0.005, rtol=0)
    assert (drawn[:, 1] == -1).double().mean().item() == pytest.approx(0.5, abs=0.015)


def test_a_share_of_choices_is_uniform_and_the_others_are_the_likeliest() -> None:
    drawn = UniformChoice(0.3)(OneHotCategorical(everywhere(0.2, 0.7, 0.1).log()), seeded())
    assert torch.equal(drawn.sort(dim=-1).values, everywhere(0, 0, 1))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([0.1, 0.8, 0.1]), atol=0.015, rtol=0)


@pytest.mark.parametrize("build", [lambda: GaussianNoise(-0.1), lambda: UniformChoice(1.5), lambda: UniformChoice(-1)])
def test_impossible_settings_are_refused_by_key(build) -> None:
    with pytest.raises(UserError, match=r"finetuning\.exploration\.(std|epsilon)"):
        build()
