"""Files of older Minari versions, written by hand because current Minari cannot write them."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, write_store

VECTOR = {"type": "Box", "dtype": "float64", "shape": [1], "low": [-np.inf], "high": [np.inf]}
ACTION = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-10.0], "high": [1e6]}
GREY = {"type": "Box", "dtype": "uint8", "shape": [32, 40], "low": 0, "high": 255}
COLOUR = {**GREY, "shape": [32, 40, 3]}
TABLE = {**GREY, "shape": [5, 7]}
STEPS = 4


def write_episode(group: h5py.Group, number: int, observations: dict[str, Any]) -> None:
    count = 1000.0 * number + np.arange(STEPS + 1)
    last = np.arange(STEPS) == STEPS - 1
    columns = {
        **observations,
        "actions": (count[:-1, None] + 0.25).astype(np.float32),
        "rewards": count[:-1] + 0.5,
        "terminations": last & (number == 0),
        "truncations": last & (number == 1),
    }
    for path, values in columns.items():
        group.create_dataset(path, data=values, chunks=True, maxshape=(None, *values.shape[1:]))
    group.attrs.update({"id": number, "total_steps": STEPS, "seed": "None"})


def counts(number: int) -> np.ndarray:
    return 1000.0 * number + np.arange(STEPS + 1)


def test_minari_0_4_single_file_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    pair = {"type": "Tuple", "subspaces": [VECTOR, {"type": "Discrete", "dtype": "int64", "start": 0, "n": 5}]}
    space = {"type": "Dict", "subspaces": {"body": VECTOR, "pair": pair}}
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w", track_order=True) as file:
        file.attrs.update(
            {
                "observation_space": json.dumps(space),
                "action_space": json.dumps(ACTION),
                "env_spec": json.dumps({"id": "Counter-v0"}),
                "dataset_id": "counter-test-v0",
                "author": np.bytes_("someone"),
                "minari_version": "~=0.4",
                "ref_max_score": np.float64(7.5),
                "total_episodes": np.int64(2),
                "total_steps": np.int64(2 * STEPS),
            }
        )
        for number in range(2):
            observations = {
                "observations/body": counts(number)[:, None],
                "observations/pair/_index_0": 2 * counts(number)[:, None],
                "observations/pair/_index_1": np.arange(STEPS + 1),
                "infos/clock": 3 * counts(number),
            }
            write_episode(file.create_group(f"episode_{number}"), number, observations)
    source = MinariSource(tmp_path)
    assert source.episode_count == 2
    for number in range(2):
        raw = source.read(number)
        assert raw.observations["body"][:, 0].tolist() == counts(number).tolist()
        assert raw.observations["pair._index_0"][:, 0].tolist() == (2 * counts(number)).tolist()
        assert raw.observations["pair._index_1"].argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
        assert raw.privileged["clock"][:, 0].tolist() == (3 * counts(number)).tolist()
        assert raw.actions[:, 0].tolist() == (counts(number)[:-1] + 0.25).tolist()
        assert raw.rewards.tolist() == (counts(number)[:-1] + 0.5).tolist()
        assert raw.terminated == (number == 0)
    provenance = source.describe().provenance
    assert (provenance["dataset_id"], provenance["env_id"]) == ("counter-test-v0", "Counter-v0")
    assert (provenance["author"], provenance["ref_max_score"]) == ("someone", 7.5)
    store = write_store(source, tmp_path / "store")
    assert store.info["source"] == provenance


@pytest.fixture
def written(tmp_path):
    """Writes a dataset of one episode whose observations are stored as given, and returns its folder."""

    def write(space: dict[str, Any], version: str, store: Any) -> Path:
        (tmp_path / "data").mkdir()
        metadata = {"observation_space": json.dumps(space), "action_space": json.dumps(ACTION), "data_format": "hdf5"}
        metadata |= {"minari_version": version, "total_episodes": 1}
        (tmp_path / "data" / "metadata.json").write_text(json.dumps(metadata))
        with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
            group = file.create_group("episode_0")
            write_episode(group, 0, {})
            store(group)
        return tmp_path

    return write


def frames(shape: list[int]) -> np.ndarray:
    """All pixels of step t are 50 t."""
    steps = np.arange(STEPS + 1, dtype=np.uint8).reshape(-1, *[1] * len(shape))
    return np.broadcast_to(steps * 50, (STEPS + 1, *shape))


def encoded(shape: list[int]) -> list[np.ndarray]:
    rows = []
    for frame in frames(shape):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="JPEG")
        rows.append(np.frombuffer(buffer.getvalue(), np.uint8))
    return rows


def put_ragged(shape: list[int]) -> Any:
    def store(group: h5py.Group) -> None:
        data = group.create_dataset("observations", (STEPS + 1,), h5py.vlen_dtype(np.uint8))
        for step, row in enumerate(encoded(shape)):
            data[step] = row

    return store


def put_equally_long(shape: list[int]) -> Any:
    def store(group: h5py.Group) -> None:
        rows = encoded(shape)
        longest = max(map(len, rows))
        group["observations"] = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])

    return store


def put_raw(shape: list[int]) -> Any:
    def store(group: h5py.Group) -> None:
        group["observations"] = frames(shape)

    return store


@pytest.mark.parametrize("space", [GREY, COLOUR])
@pytest.mark.parametrize(
    ("version", "put", "jpeg"),
    [("0.5.0", put_raw, False), ("0.5.3", put_ragged, True), ("0.5.3", put_equally_long, True)],
)
def test_images_of_every_version_are_read(written, space, version, put, jpeg):
    source = MinariSource(written(space, version, put(space["shape"])))
    actual = source.read(0).observations["image"]
    assert actual.shape == (STEPS + 1, 32, 40, 3 if space is COLOUR else 1)
    assert np.abs(actual.astype(int).mean(axis=(1, 2, 3)) - 50 * np.arange(STEPS + 1)).max() < 1
    assert source.describe().provenance["jpeg"] is jpeg
    assert source.describe().provenance["minari_version"] == version


def test_small_byte_array_is_a_vector(written):
    raw = MinariSource(written(TABLE, "0.5.2", put_raw([5, 7]))).read(0)
    assert raw.observations["state"].tolist() == frames([5, 7]).reshape(STEPS + 1, 35).tolist()


@pytest.mark.parametrize("put", [put_ragged, put_equally_long])
def test_byte_array_encoded_as_an_image_is_refused(written, put):
    """Like Minari 0.5.3, which loses the numbers."""
    source = MinariSource(written(TABLE, "0.5.3", put([5, 7])))
    with pytest.raises(UserError, match=r"episode_0 of .*'observations' holds .* declares numbers of shape \[5, 7\]"):
        source.read(0)


def test_image_with_an_enormous_declared_size_is_refused(written):
    def store(group: h5py.Group) -> None:
        put_equally_long([32, 40])(group)
        row = group["observations"][3].tobytes()
        place = row.index(b"\xff\xc0") + 5  # of the height and width
        group["observations"][3] = np.frombuffer(row[:place] + b"\xff" * 4 + row[place + 4 :], np.uint8)

    with pytest.raises(UserError, match=r"episode_0 of .* at step 3 is not a readable JPEG .*4294836225 pixels"):
        MinariSource(written(GREY, "0.5.3", store)).read(0)


def test_single_file_without_spaces_is_refused(tmp_path):
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        file.attrs["dataset_id"] = "counter-test-v0"
    with pytest.raises(UserError, match="the metadata lack 'observation_space'"):
        MinariSource(tmp_path)
