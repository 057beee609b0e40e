"""Policies to record with, for any environment: a factory makes a fresh one for each episode.

Factories take the environment, which has just been reset, and the episode's own generator. In a configuration:
``policy: {_target_: dreamset.environments.policies.random, _partial_: true}``. Experts of single suites lie beside
their environments.
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
    """Independent uniform actions; standard normal ones where the environment has no bounds."""
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


def still(environment: Environment, _: np.random.Generator) -> Policy:
    """Actions of zero, or of the bound that is nearest to it: what the environment does by itself.

    Raises:
        UserError: where actions are choices, none of which stands for doing nothing.
    """
    space = environment.action_space
    assert isinstance(space, spaces.Box)
    if choices(environment) is not None:
        instead = "dreamset.environments.policies.random"
        raise UserError(f"no choice of this environment stands for doing nothing; take {instead}")
    action = np.clip(np.zeros(space.shape), space.low, space.high).astype(np.float32)
    return lambda _, __: action.copy()


def mixture(
    environment: Environment,
    generator: np.random.Generator,
    *,
    policies: Sequence[PolicyFactory],
    weights: Sequence[float] | None = None,
) -> Policy:
    """One of ``policies`` for the whole episode, drawn with ``weights`` (default: all alike).

    Raises:
        UserError: if the weights do not fit.
    """
    shares = np.ones(len(policies)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(policies),) or (shares < 0).any() or shares.sum() <= 0:
        raise UserError(f"a mixture of {len(policies)} policies needs as many weights of at least 0, got {weights}")
    chosen = policies[int(generator.choice(len(policies), p=shares / shares.sum()))]
    return chosen(environment, generator)


class Interrupted:
    """A policy that gives way to random actions, held for a while, for a stated share of the time."""

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
        """The policy's action, or the random one that is being held."""
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
    """``policy`` with random actions in between, for policies that do not depend on their own past actions.

    Args:
        environment: to act in.
        generator: of the episode.
        policy: the factory of what is interrupted.
        randomness: share of random actions; None draws one per episode, anything from 0 to 1 with equal chance.
        longest_hold: an action is held for 1 to this many steps.

    Raises:
        UserError: if the share is no share.
    """
    share = float(generator.random()) if randomness is None else randomness
    if not 0 <= share <= 1:
        raise UserError(f"randomness is {randomness}, allowed is a share from 0 to 1, or null for another per episode")
    noise = random(environment, generator)
    inner = policy(environment, generator)
    return Interrupted(inner, noise, generator, randomness=share, longest_hold=longest_hold)


def balance(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """CartPole's pole upright and its cart in the middle: pushes to the side on which the weighted state lies."""

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        position, velocity, angle, turning = info["state"]
        return one_hot(int(0.1 * position + 0.3 * velocity + 2.0 * angle + 0.6 * turning > 0), 2)

    return act
