"""The tanh-normal actor: its initial std and its limits."""

import pytest
import torch

from dreamset.behaviors.actor_critic.actors import TanhNormalActor
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from tests.builders import seeded

TWO = ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0))
FEATURES = torch.randn(200, 6, generator=seeded())


def actor(**settings: float) -> TanhNormalActor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TanhNormalActor(6, TWO, hidden=32, layers=2, **settings)


@pytest.mark.parametrize("initial_std", [0.3, 1.0, 5.0])
def test_initial_std_is_near_its_setting(initial_std: float) -> None:
    scale = actor(initial_std=initial_std)(torch.zeros(1, 6)).scale  # biases start at zero
    torch.testing.assert_close(scale, torch.full((1, 2), initial_std), rtol=1e-3, atol=0)
    assert 0.5 * initial_std < float(actor(initial_std=initial_std)(FEATURES).scale.mean().detach()) < 2 * initial_std


def test_location_and_std_stay_within_their_limits() -> None:
    network = actor(mean_scale=5.0, min_std=0.01)
    distribution = network(FEATURES * 1e4)
    assert 4.9 < distribution.location.abs().max().item() <= 5.0
    assert distribution.scale.min().item() == pytest.approx(0.01)
    assert distribution.scale.max().item() > 100  # the std has no upper limit


def test_inner_tanh_leaves_small_means_unchanged() -> None:
    network = actor(mean_scale=5.0)
    raw, _ = network.layers(FEATURES * 1e-2).chunk(2, dim=-1)
    torch.testing.assert_close(network(FEATURES * 1e-2).location, raw, rtol=1e-3, atol=1e-6)


def test_discrete_actions_error_names_their_number() -> None:
    with pytest.raises(UserError, match="has 4 discrete actions"):
        TanhNormalActor(6, ActionSpec(4, discrete=True, low=(0.0,) * 4, high=(1.0,) * 4), hidden=8, layers=1)
