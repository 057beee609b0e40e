"""Slow critics: when and how the copy is updated, and which values come from it."""

import numpy as np
import pytest
import torch
from torch import nn

from dreamset.behaviors.actor_critic.critics import EMACritic, HardUpdate, NoSlowCritic, SlowCritic
from dreamset.models.distributions import SymexpTwoHot
from dreamset.models.heads import NormalHead, SymexpTwoHotHead
from tests.builders import seeded

FEATURES = torch.randn(7, 4, generator=seeded())


@pytest.fixture
def critic() -> NormalHead:
    torch.manual_seed(0)
    return NormalHead(4, hidden=8, layers=1)


def vector(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten().double() for value in network.parameters()])


def learn(critic: nn.Module, step: int) -> None:
    """Imitates an update of the critic."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(step)))


def test_hard_update_replaces_the_copy_only_every_hundredth_update(critic: NormalHead) -> None:
    slow = HardUpdate(critic, every=100)
    replaced_at = []
    for update in range(1, 351):
        learn(critic, update)
        before = vector(slow.copy)
        slow.update(critic)
        if not torch.equal(vector(slow.copy), before):
            assert torch.equal(vector(slow.copy), vector(critic))
            replaced_at.append(update)
    assert replaced_at == [100, 200, 300]


def test_update_count_survives_saving_and_loading(critic: NormalHead) -> None:
    slow, restarted = HardUpdate(critic, every=5), HardUpdate(critic, every=5)
    for _ in range(3):
        slow.update(critic)
    learn(critic, 0)
    restarted.load_state_dict(slow.state_dict())
    restarted.update(critic)
    assert not torch.equal(vector(restarted.copy), vector(critic))
    restarted.update(critic)
    assert torch.equal(vector(restarted.copy), vector(critic))


def test_ema_critic_follows_the_moving_average_rule(critic: NormalHead) -> None:
    slow = EMACritic(critic, decay=0.98)
    expected = vector(critic).numpy()
    np.testing.assert_array_equal(vector(slow.copy).numpy(), expected)
    for update in range(50):
        learn(critic, update)
        slow.update(critic)
        expected = 0.98 * expected + 0.02 * vector(critic).numpy()
    np.testing.assert_allclose(vector(slow.copy).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_only_hard_updates_take_targets_and_baselines_from_the_copy(critic: NormalHead) -> None:
    slow: list[SlowCritic] = [NoSlowCritic(critic), HardUpdate(critic), EMACritic(critic)]
    before = critic(FEATURES).mean.detach()
    learn(critic, 0)
    now = critic(FEATURES)
    for part, expected in zip(slow, (now.mean, before, now.mean), strict=True):
        torch.testing.assert_close(part.target(critic)(FEATURES).mean, expected)
        baseline = part.baseline(now, FEATURES)
        torch.testing.assert_close(baseline, expected)
        assert not baseline.requires_grad


def test_slow_critic_copies_are_not_trainable(critic: NormalHead) -> None:
    for slow in (HardUpdate(critic), EMACritic(critic)):
        assert not any(parameter.requires_grad for parameter in slow.parameters())
        assert not {p.data_ptr() for p in slow.parameters()} & {p.data_ptr() for p in critic.parameters()}
    assert all(parameter.requires_grad for parameter in critic.parameters())
    assert NoSlowCritic(critic).state_dict() == {}


def two_hot(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    weights = np.zeros((len(values), len(bins)))
    for row, value in enumerate(values):
        above = int(np.searchsorted(bins, value))
        if bins[above] == value:
            weights[row, above] = 1
        else:
            gap = bins[above] - bins[above - 1]
            weights[row, above - 1] = (bins[above] - value) / gap
            weights[row, above] = (value - bins[above - 1]) / gap
    return weights


@pytest.mark.parametrize("regularise", [0.0, 1.0, 2.5])
def test_ema_regulariser_is_the_cross_entropy_with_the_slow_mean(regularise: float) -> None:
    torch.manual_seed(0)
    critic = SymexpTwoHotHead(4, hidden=8, layers=1, bins=21).double()
    critic.bins = critic.bins.double()
    learn(critic, 1)
    slow = EMACritic(critic, regularise=regularise)
    learn(critic, 2)
    features, returns = FEATURES.double(), torch.randn(7, generator=seeded(3), dtype=torch.float64) * 10
    prediction: SymexpTwoHot = critic(features)
    got = slow.log_likelihood(prediction, returns, features)
    bins, logits = critic.bins.numpy(), prediction.logits.detach().numpy()
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    slow_logits = slow.copy(features).logits.numpy()
    slow_probs = np.exp(slow_logits) / np.exp(slow_logits).sum(-1, keepdims=True)
    target = two_hot(returns.numpy(), bins) + regularise * two_hot(slow_probs @ bins, bins)
    np.testing.assert_allclose(got.detach().numpy(), (target * log_probs).sum(-1), rtol=1e-9)
    if regularise:
        gradients = torch.autograd.grad(got.sum(), list(critic.parameters()))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_maximum_likelihood_with_two_hot_targets_gives_the_mean_return() -> None:
    """Returns are -3 or 40 with equal probability; the mean is 18.5, which is no bin."""
    logits = torch.zeros(255, requires_grad=True)
    bins = SymexpTwoHotHead(1, hidden=1, layers=0).bins
    returns = torch.tensor([-3.0, 40.0])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        (-SymexpTwoHot(logits.expand(2, 255), bins).log_prob(returns).mean()).backward()
        optimizer.step()
    prediction = SymexpTwoHot(logits.detach(), bins)
    assert float(prediction.mean) == pytest.approx(18.5, abs=0.5)
