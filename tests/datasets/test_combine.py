"""Merging and splitting stores: every episode is kept once, unchanged, in its split."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.combine import merge, split
from dreamset.datasets.sources import Source, SourceDescription
from dreamset.datasets.store_source import StoreSource


def numbers_of(store: Store, name: str) -> list[int]:
    """The original numbers of the episodes in a split, as encoded in their first state."""
    return [round(float(store.read(episode)["state"][0, 0]) / 1000) for episode in store.split(name)]


def all_numbers(store: Store) -> list[int]:
    return [round(float(store.read(episode)["state"][0, 0]) / 1000) for episode in range(len(store.lengths))]


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def nothing(_: int) -> None:
    pass


@pytest.fixture
def store_of(counter_source, tmp_path) -> Callable[..., Store]:
    """A store of the counting episodes ``first`` to ``first + count``, with the source's description changed."""

    def make(first: int, count: int, name: str, changes: Mapping[str, Any] | None = None, **settings: Any) -> Store:
        class Later(counter_source):  # type: ignore[misc, valid-type]
            def read(self, number: int) -> RawEpisode:
                return super().read(number + first)

            @property
            def episode_count(self) -> int:
                return count

            def describe(self) -> SourceDescription:
                return replace(super().describe(), **(changes or {}))

        lengths = [3 + number % 4 for number in range(first + count)]
        return write_store(Later(lengths), tmp_path / name, **settings)

    return make


def test_store_source_equals_the_original_source(counter_source, make_store):
    original, read_back = counter_source([3, 5, 4]), StoreSource(make_store(3, 5, 4).path)
    assert read_back.episode_count == 3
    assert read_back.describe() == original.describe()
    for number in (2, 0, 1):
        wanted, actual = original.read(number), read_back.read(number)
        assert actual.terminated == wanted.terminated
        for side in ("observations", "privileged"):
            for name, values in getattr(wanted, side).items():
                np.testing.assert_array_equal(getattr(actual, side)[name], values, strict=True)
        np.testing.assert_array_equal(actual.actions, wanted.actions)
        np.testing.assert_array_equal(actual.rewards, wanted.rewards)


def test_rewriting_a_store_gives_equal_bytes(make_store, tmp_path):
    store = make_store(3, 5, 4, 6, shard_bytes=300)
    again = write_store(StoreSource(store.path), tmp_path / "again", shard_bytes=300)
    once_more = write_store(StoreSource(again.path), tmp_path / "once_more", shard_bytes=300)
    assert content(once_more.path) == content(again.path)
    assert again.info | {"shards": []} == store.info | {"shards": []}  # in the files, columns now are in order of name


def test_merged_episodes_keep_their_order_and_split(store_of, tmp_path):
    a, b = store_of(0, 6, "a", validation_fraction=0.34), store_of(6, 4, "b", seed=3, validation_fraction=0.5)
    heard: list[int] = []
    merged = merge([a.path, b.path], tmp_path / "merged", on_episode=heard.append)
    assert all_numbers(merged) == list(range(10))
    for name in ("train", "validation"):
        assert numbers_of(merged, name) == numbers_of(a, name) + numbers_of(b, name)
        assert len(numbers_of(merged, name)) > 0
    for episode in range(10):
        original = a.read(episode) if episode < 6 else b.read(episode - 6)
        for column, values in merged.read(episode).items():
            np.testing.assert_array_equal(values, original[column], strict=True)
    assert heard == list(range(1, 11))
    rows = np.concatenate([merged.read(episode)["state"] for episode in merged.split("train")]).astype(np.float64)
    np.testing.assert_allclose(merged.spec.statistics["state"].mean, rows.mean(axis=0))


def test_merging_records_origins_and_common_reference_scores(store_of, tmp_path):
    def scored(low: float, high: float) -> dict[str, Any]:
        return {"provenance": {"format": "counter", "ref_min_score": low, "ref_max_score": high}}

    a, b = store_of(0, 3, "a", scored(1.0, 8.0)), store_of(3, 3, "b", scored(1.0, 9.0))
    source = merge([a.path, b.path], tmp_path / "merged", on_episode=nothing).info["source"]
    assert source["format"] == "merged"
    assert source["parts"] == [a.info["source"], b.info["source"]]
    assert source["ref_min_score"] == 1.0
    assert "ref_max_score" not in source


def test_splits_of_any_name_are_merged(store_of, tmp_path):
    a = store_of(0, 3, "a", splits=lambda _: {"train": np.array([0, 2]), "test": np.array([1])})
    b = store_of(3, 2, "b", splits=lambda _: {"validation": np.array([0]), "train": np.array([1])})
    merged = merge([a.path, b.path], tmp_path / "merged", on_episode=nothing)
    assert {name: numbers_of(merged, name) for name in merged.info["splits"]} == {
        "train": [0, 2, 4],
        "test": [1],
        "validation": [3],
    }


WIDER = {"state": ArraySpec((2,), "float32"), "image": ArraySpec((2, 3, 3), "uint8")}
OTHER_COLUMNS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "shape": ({"observations": WIDER}, ("its observations are", "[2, 3, 3]")),
    "action": ({"action": ActionSpec(1, False, (0.0,), (9e9,))}, ("its action are", "9000000000.0")),
    "privileged": ({"privileged": {}}, ("its privileged are none", "clock")),
}


@pytest.mark.parametrize("case", OTHER_COLUMNS)
def test_merging_different_columns_names_the_difference(store_of, counter_source, tmp_path, case):
    changes, parts = OTHER_COLUMNS[case]

    def fitting(_number: int, episode: RawEpisode) -> RawEpisode:
        columns = changes.get("observations", {})
        image = np.zeros((len(episode.rewards) + 1, *columns["image"].shape), np.uint8) if columns else None
        observations = episode.observations if image is None else {**episode.observations, "image": image}
        return replace(episode, observations=observations, privileged=changes.get("privileged", episode.privileged))

    class Other(counter_source):  # type: ignore[misc, valid-type]
        def describe(self) -> SourceDescription:
            return replace(super().describe(), **changes)

    a, b = store_of(0, 3, "a"), write_store(Other([4, 5, 6], fitting), tmp_path / "b")
    with pytest.raises(UserError) as caught:
        merge([a.path, b.path], tmp_path / "merged", on_episode=nothing)
    message = str(caught.value)
    assert message.startswith(f"{b.path}: ")
    for part in (*parts, str(a.path), "ingest both with the same columns"):
        assert part in message
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]


def test_merging_a_duplicate_episode_is_refused_and_leaves_no_files(store_of, tmp_path):
    a, b = store_of(0, 4, "a"), store_of(3, 4, "b")
    with pytest.raises(UserError, match=r"episode 0 of .*/b: equals episode 3 of .*/a; remove one"):
        merge([a.path, b.path], tmp_path / "merged", on_episode=nothing)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]


def test_damaged_part_is_named_and_leaves_no_files(store_of, tmp_path):
    a, b = store_of(0, 4, "a"), store_of(4, 4, "b")
    shard = b.path / "shard-00000.h5"
    content = bytearray(shard.read_bytes())
    content[:8] = b"nothing!"
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"/b/shard-00000\.h5"):
        merge([a.path, b.path], tmp_path / "merged", on_episode=nothing)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]


def test_merge_may_replace_one_of_its_inputs(store_of):
    a, b = store_of(0, 3, "a"), store_of(3, 3, "b")
    merged = merge([a.path, b.path], a.path, on_episode=nothing)
    assert all_numbers(merged) == list(range(6))


SHARES = {"pretrain": 0.6, "adapt": 0.3, "test": 0.1}


def test_split_parts_are_disjoint_complete_and_keep_their_splits(store_of, tmp_path):
    store = store_of(0, 20, "store", validation_fraction=0.4)
    heard: list[int] = []
    parts = split(store.path, SHARES, tmp_path / "parts", seed=0, on_episode=heard.append)
    assert {name: len(part.lengths) for name, part in parts.items()} == {"pretrain": 12, "adapt": 6, "test": 2}
    assert sorted(number for part in parts.values() for number in all_numbers(part)) == list(range(20))
    assert len(heard) == 20
    for name, part in parts.items():
        assert part.path == tmp_path / "parts" / name
        assert all_numbers(part) == sorted(all_numbers(part))
        for kind in ("train", "validation"):
            kept = set(all_numbers(part)) & set(numbers_of(store, kind))
            assert set(numbers_of(part, kind)) == kept
        for episode, number in enumerate(all_numbers(part)):
            for column, values in store.read(number).items():
                np.testing.assert_array_equal(part.read(episode)[column], values, strict=True)
        note = part.info["source"]["split"]
        assert note == {"part": name, "share": SHARES[name], "seed": 0, "of": store.digest}
        assert part.info["source"]["format"] == "counter"


def test_split_depends_on_the_seed_only(store_of, tmp_path):
    store = store_of(0, 20, "store")
    first, again, other = (
        split(store.path, {"a": 0.5, "b": 0.5}, tmp_path / name, seed=seed, on_episode=nothing)
        for name, seed in (("1", 0), ("2", 0), ("3", 1))
    )
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert all_numbers(first["a"]) == all_numbers(again["a"]) != all_numbers(other["a"])
    assert all_numbers(first["a"]) != list(range(10))


def test_merging_all_parts_restores_the_store(store_of, tmp_path):
    store = store_of(0, 12, "store", validation_fraction=0.3)
    parts = split(store.path, {"a": 0.25, "b": 0.75}, tmp_path / "parts", seed=2, on_episode=nothing)
    merged = merge([part.path for part in parts.values()], tmp_path / "merged", on_episode=nothing)
    for name in ("train", "validation"):
        assert sorted(numbers_of(merged, name)) == sorted(numbers_of(store, name))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 0.96, "b": 0.04}, r"/store: too few episodes for the part 'b'; choose a larger share"),
        ({"a": 0.5, "b": 0.4}, "positive numbers that sum to 1"),
        ({"a": 1.5, "b": -0.5}, "positive numbers that sum to 1"),
        ({"a": 1.0, "b": 0.0}, "positive numbers that sum to 1"),
        ({"a": float("nan"), "b": 0.5}, "positive numbers that sum to 1"),
        ({}, "positive numbers that sum to 1"),
    ],
)
def test_invalid_shares_are_refused_and_leave_no_files(store_of, tmp_path, shares, message):
    store = store_of(0, 10, "store")
    with pytest.raises(UserError, match=message):
        split(store.path, shares, tmp_path / "parts", seed=0, on_episode=nothing)
    assert [item.name for item in tmp_path.iterdir()] == ["store"]


def test_interrupted_split_leaves_no_files(store_of, tmp_path):
    def interrupt(_: int) -> None:
        if len(list(tmp_path.glob(".parts*/*"))) > 1:
            raise KeyboardInterrupt

    store = store_of(0, 10, "store")
    with pytest.raises(KeyboardInterrupt):
        split(store.path, {"a": 0.5, "b": 0.5}, tmp_path / "parts", seed=0, on_episode=interrupt)
    assert [item.name for item in tmp_path.iterdir()] == ["store"]


def test_concatenated_sources_are_read_in_sequence(counter_source):
    from dreamset.datasets.store_source import Concatenated

    class Shifted(counter_source):  # type: ignore[misc, valid-type]
        def read(self, number: int) -> RawEpisode:
            return replace(super().read(number), name=f"{self.lengths}/{number}")

    sources: list[Source] = [Shifted([2, 3]), Shifted([]), Shifted([4]), Shifted([5, 5, 5])]
    whole = Concatenated(sources, ["a", "b", "c", "d"])
    assert whole.episode_count == 6
    names = [whole.read(number).name for number in range(6)]
    assert names == ["[2, 3]/0", "[2, 3]/1", "[4]/0", "[5, 5, 5]/0", "[5, 5, 5]/1", "[5, 5, 5]/2"]
