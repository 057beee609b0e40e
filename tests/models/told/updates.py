"""One whole update of a tiny TD-MPC in float64 NumPy. Its gradients are central differences: no autograd is shared."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]  # by the names of the torch parameters

TRAINED_FIRST = ("encoder.", "dynamics.", "reward_head.", "continue_head.", "critics.")
WIDTH = 1e-6


@dataclass(frozen=True)
class Data:
    """A batch of windows [B, T, ...] and the random numbers of its update."""

    state: Array
    action: Array  # in [-1, 1]
    reward: Array
    is_first: NDArray[np.bool_]
    is_terminal: NDArray[np.bool_]
    target_action: Array
    policy_action: Array
    target_members: list[int]
    policy_members: list[int]


@dataclass(frozen=True)
class Numbers:
    """The hyper-parameters."""

    discount: float
    rho: float
    consistency: float
    reward: float
    value: float
    continuation: float
    entropy: float
    members: int
    low: float
    high: float
    rate: float  # of plain gradient descent
    target_rate: float
    scale_rate: float


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def linear(weights: Weights, name: str, x: Array) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def encode(weights: Weights, state: Array) -> Array:
    return np.tanh(linear(weights, "encoder.last", state))


def advance(weights: Weights, latent: Array, action: Array) -> Array:
    return np.tanh(linear(weights, "dynamics.last", np.concatenate([latent, action], -1)))


def q_value(weights: Weights, prefix: str, member: int, latent: Array, action: Array) -> Array:
    name = f"{prefix}.networks.{member}"
    hidden = elu(linear(weights, f"{name}.0", np.concatenate([latent, action], -1)))
    return linear(weights, f"{name}.2", hidden)[..., 0]


def act(weights: Weights, numbers: Numbers, latent: Array, noise: Array) -> tuple[Array, Array]:
    """The sampled action and the entropy of its distribution."""
    mean, raw = np.split(linear(weights, "policy.layers.0", latent), 2, axis=-1)
    std = np.exp(numbers.low + 0.5 * (numbers.high - numbers.low) * (np.tanh(raw) + 1))
    grid = np.linspace(-9, 9, 901)
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    u = mean[..., None] + std[..., None] * grid
    slope = 2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))  # ln(1 - tanh(u)^2), even in u
    entropy = np.log(std) + 0.5 * (1 + np.log(2 * np.pi)) + (slope * density).sum(-1)
    return np.tanh(mean + std * noise), entropy.sum(-1)


def roll(weights: Weights, data: Data) -> list[Array]:
    latents = [encode(weights, data.state[:, 0])]
    for t in range(1, data.state.shape[1]):
        latents.append(advance(weights, latents[-1], data.action[:, t]))
    return latents


def known(data: Data) -> Array:
    """[B, T], by a loop over rows."""
    result = np.ones(data.reward.shape)
    for b in range(len(result)):
        for t in range(1, result.shape[1]):
            if data.is_first[b, 1 : t + 1].any():
                result[b, t] = 0
    return result


def targets(weights: Weights, numbers: Numbers, data: Data) -> Array:
    codes = encode(weights, data.state)
    action, _ = act(weights, numbers, codes, data.target_action)
    value = np.minimum(*(q_value(weights, "target_critics.copy", k, codes, action) for k in data.target_members))
    return data.reward + numbers.discount * np.where(data.is_terminal, 0.0, value)


def first_loss(weights: Weights, numbers: Numbers, data: Data, codes: Array, y: Array) -> float:
    """The joint loss; targets ``y`` and the ``codes`` to be consistent with are constants."""
    latents, on = roll(weights, data), known(data)
    total = np.zeros(len(data.reward))
    for t in range(1, data.reward.shape[1]):
        before, action = latents[t - 1], data.action[:, t]
        consistency = ((latents[t] - codes[:, t]) ** 2).mean(-1)
        received = linear(weights, "reward_head.layers.0", np.concatenate([before, action], -1))[:, 0]
        values = [q_value(weights, "critics", k, before, action) for k in range(numbers.members)]
        value = np.mean([(v - y[:, t]) ** 2 for v in values], axis=0)
        each = numbers.consistency * consistency + numbers.reward * (received - data.reward[:, t]) ** 2
        goes_on = 1 / (1 + np.exp(-linear(weights, "continue_head.layers.0", latents[t])[:, 0]))
        ends = -np.log(np.where(data.is_terminal[:, t], 1 - goes_on, goes_on))
        total += on[:, t] * (numbers.rho ** (t - 1) * (each + numbers.value * value) + numbers.continuation * ends)
    return float(total.mean() / (data.reward.shape[1] - 1))


def policy_values(weights: Weights, numbers: Numbers, data: Data, latents: list[Array]) -> tuple[Array, Array]:
    """The values that the policy maximises and its entropies, [B, T] each."""
    stacked = np.stack(latents, 1)
    action, entropy = act(weights, numbers, stacked, data.policy_action)
    return np.mean([q_value(weights, "critics", k, stacked, action) for k in data.policy_members], axis=0), entropy


def second_loss(weights: Weights, numbers: Numbers, data: Data, latents: list[Array], scale: float) -> float:
    value, entropy = policy_values(weights, numbers, data, latents)
    powers = numbers.rho ** np.arange(value.shape[1])
    return float(-((value / scale + numbers.entropy * entropy) * powers * known(data)).mean())


def descended(weights: Weights, names: list[str], loss: Callable[[Weights], float], rate: float) -> Weights:
    """All named weights after a step of gradient descent."""
    moved = dict(weights)
    for name in names:
        gradient = np.zeros_like(weights[name])
        for index in np.ndindex(gradient.shape):
            sides = []
            for width in (WIDTH, -WIDTH):
                shifted = weights[name].copy()
                shifted[index] += width
                sides.append(loss({**weights, name: shifted}))
            gradient[index] = (sides[0] - sides[1]) / (2 * WIDTH)
        moved[name] = weights[name] - rate * gradient
    return moved


def updated(weights: Weights, numbers: Numbers, data: Data, *, scale: float) -> tuple[Weights, float]:
    """All weights and S after the published order: model, policy with the new critics, slow copies."""
    first = [name for name in weights if name.startswith(TRAINED_FIRST)]
    predicted = roll(weights, data)  # before the step
    codes, y = encode(weights, data.state), targets(weights, numbers, data)
    after = descended(weights, first, lambda moved: first_loss(moved, numbers, data, codes, y), numbers.rate)
    value, _ = policy_values(after, numbers, data, predicted)
    low, high = np.quantile(value[:, 0], [0.05, 0.95])
    scale += numbers.scale_rate * (max(high - low, 1.0) - scale)
    policy = [name for name in weights if name.startswith("policy.")]
    after = descended(after, policy, lambda moved: second_loss(moved, numbers, data, predicted, scale), numbers.rate)
    for name in [name for name in weights if name.startswith("target_critics.copy.")]:
        online = after[name.replace("target_critics.copy.", "critics.")]
        after[name] = after[name] + numbers.target_rate * (online - after[name])
    return after, scale
