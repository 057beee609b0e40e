"""Alignment of recorded rows, in lockstep and single rollouts."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest

from dreamset.environments import pendulum
from dreamset.environments.recorder import record_episodes
from dreamset.environments.rollouts import Policy, PolicyFactory, RecordedEpisode, record_episode, run_side_by_side


def same(left: RecordedEpisode, right: RecordedEpisode) -> bool:
    return (
        left.seed == right.seed
        and left.terminated == right.terminated
        and all(np.array_equal(left.observations[name], right.observations[name]) for name in left.observations)
        and all(np.array_equal(left.infos[name], right.infos[name]) for name in left.infos | right.infos)
        and all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("actions", "rewards"))
    )


def play(environment: gymnasium.Env[Any, Any], make_policy: PolicyFactory, *, seed: int) -> RecordedEpisode:
    return record_episode(environment, make_policy, generator=np.random.default_rng(0), seed=seed)


def test_recorded_rows_are_aligned(
    counter: Callable[..., gymnasium.Env[Any, Any]],
) -> None:
    seen: list[tuple[float, float]] = []

    def act(observation: Mapping[str, np.ndarray], info: Mapping[str, np.ndarray]) -> np.ndarray:
        seen.append((float(observation["count"][0]), float(info["state"][0])))
        return (-info["state"] + 0.25).astype(np.float32)

    episode = play(counter(by_seed=True), lambda *_: act, seed=2)
    counts = 2000 + np.arange(8.0)
    np.testing.assert_array_equal(episode.observations["count"][:, 0], counts)
    np.testing.assert_array_equal(episode.infos["state"][:, 0], -counts)
    np.testing.assert_array_equal(episode.actions[:, 0], counts[:-1] + 0.25)
    np.testing.assert_array_equal(episode.rewards, counts[1:] + 0.5)
    assert seen == [(count, -count) for count in counts[:-1]]  # the last observation asks for no action
    assert episode.terminated
    assert episode.total_reward == (counts[1:] + 0.5).sum()
    assert not play(counter(by_seed=True), lambda *_: act, seed=3).terminated


def test_policy_is_made_per_episode_after_the_reset(
    counter: Callable[..., gymnasium.Env[Any, Any]],
) -> None:
    begun: list[float] = []

    def make_policy(environment: Any, generator: np.random.Generator) -> Policy:  # noqa: ARG001
        begun.append(environment.count)
        return lambda observation, _: observation["count"]

    list(record_episodes(counter(), make_policy, episodes=3, seed=0))
    assert begun == [0, 1000, 2000]


class LateInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Has only the info ``reward``, which exists only after a step."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(**options)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, terminated, truncated, {"earned": np.array([reward])}


def test_info_missing_at_reset_is_zero_in_the_first_row(
    counter: Callable[..., gymnasium.Env[Any, Any]],
) -> None:
    episode = play(LateInfo(counter(by_seed=True)), lambda *_: lambda o, _: o["count"], seed=2)
    assert set(episode.infos) == {"earned"}
    np.testing.assert_array_equal(episode.infos["earned"][:, 0], [0, *episode.rewards])


def follow_the_count(observations: dict[str, np.ndarray], is_first: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return observations["count"] + np.float32(0.25)


def test_lockstep_rollouts_equal_single_rollouts(
    counter: Callable[..., gymnasium.Env[Any, Any]],
) -> None:
    seeds = [4, 1, 2]
    together = run_side_by_side(lambda: counter(by_seed=True), follow_the_count, seeds=seeds)
    assert [len(episode.rewards) for episode in together] == [7, 5, 7]
    for seed, episode in zip(seeds, together, strict=True):
        (alone,) = run_side_by_side(lambda: counter(by_seed=True), follow_the_count, seeds=[seed])
        assert same(episode, alone)
        assert episode.observations["count"][0, 0] == 1000 * seed
        np.testing.assert_array_equal(episode.actions, episode.observations["count"][:-1] + 0.25)


def test_lockstep_pendulum_rollouts_equal_single_rollouts() -> None:
    def swing_up(observations: dict[str, np.ndarray], is_first: np.ndarray) -> np.ndarray:  # noqa: ARG001
        return np.stack([pendulum.swing_up(state) for state in observations["state"]])

    def make() -> gymnasium.Env[Any, Any]:
        return pendulum.make(image_size=None, episode_steps=20)

    together = run_side_by_side(make, swing_up, seeds=[1, 2])
    for seed, episode in zip([1, 2], together, strict=True):
        (alone,) = run_side_by_side(make, swing_up, seeds=[seed])
        assert same(episode, alone)
    assert not np.array_equal(together[0].infos["state"], together[1].infos["state"])


def test_is_first_is_set_only_at_the_first_step(counter: Callable[..., gymnasium.Env[Any, Any]]) -> None:
    firsts: list[list[bool]] = []
    steps: list[int] = []

    def policy(observations: dict[str, np.ndarray], is_first: np.ndarray) -> np.ndarray:
        firsts.append(is_first.tolist())
        return follow_the_count(observations, is_first)

    run_side_by_side(lambda: counter(by_seed=True), policy, seeds=[1, 2], on_step=lambda: steps.append(len(firsts)))
    assert firsts == [[True, True]] + [[False, False]] * 6
    assert steps == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("fails", [False, True])
def test_environments_are_closed_if_the_policy_fails(
    counter: Callable[..., gymnasium.Env[Any, Any]], fails: bool
) -> None:
    made: list[Any] = []

    def make() -> gymnasium.Env[Any, Any]:
        made.append(counter(by_seed=True))
        return made[-1]

    def policy(observations: dict[str, np.ndarray], is_first: np.ndarray) -> np.ndarray:
        if fails:
            raise RuntimeError("policy failed")
        return follow_the_count(observations, is_first)

    if fails:
        with pytest.raises(RuntimeError, match="policy failed"):
            run_side_by_side(make, policy, seeds=[1, 2])
    else:
        run_side_by_side(make, policy, seeds=[1, 2])
    assert [environment.closed for environment in made] == [True, True]


@pytest.fixture
def swing() -> gymnasium.Env[Any, Any]:
    return pendulum.make(image_size=None, episode_steps=15)


def test_recordings_depend_on_their_seed_only(swing: gymnasium.Env[Any, Any]) -> None:
    first = list(record_episodes(swing, pendulum.mixture, episodes=3, seed=5))
    again = list(record_episodes(swing, pendulum.mixture, episodes=3, seed=5))
    other = list(record_episodes(swing, pendulum.mixture, episodes=3, seed=6))
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert not same(first[0], first[1])


def test_episode_does_not_depend_on_the_episodes_before_it(swing: gymnasium.Env[Any, Any]) -> None:
    calls = 0

    def other_policy_at_first(environment: Any, generator: np.random.Generator) -> Policy:
        nonlocal calls
        calls += 1
        return (pendulum.random if calls == 1 else pendulum.mixture)(environment, generator)

    plain = list(record_episodes(swing, pendulum.mixture, episodes=3, seed=5))
    changed = list(record_episodes(swing, other_policy_at_first, episodes=3, seed=5))
    assert not np.array_equal(plain[0].actions, changed[0].actions)
    assert same(plain[1], changed[1])
    assert same(plain[2], changed[2])
    assert same(next(record_episodes(swing, pendulum.mixture, episodes=1, seed=5)), plain[0])


def test_recording_seeds_are_below_evaluation_seeds(counter: Callable[..., gymnasium.Env[Any, Any]]) -> None:
    episodes = record_episodes(counter(), lambda *_: lambda observation, _: observation["count"], episodes=200, seed=0)
    seeds = [episode.seed for episode in episodes]
    assert len(set(seeds)) > 190
    assert max(seeds) < 2**19
    assert max(seeds) > 2**18  # the range is used
