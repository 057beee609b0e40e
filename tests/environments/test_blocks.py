"""An environment that plays blocks observes what a recording shows after the transform of the same name."""

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import transforms
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources import SourceDescription
from dreamset.environments import pendulum
from dreamset.environments.actions import OneHotAction
from dreamset.environments.blocks import ActionBlocks, make
from dreamset.environments.rollouts import EpisodeRecorder, RecordedEpisode, record_episode
from dreamset.environments.wrappers import Environment, time_limit
from tests.environments.conftest import Counter


def short_pendulum() -> Environment:
    return pendulum.make(image_size=None, episode_steps=11)


def blocks_of(recorded: RecordedEpisode, steps: int) -> RawEpisode:
    raw = RawEpisode(
        "episode_0", recorded.observations, recorded.actions, recorded.rewards, recorded.terminated, recorded.infos
    )
    return transforms.ActionBlocks(steps).apply(raw)


def played(environment: Environment, raw: RawEpisode, seed: int) -> RecordedEpisode:
    recorder = EpisodeRecorder(environment, seed)
    for action in raw.actions:
        recorder.step(action)
    assert recorder.done
    return recorder.finish()


@pytest.mark.parametrize("steps", [1, 3, 5, 20])
@pytest.mark.parametrize("make_plain", [short_pendulum, lambda: Counter(by_seed=True)])
@pytest.mark.parametrize("seed", [2, 3])
def test_playing_the_blocks_of_a_recording_observes_the_same_rows(
    steps: int, make_plain: Callable[[], Environment], seed: int
) -> None:
    """The episodes of 11, 7 and 5 steps end within a block or after one, by a time limit or truly."""
    recorded = record_episode(make_plain(), pendulum.random, generator=np.random.default_rng(0), seed=seed)
    raw = blocks_of(recorded, steps)
    again = played(make(environment=make_plain, steps=steps), raw, seed)
    assert len(again.rewards) == len(raw.rewards) == -(-len(recorded.rewards) // steps)
    for name, rows in raw.observations.items():
        np.testing.assert_array_equal(again.observations[name], rows)
    np.testing.assert_array_equal(again.infos["state"], raw.privileged["state"])
    np.testing.assert_allclose(again.rewards, raw.rewards, rtol=1e-12)
    assert again.terminated == raw.terminated == recorded.terminated


def test_the_action_space_repeats_the_bounds_as_the_columns_of_the_transform_do() -> None:
    environment = make(environment=short_pendulum, steps=3)
    action = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
    before = SourceDescription({"state": ArraySpec((3,), "float32")}, {}, action, {})
    after = transforms.ActionBlocks(3).columns(before)
    assert after.action == ActionSpec(3, discrete=False, low=(-2.0,) * 3, high=(2.0,) * 3)
    assert isinstance(environment.action_space, spaces.Box)
    assert environment.action_space == spaces.Box(-2.0, 2.0, (3,), np.float32)
    assert after.observations == before.observations


def test_actions_of_a_block_are_played_in_order() -> None:
    class Logged(Counter):
        action_space = spaces.Box(0.0, 9.0, (2,), np.float32)
        taken: list[list[float]]

        def step(self, action):  # type: ignore[no-untyped-def]
            self.taken.append(action.tolist())
            return super().step(action)

    inner = Logged()
    inner.taken = []
    environment = ActionBlocks(inner, 3)
    environment.reset()
    environment.step(np.arange(6, dtype=np.float32))
    assert inner.taken == [[0, 1], [2, 3], [4, 5]]


def test_the_time_limit_is_counted_in_blocks() -> None:
    assert time_limit(make(environment=short_pendulum, steps=5)) == 3


def test_discrete_actions_are_refused() -> None:
    environment = OneHotAction(gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match=r"the actions are from Discrete\(2\); allowed: continuous ones"):
        ActionBlocks(environment, 2)
    action = ActionSpec(2, discrete=True, low=(0.0,) * 2, high=(1.0,) * 2)
    with pytest.raises(UserError, match="ActionBlocks: the actions are discrete"):
        transforms.ActionBlocks(2).columns(SourceDescription({}, {}, action, {}))


def test_blocks_of_no_step_are_refused() -> None:
    with pytest.raises(UserError, match="steps is 0"):
        transforms.ActionBlocks(0)
    with pytest.raises(UserError, match="steps is 0"):
        make(environment=short_pendulum, steps=0)
