import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamset.core import files
from dreamset.core.disk import DiskError
from dreamset.core.errors import UserError
from dreamset.datasets import Store, write_store
from dreamset.datasets.sources.recorded import FinalTransition


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_equal_input_and_seed_give_equal_bytes(make_store):
    first, second = make_store(6, 9, 4, name="a", shard_bytes=200), make_store(6, 9, 4, name="b", shard_bytes=200)
    assert len(first.info["shards"]) > 1
    assert content(first.path) == content(second.path)
    assert first.digest == second.digest
    assert make_store(6, 9, 4, name="c", seed=1).digest != first.digest


def test_statistics_are_those_of_the_training_episodes(make_store):
    store = make_store(5, 11, 3, 8, validation_fraction=0.5, shard_bytes=300)
    assert 0 < len(store.split("train")) < 4
    for name, column in {"state": "state", "clock": "privileged.clock"}.items():
        rows = np.concatenate([store.read(e)[column] for e in store.split("train")]).astype(np.float64)
        actual = store.spec.statistics[name]
        np.testing.assert_allclose(actual.mean, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(actual.std, rows.std(axis=0), rtol=1e-12)
        assert not np.isclose(actual.mean[0], np.concatenate([store.read(e)[column] for e in range(4)])[:, 0].mean())
    assert set(store.spec.statistics) == {"state", "clock"}


def test_constant_element_has_standard_deviation_one(tmp_path, counter_source):
    def constant(_number, episode):
        state = np.stack([episode.observations["state"][:, 0], np.full(7, 0.1, np.float32)], axis=1)
        return replace(episode, observations={**episode.observations, "state": state})

    store = write_store(counter_source([6, 6, 6], constant), tmp_path / "store")
    assert store.spec.statistics["state"].std[0] > 1
    assert store.spec.statistics["state"].std[1] == 1


@pytest.mark.parametrize(("fraction", "held_out"), [(0.01, 1), (0.3, 3), (0.99, 9)])
def test_split_assigns_whole_episodes(make_store, fraction, held_out):
    store = make_store(*[4] * 10, validation_fraction=fraction)
    train, validation = store.split("train").tolist(), store.split("validation").tolist()
    assert len(validation) == held_out
    assert sorted(train + validation) == list(range(10))
    assert make_store(*[4] * 10, validation_fraction=fraction).split("train").tolist() == train


def test_returns_and_lengths_are_described_per_split(make_store):
    store = make_store(2, 4, 6, 8, validation_fraction=0.5)
    np.testing.assert_array_equal(store.returns, [sum(1000 * e + t + 0.5 for t in range(2 + 2 * e)) for e in range(4)])
    for split, figures in store.info["episode_statistics"].items():
        returns, transitions = store.returns[store.split(split)], store.lengths[store.split(split)] - 1
        assert figures["return"]["mean"] == pytest.approx(returns.mean())
        assert figures["return"]["quartiles"][1] == pytest.approx(np.median(returns))
        assert (figures["length"]["min"], figures["length"]["max"]) == (transitions.min(), transitions.max())
    assert store.info["counts"] == {"episodes": 4, "rows": 24, "transitions": 20}


def test_dataset_json_is_standard_json_despite_infinite_bounds(make_store):
    store = make_store(3, 3)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((store.path / "dataset.json").read_text(), parse_constant=refuse)
    assert store.spec.action.high == (float("inf"),)
    assert store.info["source"] == {"format": "counter", "lengths": [3, 3]}


def test_failing_source_keeps_only_the_old_store(make_store, counter_source, nan_in):
    old = make_store(5, 5)
    before = content(old.path.parent)
    with pytest.raises(UserError, match=r"episode_2 of counter: observation 'state' is nan at step 3, element \[1\]"):
        write_store(counter_source([6, 6, 6], nan_in(2)), old.path, shard_bytes=1)
    assert content(old.path.parent) == before
    assert [item.name for item in old.path.parent.iterdir()] == ["store"]
    Store.open(old.path).verify()


def test_interrupt_keeps_only_the_old_store(make_store, counter_source):
    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    old = make_store(5, 5)
    before = content(old.path.parent)
    with pytest.raises(KeyboardInterrupt):
        write_store(counter_source([6, 6, 6]), old.path, shard_bytes=1, on_episode=interrupt)
    assert content(old.path.parent) == before


def test_failing_replacement_restores_the_old_store(make_store, counter_source, monkeypatch):
    old = make_store(5, 5)
    before = content(old.path.parent)
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError("disk is gone")
        return rename(self, target)

    monkeypatch.setattr(files, "_exchanged", lambda *_: False)  # a system that cannot exchange two names
    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="disk is gone"):
        write_store(counter_source([6, 6]), old.path)
    assert content(old.path.parent) == before


def test_new_store_replaces_the_old_one_completely(make_store):
    old = make_store(5, 5, 5, shard_bytes=1)
    mapped = old.read(0)["state"].copy()
    new = make_store(6, 6)
    assert new.lengths.tolist() == [7, 7]
    assert sorted(item.name for item in new.path.iterdir()) == ["dataset.json", "episodes.npz", "shard-00000.h5"]
    assert [item.name for item in new.path.parent.iterdir()] == ["store"]
    assert np.array_equal(old.read(0)["state"], mapped)  # who still reads the old one is not disturbed


def test_folder_that_is_not_a_store_is_not_replaced(tmp_path, counter_source):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not a Dreamset dataset, so it is not replaced"):
        write_store(counter_source([3, 3]), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_progress_counts_finished_episodes(tmp_path, counter_source):
    heard: list[int] = []
    write_store(counter_source([3, 3, 3]), tmp_path / "store", on_episode=heard.append)
    assert heard == [1, 2, 3]


def test_memory_is_bounded_by_one_shard_and_one_episode(tmp_path, counter_source):
    alive = {"now": 0, "most": 0}

    def forget() -> None:
        alive["now"] -= 1

    def watch(_number, episode):
        weakref.finalize(episode.observations["state"], forget)
        alive["now"] += 1
        alive["most"] = max(alive["most"], alive["now"])
        return episode

    source = counter_source([9] * 40, watch)
    write_store(source, tmp_path / "all", shard_bytes=1 << 20)
    assert alive["most"] >= 40  # one shard holds them all
    alive["most"] = alive["now"] = 0
    write_store(source, tmp_path / "few", shard_bytes=1)
    assert alive["most"] <= 3


@pytest.mark.parametrize("lengths", [[], [4]])
def test_dataset_that_cannot_be_split_is_refused(tmp_path, counter_source, lengths):
    with pytest.raises(UserError, match=rf"has {len(lengths)} episode\(s\), expected 2 or more"):
        write_store(counter_source(lengths), tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_invalid_validation_fraction_is_refused(tmp_path, counter_source, fraction):
    with pytest.raises(UserError, match="validation_fraction is"):
        write_store(counter_source([3, 3]), tmp_path / "store", validation_fraction=fraction)


@pytest.mark.parametrize("name", ["reward", "ep_len", "privileged.x", "a/b"])
def test_reserved_observation_name_is_refused(tmp_path, counter_source, name):
    class Renamed(counter_source):  # type: ignore[misc, valid-type]
        def describe(self):
            description = super().describe()
            return replace(description, observations={name: description.observations["state"]})

    with pytest.raises(UserError, match=f"'{name}'"):
        write_store(Renamed([3, 3]), tmp_path / "store")


def without_final_observation(_number, episode):
    observations = {name: values[:-1] for name, values in episode.observations.items()}
    privileged = {name: values[:-1] for name, values in episode.privileged.items()}
    return FinalTransition.DROP.apply(replace(episode, observations=observations, privileged=privileged))


def test_what_a_reader_left_out_is_counted_over_the_episodes(tmp_path, counter_source):
    store = write_store(counter_source([4, 3, 5], without_final_observation), tmp_path / "store")
    # the last rewards are 3.5, 1002.5 and 2004.5; episodes 0 and 2 end truly
    assert store.info["lost"] == {"episodes": 3, "transitions": 3, "reward": 3010.5, "terminals": 2}
    assert store.info["counts"]["transitions"] == 9


class Doubtful:
    def __init__(self, source, doubt):
        self.source, self.doubt = source, doubt
        self.episode_count, self.read = source.episode_count, source.read

    def describe(self):
        return replace(self.source.describe(), doubts=(self.doubt,))


def test_doubts_of_a_reader_are_kept_in_the_store(tmp_path, counter_source):
    doubtful = Doubtful(counter_source([4, 3]), "'state' is constant; set dataset.source.observations")
    assert write_store(doubtful, tmp_path / "store").info["doubts"] == [doubtful.doubt]


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_full_disk_keeps_the_earlier_store_and_the_same_call_succeeds_later(
    tmp_path, counter_source, full_disk, compression
):
    path = tmp_path / "store"
    before = content(write_store(counter_source([4, 3]), path).path)
    source = counter_source([50, 60, 70])
    with full_disk(4000), pytest.raises(DiskError, match=f"^{path}: .* size limit of this process .*needed\\); raise"):
        write_store(source, path, compression=compression, shard_bytes=1)
    assert content(path) == before
    assert [item.name for item in tmp_path.iterdir()] == ["store"]
    store = write_store(source, path, compression=compression, shard_bytes=1)
    store.verify()
    assert store.lengths.tolist() == [51, 61, 71]


def test_too_few_episodes_are_refused_with_the_doubts_of_the_reader(tmp_path, counter_source):
    doubtful = Doubtful(counter_source([4]), "nothing marks the ends of episodes; set dataset.source.boundaries")
    with pytest.raises(UserError, match=r"1 episode\(s\), expected 2 or more.*; nothing marks the ends"):
        write_store(doubtful, tmp_path / "store")
