"""Return normalisers, compared with NumPy over several batches."""

import numpy as np
import pytest
import torch

from dreamset.behaviors.actor_critic.actor_loss import ActorLoss
from dreamset.behaviors.actor_critic.gradients import Decisions
from dreamset.behaviors.actor_critic.normalizers import NoNormalizer, PercentileEMA
from dreamset.models.distributions import OneHotCategorical

RANDOM = np.random.default_rng(0)


def test_scale_is_the_percentile_range_average_with_a_floor() -> None:
    normalizer, expected, floors = PercentileEMA(decay=0.9, low=5, high=95, floor=1.0), 0.0, []
    for spread in (0.5, 8.0, 3.0, 20.0, 20.0, 0.1, 0.1, *[0.0] * 30):
        returns = RANDOM.normal(size=(7, 11)) * spread + 100  # the range does not depend on the mean
        low, high = np.percentile(returns, [5, 95])
        expected = 0.9 * expected + 0.1 * (high - low)
        normalizer.update(torch.from_numpy(returns))
        assert float(normalizer.scale) == pytest.approx(max(1.0, expected), rel=1e-5)
        floors.append(expected < 1)
    assert floors[0]
    assert floors[-1]
    assert not all(floors)


def test_default_settings_are_the_published_ones() -> None:
    normalizer = PercentileEMA()
    returns = RANDOM.normal(size=(15, 64)).astype(np.float32) * 1000
    normalizer.update(torch.from_numpy(returns))
    expected = 0.01 * (np.percentile(returns, 95) - np.percentile(returns, 5))
    assert expected > 1
    assert float(normalizer.scale) == pytest.approx(expected, rel=1e-4)


def test_one_outlier_hardly_changes_the_scale() -> None:
    returns = torch.linspace(-1, 1, 1000)
    ordinary, outlier = PercentileEMA(decay=0.0), PercentileEMA(decay=0.0)
    ordinary.update(returns)
    outlier.update(torch.cat([returns, torch.tensor([1e6])]))
    assert float(ordinary.scale) == pytest.approx(1.8, rel=1e-3)
    assert float(outlier.scale) == pytest.approx(float(ordinary.scale), rel=1e-2)


def test_state_dict_restores_the_scale() -> None:
    normalizer, restored = PercentileEMA(decay=0.5), PercentileEMA(decay=0.5)
    normalizer.update(torch.linspace(-100, 100, 50))
    assert not torch.equal(normalizer.scale, restored.scale)
    restored.load_state_dict(normalizer.state_dict())
    assert torch.equal(normalizer.scale, restored.scale)
    assert NoNormalizer().state_dict() == {}


@pytest.mark.parametrize("training", [True, False])
def test_scale_changes_only_in_training_mode(training: bool) -> None:
    loss = ActorLoss(normalizer=PercentileEMA(decay=0.0)).train(training)
    returns = torch.linspace(-10, 10, 8).reshape(2, 4)
    decisions = Decisions(OneHotCategorical, torch.zeros(2, 4, 3), torch.zeros(2, 4, 3))
    loss(returns, torch.zeros(2, 4), torch.ones(2, 4), decisions)
    assert (float(loss.normalizer.scale) > 1) is training
