"""Episodes written by the real Minari library, read through ``MinariSource``."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, SequenceSampler, Store, sequences, write_store
from dreamset.datasets.sources.base import read_all

ONE = spaces.Box(-np.inf, np.inf, (1,), np.float64)
ACTION = spaces.Box(-10.0, 1e6, (1,), np.float32)
LAYOUTS = ["hdf5", "arrow", "parquet"]
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def images(rows: int, *shape: int) -> np.ndarray:
    """Smooth ramps that grow steeper with every step, so that JPEG distorts them little."""
    ramp = np.arange(shape[1])[None, None, :] * np.arange(1, rows + 1)[:, None, None]  # [rows, 1, W]
    return np.broadcast_to(ramp.reshape(rows, 1, -1, *[1] * (len(shape) - 2)), (rows, *shape)).astype(np.uint8)


@every_layout
def test_every_row_of_an_episode_is_aligned(record, minari_counter, layout):
    lengths = [4, 1, 6]
    folder = record([minari_counter(e, n) for e, n in enumerate(lengths)], ONE, ACTION, data_format=layout)
    episodes = list(read_all(MinariSource(folder)))
    assert len(episodes) == 3
    for number, (raw, length) in enumerate(zip(episodes, lengths, strict=True)):
        count = 1000.0 * number + np.arange(length + 1)
        assert {name: values.tolist() for name, values in raw.observations.items()} == {
            "state": count[:, None].tolist()
        }
        assert raw.actions.tolist() == (count[:-1, None] + 0.25).tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.terminated == (number % 2 == 0)
        assert raw.name.startswith(f"episode_{number} of {folder}")
    assert MinariSource(folder).describe().provenance["layout"] == layout


@every_layout
def test_alignment_is_kept_from_minari_to_batch(record, minari_counter, tmp_path, layout):
    folder = record([minari_counter(e, n) for e, n in enumerate([6, 6, 9])], ONE, ACTION, data_format=layout)
    store = write_store(MinariSource(folder), tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.observations["state"][..., 0]
    assert (count[:, 1:] - count[:, :-1] == 1).all()
    assert (batch.action[:, 1:, 0] == count[:, :-1] + 0.25).all()
    assert (batch.reward[:, 1:] == count[:, :-1] + 0.5).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def flags_of(store: Store) -> dict[int, tuple[list[bool], list[bool]]]:
    actual = {}
    for split in ("train", "validation"):
        for episode, batch in zip(
            store.split(split), sequences(store, split=split, length=4, batch_size=1), strict=True
        ):
            actual[int(episode)] = batch.is_last[0].tolist(), batch.is_terminal[0].tolist()
    return actual


@every_layout
def test_only_a_terminated_episode_has_a_true_end(record, minari_counter, tmp_path, layout):
    terminated, truncated, unfinished = (minari_counter(number, 3) for number in range(3))
    unfinished["terminations"] = unfinished["truncations"] = [False] * 3
    folder = record([terminated, truncated, unfinished], ONE, ACTION, data_format=layout)
    store = write_store(MinariSource(folder), tmp_path / "store")
    last = [False, False, False, True]
    assert flags_of(store) == {0: (last, last), 1: (last, [False] * 4), 2: (last, [False] * 4)}


@every_layout
@pytest.mark.parametrize("flag", ["terminations", "truncations"])
def test_end_within_an_episode_names_the_episode_and_the_step(record, minari_counter, layout, flag):
    joined = {**minari_counter(1, 4), flag: [False, True, False, True]}
    source = MinariSource(record([minari_counter(0, 3), joined], ONE, ACTION, data_format=layout))
    assert source.read(0).terminated
    with pytest.raises(
        UserError, match=rf"^episode_1 of .*: '{flag}' is set at step 1 of 4; allowed: only at the last"
    ):
        source.read(1)


def test_truncations_may_be_missing(record_counter):
    folder = record_counter(3, 4)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for number in range(2):
            del file[f"episode_{number}/truncations"]
    assert [raw.terminated for raw in read_all(MinariSource(folder))] == [True, False]


@every_layout
def test_vector_becomes_flat_float32(record, minari_counter, layout):
    values = np.arange(4 * 2 * 3, dtype=np.int16).reshape(4, 2, 3)
    episode = {**minari_counter(0, 3), "observations": values, "actions": values[:3]}
    space = spaces.Box(-9, 99, (2, 3), np.int16)
    source = MinariSource(record([episode], space, space, data_format=layout))
    (raw,) = read_all(source)
    assert raw.observations["state"].dtype == np.float32
    assert raw.observations["state"].tolist() == values.reshape(4, 6).tolist()
    assert raw.actions.tolist() == values[:3].reshape(3, 6).tolist()
    assert source.describe().action.low == (-9.0,) * 6


@every_layout
def test_nested_observations_are_named_by_their_path(record, minari_counter, layout):
    space = spaces.Dict(
        body=spaces.Dict(speed=ONE, gear=spaces.Discrete(3, start=-1)),
        pair=spaces.Tuple((spaces.MultiDiscrete([5, 7]), spaces.MultiBinary(2))),
        goal=spaces.Text(8),
    )
    observations = {
        "body": {"speed": np.arange(3.0)[:, None], "gear": np.array([-1, 1, 0])},
        "pair": (np.array([[0, 1], [2, 3], [4, 5]]), np.array([[0, 1], [1, 0], [1, 1]], np.int8)),
        "goal": ["left", "left", "left"],
    }
    episode = {**minari_counter(0, 2), "observations": observations}
    source = MinariSource(record([episode], space, ACTION, data_format=layout))
    (raw,) = read_all(source)
    assert {name: values.tolist() for name, values in raw.observations.items()} == {
        "body.speed": [[0], [1], [2]],
        "body.gear": [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        "pair._index_0": [[0, 1], [2, 3], [4, 5]],
        "pair._index_1": [[0, 1], [1, 0], [1, 1]],
    }
    assert set(source.describe().provenance["ignored_observations"]) == {"goal"}


def test_discrete_action_is_one_hot_from_its_start(record, minari_counter, tmp_path):
    episodes = [{**minari_counter(number, 3), "actions": np.array([5, 7, 6])} for number in range(2)]
    source = MinariSource(record(episodes, ONE, spaces.Discrete(3, start=5)))
    action = source.describe().action
    assert (action.size, action.discrete, action.bounded) == (3, True, False)
    store = write_store(source, tmp_path / "store")
    assert store.read(0)["action"].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("outside", [4, 8])
def test_discrete_value_outside_its_space_is_named(record, minari_counter, outside):
    episode = {**minari_counter(0, 3), "actions": np.array([5, outside, 6])}
    source = MinariSource(record([episode], ONE, spaces.Discrete(3, start=5)))
    with pytest.raises(UserError, match=rf"episode_0 of .*'actions' is {outside} at step 1; allowed: 5 to 7"):
        list(read_all(source))


def record_images(record: Any, episode: dict[str, Any], frames: np.ndarray, *, jpeg: bool, layout: str) -> Path:
    space = spaces.Box(0, 255, frames.shape[1:], np.uint8)
    return record([{**episode, "observations": frames}], space, ACTION, jpeg_encoding=jpeg, data_format=layout)


@every_layout
@pytest.mark.parametrize("shape", [(40, 32, 3), (7, 7, 3), (3, 40, 32), (40, 32)])
def test_raw_images_are_exact_and_channels_come_last(record, minari_counter, shape, layout):
    frames = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    source = MinariSource(record_images(record, minari_counter(0, 3), frames, jpeg=False, layout=layout))
    (raw,) = read_all(source)
    wanted = frames.transpose(0, 2, 3, 1) if shape[0] == 3 else frames.reshape(4, *shape[:2], -1)
    assert np.array_equal(raw.observations["image"], wanted)
    assert source.describe().observations["image"].shape == wanted.shape[1:]
    assert source.describe().provenance["jpeg"] is False


@every_layout
@pytest.mark.parametrize("shape", [(40, 32, 3), (40, 32)])
@pytest.mark.parametrize("equally_long", [True, False])
def test_jpeg_images_of_variable_or_equal_length_are_decoded(record, minari_counter, shape, equally_long, layout):
    frames = images(4, *shape)
    if equally_long:
        frames = frames[[1, 1, 1, 1]]
    folder = record_images(record, minari_counter(0, 3), frames, jpeg=True, layout=layout)
    for written in (folder / "data").glob("*.hdf5"):
        with h5py.File(written) as file:
            assert file["episode_0/observations"].ndim == (2 if equally_long else 1)
    source = MinariSource(folder)
    (raw,) = read_all(source)
    actual = raw.observations["image"].reshape(frames.shape).astype(float)
    assert np.abs(actual - frames).mean() < 2
    assert equally_long or np.abs(actual - np.roll(frames, 1, axis=0)).mean() > 10  # a shift would show
    assert source.describe().provenance["jpeg"] is True


def dict_episode(episode: dict[str, Any]) -> tuple[dict[str, Any], gymnasium.Space[Any]]:
    rows = len(episode["rewards"]) + 1
    observations = {"near": np.arange(rows)[:, None] * 1.0, "far": np.arange(rows)[:, None] * 2.0}
    return {**episode, "observations": observations}, spaces.Dict(near=ONE, far=ONE)


def test_inputs_and_privileged_columns_can_be_selected(record, minari_counter):
    episode, space = dict_episode({**minari_counter(0, 3), "infos": {"clock": np.arange(4)}})
    folder = record([episode], space, ACTION)
    (raw,) = read_all(MinariSource(folder, observations=["near"], privileged=["far"]))
    assert {name: v[:, 0].tolist() for name, v in raw.observations.items()} == {"near": [0, 1, 2, 3]}
    assert {name: v[:, 0].tolist() for name, v in raw.privileged.items()} == {"far": [0, 2, 4, 6]}
    assert MinariSource(folder, privileged=[]).describe().privileged == {}


def test_unknown_name_error_lists_available_names(record, minari_counter):
    episode, space = dict_episode(minari_counter(0, 3))
    folder = record([episode], space, ACTION)
    with pytest.raises(UserError, match=r"'image' of the setting 'observations' .* available: \['far', 'near'\]"):
        MinariSource(folder, observations=["image"])
    with pytest.raises(UserError, match="no observation is selected"):
        MinariSource(folder, observations=[])


def test_episodes_are_sorted_by_number_and_can_be_limited(record_counter):
    folder = record_counter(*[2] * 12)  # by name, episode_10 would come before episode_2
    assert [raw.observations["state"][0, 0] for raw in read_all(MinariSource(folder))] == [1000 * n for n in range(12)]
    limited = MinariSource(folder / "data", episodes=3)
    assert limited.episode_count == len(list(read_all(limited))) == 3
    with pytest.raises(UserError, match="episodes is 0"):
        MinariSource(folder, episodes=0)


def test_origin_is_kept(record_counter):
    provenance = MinariSource(record_counter(2, 2)).describe().provenance
    assert provenance["dataset_id"] == "counter/test-v0"
    assert provenance["algorithm_name"] == "counting"
    assert len(provenance["sha256"]) == 64


@every_layout
def test_checksum_does_not_depend_on_the_path(record, minari_counter, tmp_path, layout):
    folder = record([minari_counter(0, 2), minari_counter(1, 2)], ONE, ACTION, data_format=layout)
    provenance = MinariSource(folder).describe().provenance
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert MinariSource(copy).describe().provenance == provenance
    assert str(tmp_path) not in json.dumps(provenance)
    (written,) = {*copy.glob("data/*.hdf5"), *copy.glob("data/1/part-0.*")}
    content = bytearray(written.read_bytes())
    content[-1] ^= 1
    written.write_bytes(content)
    assert MinariSource(copy, episodes=1).describe().provenance["sha256"] != provenance["sha256"]


def test_environment_id_is_kept_if_recorded(record_counter):
    folder = record_counter(2)
    written = folder / "data" / "metadata.json"
    metadata = json.loads(written.read_text())
    specs = {"env_spec": '{"id": "Counter-v0"}', "eval_env_spec": '{"id": "Other-v0"}', "ref_min_score": -3.5}
    written.write_text(json.dumps({**metadata, **specs}))
    provenance = MinariSource(folder).describe().provenance
    assert provenance["env_id"] == "Counter-v0"
    assert specs.items() <= provenance.items()
    written.write_text(json.dumps({**metadata, "env_spec": "{damaged"}))
    assert MinariSource(folder).describe().provenance["env_id"] is None


@every_layout
def test_threads_read_the_same_as_one_thread(record, minari_counter, layout):
    source = MinariSource(record([minari_counter(e, 3) for e in range(12)], ONE, ACTION, data_format=layout))
    with ThreadPoolExecutor(4) as pool:
        firsts = list(pool.map(lambda number: source.read(number % 12).observations["state"][0, 0], range(96)))
    assert firsts == [1000 * (number % 12) for number in range(96)]


def test_file_is_opened_once_and_closed_with_its_source(record_counter, monkeypatch):
    folder = record_counter(*[2] * 10)
    opened: list[h5py.File] = []

    def spy(*args: Any, real: Any = h5py.File, **settings: Any) -> h5py.File:
        opened.append(real(*args, **settings))
        return opened[-1]

    monkeypatch.setattr(h5py, "File", spy)
    source = MinariSource(folder)
    assert len(list(read_all(source))) == 10
    assert [bool(file) for file in opened] == [True]
    del source
    assert not any(opened)
