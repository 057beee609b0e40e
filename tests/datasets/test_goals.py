"""Goals of windows. In episode e of the counter, observation t is 1000 e + t, so a goal says which row it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.goals import LaterRows
from dreamset.datasets.mixing import MixedSampler, Part
from dreamset.datasets.sampler import WindowSampler

LENGTH = 5


def sampler(store, *, within=None, batch_size=4000, **settings):
    arguments = {"split": "train", "length": LENGTH, "seed": 0, **settings}
    return SequenceSampler(store, batch_size=batch_size, goals=LaterRows(within), **arguments)


def distances(batch) -> torch.Tensor:
    """Rows from each window's last row to its goal; far from zero if the goal is of another episode."""
    return (batch.goal["state"][:, 0] - batch.observations["state"][:, -1, 0]).long()


@pytest.mark.parametrize("crossing", [False, True])
def test_goal_is_a_later_row_of_the_episode_of_the_last_row(make_store, crossing):
    store = make_store(9, 12, 7, 11)
    batch = sampler(store, crossing=crossing).sample()
    last = batch.observations["state"][:, -1, 0].long()
    left = torch.tensor(store.lengths)[last // 1000] - 1 - last % 1000
    assert (distances(batch) >= 0).all()
    assert (distances(batch) <= left).all()
    assert (distances(batch) == left).any()
    assert torch.equal(batch.goal["image"][:, 0, 0, 0].long(), batch.goal["state"][:, 0].long() % 256)


def test_goals_lie_within_the_given_rows_and_are_equally_likely(make_store):
    counts = np.bincount(distances(sampler(make_store(40, 40), within=2, length=30).sample()).numpy())
    assert len(counts) == 3
    # of the 12 windows of an episode, the last one has its last row as the only goal, the one before has two
    expected = np.array([10 / 3 + 1 / 2 + 1, 10 / 3 + 1 / 2, 10 / 3]) / 12 * counts.sum()
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_goals_do_not_change_the_windows(make_store):
    store = make_store(9, 12, 7)
    plain = SequenceSampler(store, split="train", batch_size=50, length=LENGTH, seed=3)
    with_goals = sampler(store, seed=3, batch_size=50)
    assert plain.batch(0).goal is None
    assert torch.equal(plain.batch(0).row, with_goals.batch(0).row)


def test_goals_are_a_function_of_seed_and_batch_number(make_store):
    store = make_store(30, 30)
    first = sampler(store, batch_size=20)
    first.sample()
    resumed = sampler(store, batch_size=20)
    resumed.load_state_dict(first.state_dict())
    goal = first.sample().goal["state"]
    assert torch.equal(goal, resumed.sample().goal["state"])
    assert not torch.equal(goal, sampler(store, batch_size=20, seed=1).batch(1).goal["state"])


def test_mixture_has_the_goals_of_each_source(tmp_path, counter_source):
    def moved(_number, episode):
        return replace(
            episode, observations={n: v + (5000 if n == "state" else 0) for n, v in episode.observations.items()}
        )

    stores = [
        write_store(counter_source([20, 20], change), tmp_path / name)
        for name, change in (("offline", lambda _number, episode: episode), ("online", moved))
    ]
    parts = [Part(WindowSampler(store, split="train", length=LENGTH, goals=LaterRows(3)), 1.0) for store in stores]
    batch = MixedSampler(parts, batch_size=64, seed=0).sample()
    assert set(distances(batch).tolist()) == {0, 1, 2, 3}
    without = WindowSampler(stores[1], split="train", length=LENGTH)
    with pytest.raises(UserError, match="source 1 of the mixture has goals = None"):
        MixedSampler([parts[0], Part(without, 1.0)], batch_size=4, seed=0)


def test_negative_distance_is_refused():
    with pytest.raises(UserError, match=r"goals\.within is -1; allowed: 0 or more, or null"):
        LaterRows(-1)
