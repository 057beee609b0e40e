from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import RawEpisode
from dreamset.datasets.episode import align, check


@pytest.fixture
def fields(counter_source):
    return counter_source([4]).describe()


@pytest.fixture
def raw(counter_episode) -> RawEpisode:
    return counter_episode(0, 4)


def test_row_t_holds_the_action_and_reward_that_led_to_observation_t(raw, fields):
    episode = align(raw, fields)
    assert episode.observations["state"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert episode.action[:, 0].tolist() == [0, 0.25, 1.25, 2.25, 3.25]
    assert episode.reward.tolist() == [0, 0.5, 1.5, 2.5, 3.5]
    assert episode.is_first.tolist() == [True, False, False, False, False]
    assert episode.is_last.tolist() == [False, False, False, False, True]
    assert episode.privileged["clock"][:, 0].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("terminated", [True, False])
def test_only_a_true_end_is_terminal(raw, fields, terminated):
    episode = align(replace(raw, terminated=terminated), fields)
    assert episode.is_terminal.tolist() == [False, False, False, False, terminated]
    assert episode.is_last[-1]


def edited(values: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    copy = values.copy()
    copy[place] = value
    return copy


BROKEN: dict[str, tuple[Callable[[RawEpisode], RawEpisode], str]] = {
    "nan": (
        lambda raw: replace(
            raw, observations={**raw.observations, "state": edited(raw.observations["state"], (3, 1), np.nan)}
        ),
        r"episode_0 of counter: observation 'state' is nan at step 3, element \[1\]; every value must be finite",
    ),
    "infinite info": (
        lambda raw: replace(raw, privileged={"clock": edited(raw.privileged["clock"], (2, 0), -np.inf)}),
        r"privileged 'clock' is -inf at step 2, element \[0\]",
    ),
    "reward beyond float32": (
        lambda raw: replace(raw, rewards=np.array([0.0, 1e300, 0.0, 0.0])),
        r"rewards is inf at step 1; every value must be finite in float32",
    ),
    "missing observation": (
        lambda raw: replace(raw, observations={"state": raw.observations["state"]}),
        r"observations are \['state'\], every episode must have \['image', 'state'\]",
    ),
    "no final observation": (
        lambda raw: replace(raw, privileged={"clock": raw.privileged["clock"][:-1]}),
        r"privileged 'clock' has 4 rows, expected 5 \(for 4 rewards\)",
    ),
    "an action too many": (
        lambda raw: replace(raw, actions=np.zeros((5, 1), np.float32)),
        r"actions has 5 rows, expected 4",
    ),
    "wrong dtype": (
        lambda raw: replace(raw, actions=raw.actions.astype(np.float64)),
        r"actions holds float64\[1\] per row, expected float32\[1\]",
    ),
    "action out of range": (
        lambda raw: replace(raw, actions=edited(raw.actions, (2, 0), -0.5)),
        r"actions is -0.5 at step 2, element \[0\]; allowed: \[0, inf\]",
    ),
    "no transition": (
        lambda raw: replace(raw, rewards=raw.rewards[:0]),
        r"rewards have shape \(0,\), expected \[N\] with at least one transition",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_invalid_episode_error_names_the_place(raw, fields, case):
    check(raw, fields)  # unbroken
    change, message = BROKEN[case]
    with pytest.raises(UserError, match=message) as caught:
        check(change(raw), fields)
    assert "\n" not in str(caught.value)


def test_discrete_action_must_be_one_hot(raw, fields):
    discrete = replace(fields, action=ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3))
    one_hot = replace(raw, actions=np.eye(3, dtype=np.float32)[[0, 2, 1, 1]])
    check(one_hot, discrete)
    for wrong in ([1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0]):
        with pytest.raises(UserError, match="must be one-hot"):
            check(replace(one_hot, actions=edited(one_hot.actions, (1,), np.array(wrong))), discrete)


def test_rounding_error_at_an_action_bound_is_accepted(raw, fields):
    bounded = replace(fields, action=ActionSpec(1, False, (-1.0,), (1.0,)))
    at_bound = replace(raw, actions=np.full((4, 1), np.nextafter(np.float32(1), np.float32(2))))
    check(at_bound, bounded)
    with pytest.raises(UserError, match="allowed:"):
        check(replace(raw, actions=np.full((4, 1), np.float32(1.01))), bounded)
