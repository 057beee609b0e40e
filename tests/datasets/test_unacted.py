"""Episodes without actions, and episodes that are no demonstrations: from the reader to the batch."""

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.datasets import RawEpisode, SequenceSampler, Store, sequences, write_store
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.combine import merge, split
from dreamset.datasets.exports import EXPORTS
from dreamset.datasets.extension import extend
from dreamset.datasets.index import EpisodeIndex
from dreamset.datasets.mixing import MixedSampler, Part
from dreamset.datasets.sampler import WindowSampler, episode, whole_episodes
from dreamset.datasets.splits import split_kinds
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.transforms import ClipActions, FoldActions, RescaleActions, transformed
from tests.datasets.conftest import CounterSource

GOLDEN = Path(__file__).parents[1] / "golden" / "saved" / "store"

Change = Callable[[int, RawEpisode], RawEpisode]


def marked(*, unacted: Collection[int] = (), others: Collection[int] = ()) -> Change:
    """Removes the actions of some episodes, and makes some others no demonstrations."""

    def change(number: int, raw: RawEpisode) -> RawEpisode:
        return replace(raw, actions=None if number in unacted else raw.actions, demonstration=number not in others)

    return change


def marked_store(path: Path, *lengths: int, unacted: Collection[int] = (), others: Collection[int] = ()) -> Store:
    source = CounterSource(lengths, marked(unacted=unacted, others=others))
    every = {"train": np.arange(len(lengths)), "validation": np.zeros(0, np.int64)}
    return write_store(source, path, splits=lambda _: every)


def numbers_of(batch_state: torch.Tensor) -> list[int]:
    """The episode of the first row of each window."""
    return (batch_state[:, 0, 0] // 1000).int().tolist()


def test_episode_without_actions_has_zeros_and_keeps_observations_and_rewards(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, 6, unacted=[1])
    assert store.acted.tolist() == [True, False, True]
    acted, unacted = store.read(0), store.read(1)
    assert acted["action"][1:].all()
    assert unacted["action"].shape == (6, 1)
    assert not unacted["action"].any()
    np.testing.assert_array_equal(unacted["state"][:, 0], 1000 + np.arange(6))
    np.testing.assert_array_equal(unacted["reward"][1:], 1000.5 + np.arange(5))


def test_marks_survive_reopening_merging_splitting_and_extending(tmp_path):
    store = marked_store(tmp_path / "a", 4, 5, 6, unacted=[1], others=[2])
    other = write_store(CounterSource((7, 8), lambda _, raw: replace(raw, rewards=raw.rewards + 1)), tmp_path / "b")
    merged = merge([store.path, other.path], tmp_path / "merged", on_episode=lambda _: None)
    assert Store.open(merged.path).acted.tolist() == [True, False, True, True, True]
    assert merged.demonstration.tolist() == [True, True, False, True, True]
    parts = split(store.path, {"x": 0.34, "y": 0.66}, tmp_path / "parts", seed=0, on_episode=lambda _: None)
    assert sum((~part.acted).sum() for part in parts.values()) == 1
    assert sum((~part.demonstration).sum() for part in parts.values()) == 1
    first = extend(tmp_path / "grown", CounterSource((4, 5), marked(unacted=[0])), after=0)
    grown = extend(tmp_path / "grown", CounterSource((6,), marked(others=[0])), after=2)
    assert first.acted.tolist() == [False, True]
    assert grown.acted.tolist() == [False, True, True]
    assert grown.demonstration.tolist() == [True, True, False]


def test_index_without_partial_marks_has_the_files_of_stores_before_there_were_marks(tmp_path):
    every = np.ones(2, bool)
    EpisodeIndex(np.array([3, 4]), np.zeros(2), np.zeros(2, np.uint8), every, every).write(tmp_path)
    with np.load(tmp_path / "episodes.npz") as arrays:
        assert sorted(arrays) == ["returns", "rows", "split"]


def test_store_from_before_there_were_marks_has_actions_and_demonstrations_everywhere():
    store = Store.open(GOLDEN)
    assert len(store) > 1
    assert store.acted.all()
    assert store.demonstration.all()
    assert SequenceSampler(store, split="train", batch_size=2, length=2, seed=0).sample().acted is None


def test_only_stores_with_missing_actions_have_the_version_that_older_releases_refuse(tmp_path):
    versions = {}
    for name, settings in {"plain": {}, "others": {"others": [0]}, "unacted": {"unacted": [0]}}.items():
        marked_store(tmp_path / name, 4, 5, **settings)
        versions[name] = json.loads((tmp_path / name / "dataset.json").read_text())["format_version"]
    assert versions == {"plain": 2, "others": 2, "unacted": 3}


def test_split_has_the_episodes_with_actions_unless_others_are_asked_for(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, 6, 7, unacted=[1, 2])
    assert store.split("train").tolist() == [0, 3]
    assert store.split("train", acted=False).tolist() == [1, 2]
    assert store.split("train", acted=None).tolist() == [0, 1, 2, 3]
    assert store.split("validation").tolist() == []


def test_samplers_draw_no_episode_without_actions_unless_they_may(tmp_path):
    store = marked_store(tmp_path / "store", 6, 7, 8, 9, unacted=[1, 3])
    sampler = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0)
    batch = sampler.sample()
    assert set(numbers_of(batch.observations["state"])) == {0, 2}
    assert batch.acted is None
    both = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0, acted=None).sample()
    drawn = numbers_of(both.observations["state"])
    assert set(drawn) == {0, 1, 2, 3}
    assert both.acted is not None
    assert both.acted.shape == (64, 4)
    assert both.acted[:, 0].tolist() == [number not in (1, 3) for number in drawn]
    assert both.demonstration is None
    for stream in (
        sequences(store, split="train", length=4, batch_size=4),
        whole_episodes(store, split="train", shortest=2, limit=9),
    ):
        assert {number for part in stream for number in numbers_of(part.observations["state"])} == {0, 2}
    assert episode(store, 3).acted is not None


def test_marks_of_windows_that_cross_episodes_change_with_the_row(tmp_path):
    store = marked_store(tmp_path / "store", 3, 4, 5, unacted=[1], others=[2])
    sampler = SequenceSampler(store, split="train", batch_size=32, length=7, seed=1, crossing=True, acted=None)
    batch = sampler.sample()
    number = batch.observations["state"][..., 0] // 1000  # [B, T]
    assert len(number.unique()) == 3
    assert torch.equal(batch.acted, number != 1)
    assert torch.equal(batch.demonstration, number != 2)
    later = batch.slice_time(2, 5)
    assert torch.equal(later.acted, batch.acted[:, 2:5])
    assert batch.to(torch.device("cpu")).demonstration is not None


def test_mixture_of_a_marked_and_an_unmarked_store_marks_every_row(tmp_path):
    mixed_quality = marked_store(tmp_path / "a", 6, 7, others=[1])
    plain = marked_store(tmp_path / "b", 8, 9)
    sources = [WindowSampler(store, split="train", length=3) for store in (mixed_quality, plain)]
    batch = MixedSampler([Part(source, 0.5) for source in sources], batch_size=32, seed=0).sample()
    drawn = torch.tensor(numbers_of(batch.observations["state"]))
    assert batch.acted is None
    assert torch.equal(batch.demonstration[:16, 0], drawn[:16] == 0)
    assert batch.demonstration[16:].all()


def test_split_without_any_action_names_the_command_that_labels_them(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, unacted=[0, 1])
    with pytest.raises(UserError, match=r"none of the 2 episodes of the split 'train' has actions.*label-actions"):
        SequenceSampler(store, split="train", batch_size=2, length=2, seed=0)


def test_every_kind_of_episodes_is_held_out_in_the_same_share(tmp_path):
    source = CounterSource([3] * 40, marked(unacted=range(30), others=range(20, 35)))
    store = write_store(source, tmp_path / "store", validation_fraction=0.2)
    held_out = store.split("validation", acted=None)
    kinds = np.stack([store.acted, store.demonstration], axis=1)
    for kind, episodes in (((False, True), 20), ((False, False), 10), ((True, False), 5), ((True, True), 5)):
        assert (kinds[held_out] == kind).all(axis=1).sum() == 0.2 * episodes
    assert sorted([*held_out, *store.split("train", acted=None)]) == list(range(40))


def test_lone_episode_of_a_kind_is_for_training():
    splits = split_kinds(["a", "a", "b"], validation_fraction=0.5, seed=0)
    assert 2 in splits["train"]
    assert len(splits["validation"]) == 1
    with pytest.raises(UserError, match="each of the 2 episodes is the only one of its kind"):
        split_kinds(["a", "b"], validation_fraction=0.5, seed=0)


def test_seen_actions_and_figures_leave_out_episodes_without_actions(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, unacted=[0])
    assert store.info["seen"]["action"]["low"] == [1000.25]  # a zero would be the action of a missing one
    assert store.info["seen"]["reward"]["nonzero"] == 9
    statistics = store.spec.statistics["state"]
    rows = np.concatenate([store.read(number)["state"] for number in range(2)])
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0))  # observations of all training episodes count


def test_mean_returns_are_those_of_the_episodes_with_actions(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, 6, unacted=[0, 2])
    assert store.mean_return == store.returns[1] == store.info["episode_statistics"]["train"]["return"]["mean"]
    assert store.info["episode_statistics"]["train"]["episodes"] == 3
    none = marked_store(tmp_path / "none", 4, 5, unacted=[0, 1])
    assert none.mean_return == none.returns.mean()


def test_card_and_counts_say_how_many_episodes_have_no_actions(tmp_path):
    store = marked_store(tmp_path / "store", 4, 5, 6, unacted=[0], others=[1, 2])
    assert store.info["counts"]["episodes_without_actions"] == 1
    assert store.info["counts"]["demonstrations"] == 1
    card = summary_markdown(store)
    assert "| actions | missing in 1 of 3 episodes |" in card
    assert "| demonstrations | 1 of 3 episodes |" in card
    assert "1 without actions" in repr(store)
    plain = marked_store(tmp_path / "plain", 4, 5)
    assert "episodes_without_actions" not in plain.info["counts"]
    assert "missing in" not in summary_markdown(plain)


def test_store_without_any_action_raises_no_doubt_about_its_actions(tmp_path):
    card = summary_markdown(marked_store(tmp_path / "store", 4, 5, unacted=[0, 1]))
    assert "every action is 0" not in card
    assert "| action | continuous, size 1 |" in card


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_export_of_episodes_without_actions_is_refused_in_one_line(tmp_path, name):
    pytest.importorskip("minari")
    store = marked_store(tmp_path / "store", 4, 5, unacted=[1])
    with pytest.raises(UserError, match=r"1 of 2 episodes have no actions, which the export needs; label them"):
        EXPORTS[name](store, tmp_path / "exported", lambda: None)
    assert not (tmp_path / "exported").exists()


def test_transforms_of_actions_leave_episodes_without_actions_as_they_are():
    source = CounterSource((7, 7), marked(unacted=[1]))
    steps = [ClipActions(0.0, 1e4), RescaleActions(0.0, 1e4), FoldActions(2)]
    changed = transformed(source, steps)
    acted, unacted = changed.read(0), changed.read(1)
    assert acted.actions is not None
    assert unacted.actions is None
    assert len(unacted.rewards) == len(acted.rewards) == 4
    np.testing.assert_array_equal(unacted.observations["state"][:, 0], 1000 + np.array([0, 2, 4, 6, 7]))


def test_store_as_a_source_keeps_marks_and_on_request_the_split(tmp_path):
    source = CounterSource([4] * 12, marked(unacted=range(6), others=[8]))
    store = write_store(source, tmp_path / "store", validation_fraction=0.25, seed=3)
    again = write_store(StoreSource(store.path, keep_split=True), tmp_path / "again", seed=4)
    for name in ("train", "validation"):
        assert again.split(name, acted=None).tolist() == store.split(name, acted=None).tolist()
    np.testing.assert_array_equal(again.acted, store.acted)
    np.testing.assert_array_equal(again.demonstration, store.demonstration)
    assert StoreSource(store.path).read(0).split is None


def test_missing_part_of_the_actions_is_an_error(tmp_path):
    def half(number: int, raw: RawEpisode) -> RawEpisode:
        return raw if raw.actions is None or number != 1 else replace(raw, actions=raw.actions[:3])

    with pytest.raises(UserError, match=r"episode_1 of counter: actions has 3 rows, expected 6 \(for 6 rewards\)"):
        write_store(CounterSource((6, 6), half), tmp_path / "half")

    def unknown(number: int, raw: RawEpisode) -> RawEpisode:
        if raw.actions is None or number != 1:
            return raw
        return replace(raw, actions=np.where(np.arange(6)[:, None] < 3, raw.actions, np.nan).astype(np.float32))

    with pytest.raises(UserError, match=r"episode_1 of counter: actions is nan at step 3, element \[0\]"):
        write_store(CounterSource((6, 6), unknown), tmp_path / "nan")
