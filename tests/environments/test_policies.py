"""Recording policies: ranges, shares and determinism."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.environments import gym, policies
from dreamset.environments.gym import adapt
from dreamset.environments.recorder import record_episodes
from dreamset.environments.rollouts import Policy


def actions(policy: Policy, count: int, info: Mapping[str, Any] | None = None) -> np.ndarray:
    return np.stack([policy({}, info or {}) for _ in range(count)])


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_random_actions_are_uniform_within_bounds_and_normal_without(native: Callable[..., Any]) -> None:
    space = spaces.Box(np.array([-2.0, 0.0, -np.inf]), np.array([-1.0, 9.0, 4.0]), dtype=np.float64)
    drawn = actions(policies.random(adapt(native(action_space=space), "a"), generator()), 2000)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn[:, :2].min(axis=0), [-2, 0], atol=0.05)
    np.testing.assert_allclose(drawn[:, :2].max(axis=0), [-1, 9], atol=0.05)
    assert abs(drawn[:, 2].mean()) < 0.1
    assert abs(drawn[:, 2].std() - 1) < 0.1


def test_random_choices_are_one_hot_and_uniform(native: Callable[..., Any]) -> None:
    environment = adapt(native(action_space=spaces.Discrete(4, start=2)), "a")
    drawn = actions(policies.random(environment, generator()), 2000)
    assert set(map(tuple, drawn.tolist())) == set(map(tuple, np.eye(4).tolist()))
    np.testing.assert_allclose(drawn.mean(axis=0), 0.25, atol=0.04)


def test_still_acts_with_zero_or_the_nearest_bound(native: Callable[..., Any]) -> None:
    space = spaces.Box(np.array([-2.0, 1.0, -np.inf, -9.0]), np.array([1.0, 9.0, np.inf, -4.0]), dtype=np.float64)
    stood = actions(policies.still(adapt(native(action_space=space), "a"), generator()), 3)
    assert stood.dtype == np.float32
    np.testing.assert_array_equal(stood, [[0, 1, 0, -4]] * 3)
    with pytest.raises(UserError, match="needs continuous actions"):
        policies.still(adapt(native(action_space=spaces.Discrete(4)), "a"), generator())


def always(value: float) -> Callable[..., Policy]:
    return lambda *_: lambda *_: np.array([value], np.float32)


def test_mixture_draws_one_policy_per_episode_by_weight(native: Callable[..., Any]) -> None:
    parts = [always(0), always(1), always(2)]
    draws, one = [], generator()
    for _ in range(600):
        drawn = actions(policies.mixture(native(), one, policies=parts, weights=[3, 0, 1]), 3)
        assert len(np.unique(drawn)) == 1
        draws.append(float(drawn[0, 0]))
    assert set(draws) == {0.0, 2.0}
    assert draws.count(0.0) / 600 == pytest.approx(0.75, abs=0.06)
    alike = [float(actions(policies.mixture(native(), one, policies=parts), 1)[0, 0]) for _ in range(600)]
    assert min(alike.count(value) for value in (0.0, 1.0, 2.0)) > 150


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_invalid_weights_are_refused(native: Callable[..., Any], weights: list[float]) -> None:
    with pytest.raises(UserError, match="weights of 2 policies are"):
        policies.mixture(native(), generator(), policies=[always(0), always(1)], weights=weights)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_policy_is_interrupted_by_held_actions_in_the_given_share(native: Callable[..., Any], share: float) -> None:
    environment = adapt(native(action_space=spaces.Box(0.0, 1.0, (1,), np.float64)), "a")
    policy = policies.interrupted(environment, generator(), policy=always(7), randomness=share, longest_hold=4)
    drawn = actions(policy, 4000)[:, 0]
    assert (drawn != 7).mean() == pytest.approx(share, abs=0.03)
    if share == 1.0:
        held = np.diff(np.flatnonzero(np.diff(drawn) != 0))
        assert (held.min(), held.max()) == (1, 4)


def test_default_share_differs_between_episodes(native: Callable[..., Any]) -> None:
    environment, one = adapt(native(action_space=spaces.Box(0.0, 1.0, (1,), np.float64)), "a"), generator()
    shares = [(actions(policies.interrupted(environment, one, policy=always(7)), 300) != 7).mean() for _ in range(100)]
    assert min(shares) < 0.15
    assert max(shares) > 0.85
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(UserError, match=r"randomness is 1\.5"):
        policies.interrupted(environment, one, policy=always(7), randomness=1.5)


def test_cartpole_controller_balances_until_the_end() -> None:
    environment = gym.make("CartPole-v1")
    balanced = [episode.total_reward for episode in record_episodes(environment, policies.balance, episodes=5, seed=0)]
    fallen = [episode.total_reward for episode in record_episodes(environment, policies.random, episodes=5, seed=0)]
    assert balanced == [500.0] * 5
    assert max(fallen) < 200


def test_policies_depend_on_their_generator_only(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "a")
    for make in (policies.random, lambda e, g: policies.interrupted(e, g, policy=policies.random)):
        first, again, other = (actions(make(environment, generator(seed)), 30) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_smooth_actions_are_correlated_with_half_the_range_as_deviation(native: Callable[..., Any]) -> None:
    space = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 100.0]), dtype=np.float64)
    environment = adapt(native(action_space=space), "a")
    drawn = actions(policies.smooth(environment, generator(), persistence=0.9), 20000)
    assert drawn.dtype == np.float32
    assert (drawn >= space.low).all()
    assert (drawn <= space.high).all()
    inside = (np.abs(drawn - [0, 50]) < [2, 50]).all(axis=1)
    assert inside.mean() == pytest.approx(0.683**2, abs=0.05)  # a normal number is within one deviation
    centred = drawn - drawn.mean(axis=0)
    correlation = (centred[1:] * centred[:-1]).mean(axis=0) / centred.var(axis=0)
    np.testing.assert_allclose(correlation, 0.87, atol=0.03)  # 0.9 before they are cut at the bounds
    free = actions(policies.smooth(environment, generator(), persistence=0.0), 5000)
    assert abs(np.corrcoef(free[1:, 0], free[:-1, 0])[0, 1]) < 0.05


def test_smooth_actions_need_bounds_and_a_correlation_below_one(native: Callable[..., Any]) -> None:
    choices, unbounded = spaces.Discrete(3), spaces.Box(-np.inf, np.inf, (2,))
    for space in (choices, unbounded):
        with pytest.raises(UserError, match="smooth actions need continuous actions with bounds"):
            policies.smooth(adapt(native(action_space=space), "a"), generator())
    with pytest.raises(UserError, match="persistence is 1; allowed: 0 to below 1"):
        policies.smooth(adapt(native(), "a"), generator(), persistence=1)
