import json
import pickle
import warnings

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets import SequenceSampler, sequences
from dreamset.datasets.strategies import ByReturn, Ends
from dreamset.datasets.windows import WindowIndex


def first_values(batch: SequenceBatch) -> list[float]:
    return batch.observations["state"][:, 0, 0].tolist()


def assert_counts(batch: SequenceBatch) -> None:
    """Each sequence is one continuous count with aligned actions and rewards."""
    count = batch.observations["state"][..., 0]
    start = batch.is_first
    assert torch.equal(count, count[:, :1] + torch.arange(count.shape[1]))
    assert torch.equal(
        batch.observations["image"], (count % 256).to(torch.uint8)[..., None, None, None].expand(-1, -1, 2, 3, 1)
    )
    assert torch.equal(batch.action[..., 0], torch.where(start, 0.0, count - 0.75))
    assert torch.equal(batch.reward, torch.where(start, 0.0, count - 0.5))
    assert torch.equal(batch.privileged["clock"][..., 0], count * 2)
    assert torch.equal(start, count % 1000 == 0)


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_window_holds_consecutive_rows_of_one_episode(make_store, shard_bytes):
    store = make_store(9, 4, 12, 7, 5, shard_bytes=shard_bytes)
    assert len(store.info["shards"]) == (5 if shard_bytes == 1 else 1)
    sampler = SequenceSampler(store, split="train", batch_size=64, length=5, seed=3)
    batch = sampler.sample()
    assert batch.action.shape == (64, 5, 1)
    assert_counts(batch)
    assert not batch.is_last[:, :-1].any()


def test_row_numbers_are_global_across_shards(make_store):
    store = make_store(6, 19, 3, 29, shard_bytes=1)  # transitions: one row less
    before = torch.tensor([0, 7, 27, 31])
    for crossing in (False, True):
        batch = SequenceSampler(store, split="train", batch_size=64, length=5, seed=0, crossing=crossing).sample()
        count = batch.observations["state"][..., 0].long()
        assert torch.equal(batch.row, before[count // 1000] + count % 1000)


def test_flags_mark_ends_and_only_true_ends_are_terminal(make_store):
    store = make_store(4, 4, 4, 4)  # even episodes terminate, odd ones are cut
    for split in ("train", "validation"):
        for episode, batch in zip(
            store.split(split), sequences(store, split=split, length=5, batch_size=1), strict=True
        ):
            assert batch.is_last[0].tolist() == [False] * 4 + [True]
            assert batch.is_terminal[0].tolist() == [False] * 4 + [episode % 2 == 0]


def test_windows_of_a_split_are_sampled_uniformly(make_store):
    store = make_store(3, 2, 6, 4, 3, seed=1)
    draws = 20_000
    batch = SequenceSampler(store, split="train", batch_size=draws, length=3, seed=0).sample()
    values, counts = np.unique(first_values(batch), return_counts=True)
    windows = WindowIndex(store.lengths[store.split("train")], 3).total
    assert len(values) == windows
    expected = draws / windows
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < windows - 1 + 4 * np.sqrt(2 * (windows - 1))  # four standard deviations


def test_resumed_sampler_continues_with_the_next_batch(make_store):
    store = make_store(30, 30, 30)
    settings = {"split": "train", "batch_size": 4, "length": 5, "seed": 0}
    sampler = SequenceSampler(store, **settings)
    sampler.sample()
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = [first_values(sampler.sample()) for _ in range(3)]
    resumed = SequenceSampler(store, **settings)
    assert first_values(resumed.sample()) != expected[0]
    resumed.load_state_dict(state)
    assert [first_values(resumed.sample()) for _ in range(3)] == expected


def test_batch_depends_on_its_number_only(make_store):
    store = make_store(30, 30, 30)
    settings = {"split": "train", "batch_size": 4, "length": 5, "seed": 0}
    drawn = SequenceSampler(store, **settings)
    in_order = [first_values(drawn.sample()) for _ in range(5)]
    assert len({tuple(values) for values in in_order}) == 5
    sampler = SequenceSampler(store, **settings)
    assert [first_values(sampler.batch(number)) for number in (4, 0, 3, 1, 2)] == [in_order[k] for k in (4, 0, 3, 1, 2)]
    assert first_values(sampler.sample()) == in_order[0]


def test_ranks_are_independent_and_rank_0_equals_a_single_process(make_store):
    store = make_store(*[60] * 6)

    def draw(**settings: int) -> list[float]:
        sampler = SequenceSampler(store, split="train", batch_size=8, length=5, seed=0, **settings)
        return [value for _ in range(3) for value in first_values(sampler.sample())]

    streams = [draw(rank=rank) for rank in range(4)]
    assert streams[0] == draw()
    assert len({tuple(stream) for stream in streams}) == 4
    batches = {tuple(stream[first : first + 8]) for stream in streams for first in (0, 8, 16)}
    assert len(batches) == 12  # nor is one rank ahead of another


def test_crossing_windows_contain_short_episodes(make_store):
    store = make_store(3, 1, 2, 9, validation_fraction=0.3)
    episodes = store.split("train")
    rows = np.concatenate([store.read(episode)["state"][:, 0] for episode in episodes])
    settings = {"split": "train", "length": 5, "seed": 0, "batch_size": 300}
    short = int((store.lengths[episodes] < 5).sum())
    assert short
    assert SequenceSampler(store, **settings).excluded == short
    sampler = SequenceSampler(store, **settings, crossing=True)
    assert (sampler.excluded, sampler.windows) == (0, len(rows) - 4)
    batch = sampler.sample()
    actual = {tuple(window) for window in batch.observations["state"][..., 0].tolist()}
    assert actual == {tuple(rows[first : first + 5].tolist()) for first in range(len(rows) - 4)}
    count = batch.observations["state"][..., 0]
    assert torch.equal(batch.is_first, count % 1000 == 0)
    assert batch.is_first[:, 1:].any()
    assert torch.equal(batch.reward, torch.where(batch.is_first, 0.0, count - 0.5))


def test_strategy_weighs_the_episodes_of_the_split_by_their_own_returns(make_store):
    shares = {"train": np.array([1, 3, 4]), "validation": np.array([0, 2, 5])}
    store = make_store(9, 9, 9, 40, 9, 9, splits=lambda _: shares)
    assert np.argmax(store.returns) == 3
    best = Ends(1.0, ByReturn(temperature=1e-3))
    sampler = SequenceSampler(store, split="train", batch_size=50, length=3, seed=0, strategy=best)
    assert set(first_values(sampler.sample())) == {3038.0}


def test_sampler_can_be_pickled(make_store):
    sampler = SequenceSampler(make_store(9, 9), split="train", batch_size=4, length=5, seed=0)
    assert first_values(pickle.loads(pickle.dumps(sampler)).batch(3)) == first_values(sampler.batch(3))


def test_batches_depend_on_the_seed_only(make_store):
    store = make_store(30, 30, 30)

    def draw(seed: int) -> list[float]:
        return first_values(SequenceSampler(store, split="train", batch_size=8, length=5, seed=seed).sample())

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_batch_has_its_own_writable_memory(make_store):
    store = make_store(9, 9)
    before = store.read(0)["state"].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns about arrays that cannot be written
        batch = SequenceSampler(store, split="train", batch_size=2, length=10, seed=0).sample()
    batch.observations["state"].fill_(-1)
    assert np.array_equal(store.read(0)["state"], before)


def test_sampling_a_split_excludes_the_other_split(make_store):
    store = make_store(6, 6, 6, 6, 6, validation_fraction=0.4)
    episodes = {
        split: {
            int(value) // 1000
            for value in first_values(SequenceSampler(store, split=split, batch_size=200, length=3, seed=0).sample())
        }
        for split in ("train", "validation")
    }
    assert episodes == {split: set(store.split(split).tolist()) for split in ("train", "validation")}
    assert not episodes["train"] & episodes["validation"]


def test_evaluation_sequences_are_the_starts_of_long_enough_episodes(make_store):
    store = make_store(9, 2, 9, 9, 5, 9, validation_fraction=0.17)
    long_enough = [e for e in store.split("train").tolist() if store.lengths[e] >= 6]
    batches = list(sequences(store, split="train", length=6, batch_size=2))
    assert [value / 1000 for batch in batches for value in first_values(batch)] == long_enough
    assert [len(batch.reward) for batch in batches] == [2] * (len(long_enough) // 2) + [1] * (len(long_enough) % 2)
    for batch in batches:
        assert_counts(batch)
    limited = list(sequences(store, split="train", length=6, batch_size=2, limit=1))
    assert [value / 1000 for batch in limited for value in first_values(batch)] == long_enough[:1]


def test_too_long_window_is_refused_immediately(make_store):
    store = make_store(5, 5)
    message = "no episode has 7 rows, the longest has 6; lower batch.length to 6"
    with pytest.raises(UserError, match=message):
        SequenceSampler(store, split="train", batch_size=1, length=7, seed=0)
    with pytest.raises(UserError, match=message):
        sequences(store, split="train", length=7, batch_size=1)


def test_unknown_split_or_an_empty_batch_is_refused(make_store):
    store = make_store(5, 5)
    with pytest.raises(UserError, match=r"no split named 'test'; available: \['train', 'validation'\]"):
        SequenceSampler(store, split="test", batch_size=1, length=2, seed=0)
    with pytest.raises(UserError, match="batch_size is 0"):
        SequenceSampler(store, split="train", batch_size=0, length=2, seed=0)
    with pytest.raises(UserError, match="batch_size is 0"):
        sequences(store, split="train", batch_size=0, length=2)
