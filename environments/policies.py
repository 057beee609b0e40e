"""Policies for recording in any environment; a factory makes a new policy for each episode.

A factory takes the environment after its reset and the generator of the episode. In a configuration:
``policy: {_target_: dreamset.environments.policies.random, _partial_: true}``. Experts for single suites are in the
modules of the suites.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.environments.actions import choices, one_hot
from dreamset.environments.rollouts import Policy, PolicyFactory
from dreamset.environments.wrappers import Action, Environment, Observation


def random(environment: Environment, generator: np.random.Generator) -> Policy:
    """Independent uniform actions; standard normal for unbounded elements."""
    space = environment.action_space
    assert isinstance(space, spaces.Box)
    if choices(environment) is not None:
        count = space.shape[0]
        return lambda _, __: one_hot(int(generator.integers(count)), count)
    bounded = np.isfinite(space.low) & np.isfinite(space.high)
    low, high = np.where(bounded, space.low, 0.0), np.where(bounded, space.high, 0.0)

    def act(_: Observation, __: Mapping[str, Any]) -> Action:
        uniform = generator.uniform(low, high)
        return np.where(bounded, uniform, generator.standard_normal(space.shape)).astype(np.float32)

    return act


def smooth(environment: Environment, generator: np.random.Generator, *, persistence: float = 0.9) -> Policy:
    """Random actions that change slowly, so that they lead far: a mean-reverting random walk, cut at the bounds.

    Args:
        environment: with bounded continuous actions.
        generator: of the episode.
        persistence: correlation of neighbouring actions; 0 gives independent ones. The deviation is half of the range.

    Raises:
        UserError: if actions are discrete or unbounded, or the correlation is not at least 0 and below 1.
    """
    space = environment.action_space
    assert isinstance(space, spaces.Box)
    if choices(environment) is not None or not space.is_bounded():
        raise UserError(
            "smooth actions need continuous actions with bounds, which this environment lacks; use "
            "dreamset.environments.policies.random"
        )
    if not 0 <= persistence < 1:
        raise UserError(f"persistence is {persistence}; allowed: 0 to below 1")
    middle, deviation = (space.high + space.low) / 2, (space.high - space.low) / 2
    walk = generator.standard_normal(space.shape)

    def act(_: Observation, __: Mapping[str, Any]) -> Action:
        nonlocal walk
        action = np.clip(middle + deviation * walk, space.low, space.high).astype(np.float32)
        walk = persistence * walk + np.sqrt(1 - persistence**2) * generator.standard_normal(space.shape)
        return action

    return act


def still(environment: Environment, _: np.random.Generator) -> Policy:
    """Actions of zero, or the nearest bound: the environment without control.

    Raises:
        UserError: if actions are discrete, since no choice means doing nothing.
    """
    space = environment.action_space
    assert isinstance(space, spaces.Box)
    if choices(environment) is not None:
        raise UserError(
            "standing still needs continuous actions, but this environment's actions are discrete; use "
            "dreamset.environments.policies.random"
        )
    action = np.clip(np.zeros(space.shape), space.low, space.high).astype(np.float32)
    return lambda _, __: action.copy()


def mixture(
    environment: Environment,
    generator: np.random.Generator,
    *,
    policies: Sequence[PolicyFactory],
    weights: Sequence[float] | None = None,
) -> Policy:
    """One of ``policies`` for the whole episode, drawn with ``weights`` (default: uniform).

    Raises:
        UserError: if the weights do not match the policies.
    """
    shares = np.ones(len(policies)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(policies),) or (shares < 0).any() or shares.sum() <= 0:
        raise UserError(
            f"the weights of {len(policies)} policies are {weights}; allowed: as many numbers, at least 0, not all 0"
        )
    factory = policies[int(generator.choice(len(policies), p=shares / shares.sum()))]
    return factory(environment, generator)


class Interrupted:
    """A policy that is interrupted by held random actions in a share of the time."""

    def __init__(
        self, policy: Policy, noise: Policy, generator: np.random.Generator, *, randomness: float, longest_hold: int
    ) -> None:
        self._policy = policy
        self._noise = noise
        self._generator = generator
        self._randomness = randomness
        self._longest_hold = longest_hold
        self._left = 0
        self._held: Action | None = None

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> Action:
        """The policy's action, or the held random action."""
        if self._left == 0:
            self._left = int(self._generator.integers(1, self._longest_hold + 1))
            random = self._generator.random() < self._randomness
            self._held = self._noise(observation, info) if random else None
        self._left -= 1
        return self._policy(observation, info) if self._held is None else self._held


def interrupted(
    environment: Environment,
    generator: np.random.Generator,
    *,
    policy: PolicyFactory,
    randomness: float | None = None,
    longest_hold: int = 6,
) -> Policy:
    """Interrupts ``policy`` with random actions; for policies that do not depend on their past actions.

    Args:
        environment: the environment.
        generator: generator of the episode.
        policy: factory of the interrupted policy.
        randomness: share of random actions; None draws a share between 0 and 1 uniformly per episode.
        longest_hold: maximum number of steps for which an action is held; the minimum is 1.

    Raises:
        UserError: if the share is not between 0 and 1.
    """
    share = float(generator.random()) if randomness is None else randomness
    if not 0 <= share <= 1:
        raise UserError(f"randomness is {randomness}; allowed: 0 to 1, or null for a random share per episode")
    noise = random(environment, generator)
    inner = policy(environment, generator)
    return Interrupted(inner, noise, generator, randomness=share, longest_hold=longest_hold)


def balance(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """Balances CartPole at the centre: pushes by the sign of a weighted sum of the state."""

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        position, velocity, angle, turning = info["state"]
        return one_hot(int(0.1 * position + 0.3 * velocity + 2.0 * angle + 0.6 * turning > 0), 2)

    return act
