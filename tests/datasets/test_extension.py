"""Extending stores: earlier shards are unchanged, and a round is added atomically."""

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import Store, write_store
from dreamset.datasets.extension import extend


def rows_of(store):
    return [store.read(episode) for episode in range(len(store.lengths))]


def assert_equal_episodes(actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def checksums(store):
    return [entry["sha256"] for entry in store.info["shards"]]


def whole(source, path):
    return write_store(source, path, splits=lambda kept: {"train": np.arange(len(kept))})


def test_extending_in_rounds_equals_writing_once(tmp_path, counter_source):
    path = tmp_path / "online"
    extend(path, counter_source([5, 3]), after=0)
    extend(path, counter_source([7]), after=2)
    grown = extend(path, counter_source([2, 9, 4]), after=3)
    parts = [
        whole(counter_source(rows), tmp_path / str(number)) for number, rows in enumerate([[5, 3], [7], [2, 9, 4]])
    ]
    assert_equal_episodes(rows_of(grown), [row for part in parts for row in rows_of(part)])
    assert grown.lengths.tolist() == [6, 4, 8, 3, 10, 5]
    np.testing.assert_array_equal(grown.returns, np.concatenate([part.returns for part in parts]))
    assert grown.split("train").tolist() == list(range(6))
    grown.verify()


def test_statistics_cover_all_episodes_so_far(tmp_path, counter_source):
    path = tmp_path / "online"
    extend(path, counter_source([5, 3]), after=0)
    grown = extend(path, counter_source([7]), after=2)
    rows = np.concatenate([episode["state"] for episode in rows_of(grown)]).astype(np.float64)
    np.testing.assert_allclose(grown.spec.statistics["state"].mean, rows.mean(axis=0))
    np.testing.assert_allclose(grown.spec.statistics["state"].std, rows.std(axis=0))


def test_kept_shards_are_not_copied(tmp_path, counter_source):
    path = tmp_path / "online"
    extend(path, counter_source([5, 3]), after=0)
    before = (path / "shard-00000.h5").stat()
    extend(path, counter_source([7]), after=2)
    assert (path / "shard-00000.h5").stat().st_ino == before.st_ino
    assert (path / "shard-00001.h5").stat().st_ino != before.st_ino


def test_later_episodes_are_dropped_and_added_again(tmp_path, counter_source):
    path = tmp_path / "online"
    first = checksums(extend(path, counter_source([5, 3]), after=0))
    second = checksums(extend(path, counter_source([7]), after=2))
    assert checksums(extend(path, counter_source([]), after=2)) == first == second[:1]
    assert checksums(extend(path, counter_source([7]), after=2)) == second
    assert checksums(extend(path, counter_source([5, 3]), after=0)) == first


def test_episode_may_repeat_itself(tmp_path, counter_source):
    path = tmp_path / "online"
    extend(path, counter_source([5]), after=0)
    assert len(extend(path, counter_source([5]), after=1).lengths) == 2


def test_invalid_episode_leaves_the_store_unchanged(tmp_path, counter_source, nan_in):
    path = tmp_path / "online"
    before = extend(path, counter_source([5, 3]), after=0).digest
    with pytest.raises(UserError, match="episode_1 of counter"):
        extend(path, counter_source([4, 4], nan_in(1)), after=2)
    assert Store.open(path).digest == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["online"]


def test_extending_after_the_middle_of_a_shard_is_refused(tmp_path, counter_source):
    path = tmp_path / "online"
    extend(path, counter_source([5, 3]), after=0)
    with pytest.raises(ValueError, match="after 2 episodes, not after 1"):
        extend(path, counter_source([]), after=1)
