"""Estimators of the policy gradient, on problems with a closed-form gradient."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import BoundedNormal
from dreamset.behaviors.actor_critic.gradients import (
    ActorGradient,
    Decisions,
    DynamicsBackpropagation,
    Mixture,
    Reinforce,
)
from dreamset.core.errors import UserError
from dreamset.models.distributions import OneHotCategorical

Array = NDArray[np.float64]
ONE = torch.ones(())
STATES, CHOICES = 4, 3
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(CHOICES, STATES))
PAYOFF = RANDOM.normal(size=CHOICES)


class LinearSoftmax(nn.Module):
    """pi(. | x) = softmax(W x)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(WEIGHT.copy()))

    def forward(self, features: Tensor) -> OneHotCategorical:
        return OneHotCategorical(features @ self.weight.t())


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_reinforce_on_a_bandit_is_advantage_times_score() -> None:
    x, draws = RANDOM.normal(size=(2, 5, STATES)), np.eye(CHOICES)[RANDOM.integers(CHOICES, size=(2, 5))]
    returns, baseline = RANDOM.normal(size=(2, 2, 5))
    actor, scale = LinearSoftmax(), torch.tensor(1.7, dtype=torch.float64)
    decisions = Decisions(actor, torch.from_numpy(x), torch.from_numpy(draws))
    objective = Reinforce()(torch.from_numpy(returns), torch.from_numpy(baseline), scale, decisions)
    probs = softmax(x @ WEIGHT.T)
    np.testing.assert_allclose(
        objective.detach().numpy(), (returns - baseline) / 1.7 * np.log((probs * draws).sum(-1)), rtol=1e-12
    )
    objective.sum().backward()
    score = (draws - probs)[..., :, None] * x[..., None, :]  # d ln softmax(W x)_a / dW = (e_a - p) x^T
    expected = (((returns - baseline) / 1.7)[..., None, None] * score).sum(axis=(0, 1))
    np.testing.assert_allclose(actor.weight.grad.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_reinforce_is_unbiased_for_every_baseline(baseline: float) -> None:
    """The expectation sum_a p_a (.) over all actions is the gradient of p^T payoff: p (payoff - p^T payoff) x^T."""
    x, choices = RANDOM.normal(size=STATES), torch.eye(CHOICES, dtype=torch.float64)
    actor = LinearSoftmax()
    decisions = Decisions(actor, torch.from_numpy(x).expand(1, CHOICES, STATES), choices[None])
    returns, value = torch.from_numpy(PAYOFF)[None], torch.full((1, CHOICES), baseline, dtype=torch.float64)
    probs = softmax(WEIGHT @ x)
    (torch.from_numpy(probs) * Reinforce()(returns, value, ONE, decisions)).sum().backward()
    expected = (probs * (PAYOFF - probs @ PAYOFF))[:, None] * x
    np.testing.assert_allclose(actor.weight.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


class LinearNormal(nn.Module):
    """N(w x, 0.5)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.8], dtype=torch.float64))

    def forward(self, features: Tensor) -> BoundedNormal:
        return BoundedNormal(features * self.weight, torch.full_like(features, 0.5))


def mixed_gradient(estimator: ActorGradient) -> float:
    """d/dw of the objective for a return of 3 a, a = w x + 0.5 noise, at a baseline of 1 and a scale of 2."""
    x, noise = torch.tensor([[[1.5]]], dtype=torch.float64), torch.tensor([[[0.7]]], dtype=torch.float64)
    actor = LinearNormal()
    draw = actor(x).sample(noise)
    returns, baseline = 3 * draw.squeeze(-1), torch.ones(1, 1, dtype=torch.float64)
    estimator(returns, baseline, torch.tensor(2.0), Decisions(actor, x, draw)).sum().backward()
    return float(actor.weight.grad)


BACKPROPAGATED = 3 * 1.5 / 2
ADVANTAGE = (3 * (0.8 * 1.5 + 0.5 * 0.7) - 1) / 2
REINFORCED = ADVANTAGE * 0.7 / 0.5 * 1.5  # d ln N / dw = noise / scale * x


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (DynamicsBackpropagation(), BACKPROPAGATED),
        (Reinforce(), REINFORCED),
        (Mixture(0.0), BACKPROPAGATED),
        (Mixture(1.0), REINFORCED),
        (Mixture(0.3), 0.3 * REINFORCED + 0.7 * BACKPROPAGATED),
    ],
)
def test_estimators_give_the_exact_gradient_of_a_linear_problem(estimator: ActorGradient, expected: float) -> None:
    assert mixed_gradient(estimator) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rho", "passes"), [(0.0, 0), (0.3, 1), (1.0, 1)])
def test_mixture_computes_only_what_its_parts_need(rho: float, passes: int) -> None:
    calls = []

    def actor(features: Tensor) -> OneHotCategorical:
        calls.append(features.shape)
        return OneHotCategorical(features)

    mixture, zeros = Mixture(rho), torch.zeros(2, 5)
    mixture(zeros, zeros, ONE, Decisions(actor, torch.zeros(2, 5, 3), torch.ones(2, 5, 3)))
    assert mixture.through_dynamics is (rho < 1)
    assert len(calls) == passes


def test_decisions_evaluate_the_actor_only_once() -> None:
    calls = []

    def actor(features: Tensor) -> OneHotCategorical:
        calls.append(features)
        return OneHotCategorical(features)

    decisions = Decisions(actor, torch.zeros(2, 5, 3, requires_grad=True), torch.ones(2, 5, 3))
    decisions.log_prob()
    assert not decisions.entropy().requires_grad  # no gradient reaches the states
    assert len(calls) == 1


@pytest.mark.parametrize("rho", [-0.1, 1.1])
def test_mixture_refuses_rho_outside_zero_to_one(rho: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        Mixture(rho)
