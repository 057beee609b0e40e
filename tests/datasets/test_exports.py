"""Exported stores, read by the formats' own libraries and by the sources."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.spec import ActionSpec
from dreamset.datasets import MinariSource, RawEpisode, Store, write_store
from dreamset.datasets.exports import EXPORTS, export_minari, export_npz
from dreamset.datasets.exports import minari as minari_export
from dreamset.datasets.exports.minari import minari_id
from dreamset.datasets.sources import Source, SourceDescription
from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.transforms import RenameColumns, SelectColumns, transformed

LENGTHS = [3, 5, 1, 4]


def nothing() -> None:
    pass


def assert_equal_columns(actual: Store, wanted: Store) -> None:
    assert actual.lengths.tolist() == wanted.lengths.tolist()
    assert actual.spec.observations == wanted.spec.observations
    assert actual.spec.privileged == wanted.spec.privileged
    for episode in range(len(wanted.lengths)):
        rows = wanted.read(episode)
        assert actual.read(episode).keys() == rows.keys()
        for name, values in rows.items():
            np.testing.assert_array_equal(actual.read(episode)[name], values, strict=True)


@pytest.fixture
def store_of(counter_source, tmp_path) -> Callable[..., Store]:
    """A store of counting episodes with some of their columns, in continuous actions or as one of five choices."""

    def make(*observations: str, privileged: tuple[str, ...] = (), discrete: bool = False, **provenance: Any) -> Store:
        def choose(number: int, episode: RawEpisode) -> RawEpisode:
            choices = (np.arange(len(episode.actions)) + number) % 5
            return replace(episode, actions=np.eye(5, dtype=np.float32)[choices]) if discrete else episode

        class Chosen(counter_source):  # type: ignore[misc, valid-type]
            def describe(self) -> SourceDescription:
                description = super().describe()
                choice = ActionSpec(5, True, (0.0,) * 5, (1.0,) * 5)
                bounded = ActionSpec(1, False, (0.0,), (4096.0,))
                return replace(description, action=choice if discrete else bounded, provenance=provenance)

        source = SelectColumns(observations, privileged)(Chosen(LENGTHS, choose))
        return write_store(source, tmp_path / "Some Store_1")

    return make


CASES: dict[str, dict[str, Any]] = {
    "state": {"names": ["state"]},
    "image": {"names": ["image"]},
    "both": {"names": ["state", "image"]},
    "privileged": {"names": ["state"], "privileged": ("clock",)},
    "everything": {"names": ["image"], "privileged": ("state", "clock")},
    "discrete": {"names": ["state", "image"], "privileged": ("clock",), "discrete": True},
}


@pytest.fixture(params=CASES)
def store(request, store_of) -> Store:
    case = dict(CASES[request.param])
    return store_of(*case.pop("names"), **case)


def minari_folder(store: Store, root: Path) -> Path:
    return root / minari_id(store)


def test_minari_round_trip_keeps_every_column(store, tmp_path):
    export_minari(store, tmp_path / "root", nothing)
    source = MinariSource(
        minari_folder(store, tmp_path / "root"),
        observations=list(store.spec.observations),
        privileged=list(store.spec.privileged),
    )
    assert source.describe().action == store.spec.action
    assert_equal_columns(write_store(source, tmp_path / "back"), store)


def test_minari_round_trip_needs_no_settings(store, tmp_path):
    export_minari(store, tmp_path / "root", nothing)
    assert_equal_columns(write_store(MinariSource(minari_folder(store, tmp_path / "root")), tmp_path / "back"), store)


def dreamer_source(store: Store, folder: Path) -> Source:
    """The settings that an npz folder lacks, and the column names of the store."""
    action = store.spec.action
    kind = {"discrete": action.size} if action.discrete else {"action_low": action.low, "action_high": action.high}
    privileged = {f"privileged.{name}": name for name in store.spec.privileged}
    source = DreamerSource(folder, observations=list(store.spec.observations), privileged=list(privileged), **kind)
    return transformed(source, [RenameColumns(privileged)] if privileged else [])


def test_npz_round_trip_keeps_every_column(store, tmp_path):
    export_npz(store, tmp_path / "npz", nothing)
    source = dreamer_source(store, tmp_path / "npz")
    assert source.describe().action == store.spec.action
    assert_equal_columns(write_store(source, tmp_path / "back"), store)


def test_npz_files_are_those_of_dreamer_v2(store_of, tmp_path):
    """Names end in N, every array has N + 1 rows, row t of action and reward led to observation t."""
    export_npz(store_of("state", "image", privileged=("clock",)), tmp_path / "npz", nothing)
    files = sorted((tmp_path / "npz").iterdir())
    assert [file.name for file in files] == [f"{number:08d}-{length}.npz" for number, length in enumerate(LENGTHS)]
    for number, (file, length) in enumerate(zip(files, LENGTHS, strict=True)):
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        steps = 1000 * number + np.arange(length + 1)
        assert {len(values) for values in arrays.values()} == {length + 1}
        assert arrays["state"][:, 0].tolist() == steps.tolist()
        assert arrays["privileged.clock"][:, 0].tolist() == (2 * steps).tolist()
        assert arrays["action"][:, 0].tolist() == [0, *(steps[:-1] + 0.25)]
        assert arrays["reward"].tolist() == [0, *(steps[:-1] + 0.5)]
        assert arrays["is_first"].tolist() == [True] + [False] * length
        assert arrays["is_last"].tolist() == [False] * length + [True]
        assert arrays["is_terminal"].tolist() == [False] * length + [number % 2 == 0]
        wanted = {"state": "f4", "image": "u1", "action": "f4", "reward": "f4", "is_last": "?", "is_terminal": "?"}
        assert {name: arrays[name].dtype for name in wanted} == {name: np.dtype(kind) for name, kind in wanted.items()}


@pytest.mark.parametrize("name", ["file", "allow_pickle", "self"])
def test_column_may_have_any_name(counter_source, tmp_path, name):
    source = RenameColumns({"state": name})(counter_source([3, 3]))
    store = write_store(source, tmp_path / "store")
    for to, export in EXPORTS.items():
        export(store, tmp_path / to, nothing)
    with np.load(tmp_path / "npz" / "00000001-3.npz") as archive:
        assert archive[name][:, 0].tolist() == [1000, 1001, 1002, 1003]
    back = write_store(MinariSource(minari_folder(store, tmp_path / "minari")), tmp_path / "back")
    assert_equal_columns(back, store)


@pytest.mark.parametrize("name", ["image", "state"])
def test_single_column_keeps_a_misleading_name(counter_source, tmp_path, name):
    other = {"image": "state", "state": "image"}[name]
    source = SelectColumns([name])(RenameColumns({"image": "state", "state": "image"})(counter_source([3, 3])))
    assert source.describe().observations[name].is_image is (other == "image")
    store = write_store(source, tmp_path / "store")
    export_minari(store, tmp_path / "root", nothing)
    assert_equal_columns(write_store(MinariSource(minari_folder(store, tmp_path / "root")), tmp_path / "back"), store)


@pytest.fixture
def load(monkeypatch) -> Callable[[Path, str], Any]:
    """A dataset, opened by Minari."""
    minari = pytest.importorskip("minari")

    def open_dataset(root: Path, dataset_id: str) -> Any:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
        return minari.load_dataset(dataset_id)

    return open_dataset


def test_minari_itself_reads_episodes_flags_infos_and_spaces(store_of, load, tmp_path):
    store = store_of("state", "image", privileged=("clock",))
    export_minari(store, tmp_path / "root", nothing)
    dataset = load(tmp_path / "root", "dreamset/some-store-1-v0")
    assert dataset.total_episodes == 4
    assert dataset.total_steps == sum(LENGTHS)
    assert dataset.observation_space == spaces.Dict(
        state=spaces.Box(-np.inf, np.inf, (2,), np.float32), image=spaces.Box(0, 255, (2, 3, 1), np.uint8)
    )
    assert dataset.action_space == spaces.Box(0.0, 4096.0, (1,), np.float32)
    assert dataset.action_space.contains(dataset[1].actions[0])
    for number, length in enumerate(LENGTHS):
        episode, steps = dataset[number], 1000 * number + np.arange(length + 1)
        assert episode.observations["state"][:, 0].tolist() == steps.tolist()
        assert episode.observations["image"][:, 1, 2, 0].tolist() == (steps % 256).tolist()
        assert episode.observations["image"].dtype == np.uint8
        assert episode.infos["clock"][:, 0].tolist() == (2 * steps).tolist()
        assert episode.actions[:, 0].tolist() == (steps[:-1] + 0.25).tolist()
        assert episode.rewards.tolist() == (steps[:-1] + 0.5).tolist()
        last = [False] * (length - 1) + [True]
        ended = number % 2 == 0
        assert episode.terminations.tolist() == (last if ended else [False] * length)
        assert episode.truncations.tolist() == ([False] * length if ended else last)


def test_minari_itself_reads_choices_as_integers(store_of, load, tmp_path):
    store = store_of("state", discrete=True)
    export_minari(store, tmp_path / "root", nothing)
    dataset = load(tmp_path / "root", minari_id(store))
    assert dataset.action_space == spaces.Discrete(5)
    assert dataset.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert [episode.actions.tolist() for episode in dataset] == [
        [(number + step) % 5 for step in range(length)] for number, length in enumerate(LENGTHS)
    ]


def test_reference_scores_and_origin_are_exported(store_of, load, tmp_path):
    scores = {"algorithm_name": "counting", "ref_min_score": 1.5, "ref_max_score": 9.0}
    store = store_of("state", **scores)
    export_minari(store, tmp_path / "root", nothing)
    metadata = load(tmp_path / "root", minari_id(store)).storage.metadata
    assert {name: metadata[name] for name in scores} == scores
    assert store.digest in metadata["description"]
    actual = MinariSource(minari_folder(store, tmp_path / "root")).describe().provenance
    assert {name: actual[name] for name in scores} == scores


def test_store_larger_than_a_chunk_is_the_same_dataset(store_of, load, tmp_path, monkeypatch):
    store = store_of("state", "image")
    export_minari(store, tmp_path / "whole", nothing)
    monkeypatch.setattr(minari_export, "_CHUNK_BYTES", 1)  # every episode goes to disk alone
    export_minari(store, tmp_path / "chunks", nothing)
    for root in ("whole", "chunks"):
        dataset = load(tmp_path / root, minari_id(store))
        assert (dataset.total_episodes, dataset.total_steps) == (4, sum(LENGTHS))
        assert [episode.id for episode in dataset] == [0, 1, 2, 3]
        back = write_store(MinariSource(minari_folder(store, tmp_path / root)), tmp_path / f"back_{root}")
        assert_equal_columns(back, store)


def test_environment_variable_is_restored(store_of, tmp_path, monkeypatch):
    store = store_of("state")
    export_minari(store, tmp_path / "a", nothing)
    assert "MINARI_DATASETS_PATH" not in os.environ
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/somewhere")
    export_minari(store, tmp_path / "b", nothing)
    assert os.environ["MINARI_DATASETS_PATH"] == "/somewhere"


@pytest.mark.parametrize("to", EXPORTS)
def test_export_counts_episodes_and_leaves_no_files_on_failure(store_of, tmp_path, to):
    store = store_of("state")
    counted: list[int] = []
    EXPORTS[to](store, tmp_path / "good", lambda: counted.append(1))
    assert len(counted) == len(LENGTHS)

    def fail() -> None:
        counted.append(1)
        if len(counted) == len(LENGTHS) + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EXPORTS[to](store, tmp_path / "bad", fail)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["Some Store_1", "good"]


def test_compressed_store_is_exported_the_same(store_of, tmp_path):
    store = store_of("state", "image")
    packed = write_store(StoreSource(store.path), tmp_path / "packed", compression="gzip")
    export_npz(packed, tmp_path / "npz", nothing)
    assert_equal_columns(write_store(dreamer_source(packed, tmp_path / "npz"), tmp_path / "from_npz"), store)
    export_minari(packed, tmp_path / "root", nothing)
    back = write_store(MinariSource(minari_folder(packed, tmp_path / "root")), tmp_path / "from_minari")
    assert_equal_columns(back, store)


def test_exported_ids_are_valid_minari_ids(tmp_path, make_store):
    store = make_store(2, 2, name="Ünï_kö dé.v2--")
    assert minari_id(store) == "dreamset/n-k-d-v2-v0"
    assert minari_id(make_store(2, 2, name="__")) == "dreamset/store-v0"
    export_minari(store, tmp_path / "root", nothing)
    metadata = json.loads((tmp_path / "root" / minari_id(store) / "data" / "metadata.json").read_text())
    assert metadata["dataset_id"] == "dreamset/n-k-d-v2-v0"
