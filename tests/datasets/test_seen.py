"""The manifest holds the ranges of all rows, counts and sums, however the store came about."""

from dataclasses import replace

import numpy as np
import pytest

from dreamset.core.spec import ActionSpec
from dreamset.datasets import write_store
from dreamset.datasets.combine import merge, split
from dreamset.datasets.extension import extend


def seen_by_hand(store):
    """The figures, from the rows of every episode."""
    rows = [store.read(episode) for episode in range(len(store.lengths))]
    state = np.concatenate([columns["state"] for columns in rows])
    actions = np.concatenate([columns["action"][1:] for columns in rows])
    rewards = np.concatenate([columns["reward"][1:] for columns in rows])
    return {
        "vectors": {"state": {"low": state.min(axis=0).tolist(), "high": state.max(axis=0).tolist()}},
        "constant_images": [],
        "action": {
            "low": actions.min(axis=0).tolist(),
            "high": actions.max(axis=0).tolist(),
            "share_on_bounds": 0.0,
        },
        "reward": {
            "low": float(rewards.min()),
            "high": float(rewards.max()),
            "sum": float(rewards.astype(np.float64).sum()),
            "nonzero": int(np.count_nonzero(rewards)),
        },
        "true_ends": sum(int(columns["is_terminal"].sum()) for columns in rows),
    }


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("shard_bytes", [1, 64 << 20])
def test_figures_equal_those_of_all_rows(make_store, compression, shard_bytes):
    store = make_store(3, 5, 4, compression=compression, shard_bytes=shard_bytes)
    assert store.info["seen"] == seen_by_hand(store)
    assert store.info["seen"]["true_ends"] == 2
    assert store.info["seen"]["action"]["low"] == [0.25]  # the zero of the first row is padding


def test_figures_survive_merging_splitting_and_extending(tmp_path, make_store, counter_source):
    class Later(counter_source):
        def read(self, number):
            return counter_source([4] * 9).read(number + 5)

    both = [make_store(3, 5, 4).path, write_store(Later([4, 4]), tmp_path / "later").path]
    merged = merge(both, tmp_path / "both", on_episode=lambda _: None)
    assert merged.info["seen"] == seen_by_hand(merged)
    for part in split(
        merged.path, {"a": 0.6, "b": 0.4}, tmp_path / "parts", seed=0, on_episode=lambda _: None
    ).values():
        assert part.info["seen"] == seen_by_hand(part)
    extend(tmp_path / "online", counter_source([5, 3]), after=0)
    grown = extend(tmp_path / "online", counter_source([7]), after=2)
    assert grown.info["seen"] == seen_by_hand(grown)


def test_image_that_never_changes_is_listed(tmp_path, counter_source):
    def frozen(_number, episode):
        image = np.full_like(episode.observations["image"], 7)
        image[:, 0] = 9
        return replace(episode, observations={**episode.observations, "image": image})

    store = write_store(counter_source([4, 3], frozen), tmp_path / "store")
    assert store.info["seen"]["constant_images"] == ["image"]


def test_what_was_left_out_and_doubted_stays_in_merged_and_split_stores(tmp_path, make_store):
    store = make_store(3, 5, 4)
    manifest = store.path / "dataset.json"
    text = manifest.read_text()
    lost = '"lost": {\n  "episodes": 1,\n  "reward": 2.5,\n  "terminals": 0,\n  "transitions": 1\n }'
    assert '"doubts": []' in text
    before, _, rest = text.replace('"doubts": []', '"doubts": ["is it?"]').partition('"lost": {')
    manifest.write_text(before + lost + rest.partition("}")[2])
    parts = split(store.path, {"a": 0.6, "b": 0.4}, tmp_path / "parts", seed=0, on_episode=lambda _: None)
    merged = merge([part.path for part in parts.values()], tmp_path / "merged", on_episode=lambda _: None)
    assert parts["a"].info["source"]["lost"] == {"episodes": 1, "reward": 2.5, "terminals": 0, "transitions": 1}
    assert merged.info["doubts"] == parts["a"].info["doubts"] == ["is it?"]
    assert [part["lost"]["reward"] for part in merged.info["source"]["parts"]] == [2.5, 2.5]


def test_share_of_actions_on_their_bounds(tmp_path, counter_source):
    class Bounded(counter_source):
        def describe(self):
            return replace(super().describe(), action=ActionSpec(1, False, (0.25,), (1002.25,)))

    store = write_store(Bounded([3, 3]), tmp_path / "store")  # actions 0.25, 1.25, 2.25 and 1000.25, 1001.25, 1002.25
    assert store.info["seen"]["action"]["share_on_bounds"] == pytest.approx(2 / 6)
