"""Infos become privileged columns: vectors by default, images and arrays with more axes by name."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, write_store
from dreamset.datasets.sources.base import read_all

ONE = spaces.Box(-np.inf, np.inf, (1,), np.float64)
ACTION = spaces.Box(-10.0, 1e6, (1,), np.float32)
LAYOUTS = ["hdf5", "arrow", "parquet"]
every_layout = pytest.mark.parametrize("layout", LAYOUTS)

ROWS = np.arange(4.0)
FRAMES = np.broadcast_to(20 * np.arange(4)[:, None, None, None], (4, 8, 9, 3)).astype(np.uint8)


@pytest.fixture
def record_infos(record, minari_counter):
    """Writes one episode of three transitions per dictionary of infos."""

    def write(*infos: dict[str, Any], layout: str = "hdf5") -> Path:
        episodes = [{**minari_counter(number, 3), "infos": info} for number, info in enumerate(infos)]
        return record(episodes, ONE, ACTION, data_format=layout)

    return write


@every_layout
def test_vectors_with_a_row_per_observation_are_privileged(record_infos, tmp_path, layout):
    infos = {
        "time": np.arange(4),
        "body": {"position": np.arange(8.0).reshape(4, 2)},
        "state": np.arange(4) * 3,
        "word": ["a", "b", "c", "d"],
        "map": np.arange(16.0).reshape(4, 2, 2),
    }
    store = write_store(MinariSource(record_infos(infos, infos, layout=layout)), tmp_path / "store")
    assert set(store.spec.privileged) == {"time", "body.position", "infos.state"}  # "state" is the observation
    assert store.read(1)["privileged.time"].tolist() == [[0], [1], [2], [3]]
    assert store.read(1)["privileged.body.position"].tolist() == infos["body"]["position"].tolist()
    assert store.read(1)["privileged.infos.state"].tolist() == [[0], [3], [6], [9]]
    assert store.info["source"]["ignored_infos"] == {
        "map": "shape (2, 2): a column only if 'privileged' names it",
        "word": "text, not numbers, in episode_0",
    }


def test_infos_with_other_numbers_of_rows_are_ignored(record_infos):
    source = MinariSource(record_infos({"short": np.arange(3), "single": 3.5}))
    assert source.describe().privileged == {}
    assert source.describe().provenance["ignored_infos"] == {
        "short": "3 rows instead of 4 in episode_0",
        "single": "a single value, not one per step, in episode_0",
    }


@every_layout
def test_arrays_and_images_are_columns_only_if_named(record_infos, layout):
    infos = {"map": np.arange(16.0).reshape(4, 2, 2), "view": FRAMES, "clock": ROWS}
    folder = record_infos(infos, infos, layout=layout)
    assert set(MinariSource(folder).describe().privileged) == {"clock"}
    source = MinariSource(folder, privileged=["view", "map"])
    assert source.describe().privileged["view"].is_image
    raw = source.read(1)
    assert raw.privileged["map"].tolist() == infos["map"].reshape(4, 4).tolist()
    assert np.array_equal(raw.privileged["view"], FRAMES)
    assert source.describe().provenance["ignored_infos"] == {}


@pytest.mark.parametrize("equally_long", [True, False])
def test_jpeg_infos_are_a_column_only_if_named(record_infos, equally_long):
    """Minari 0.5.3 encoded everything that looked like an image; images of equal length are rows of one array."""
    encoded = [jpeg(frame, padding=0 if equally_long else row) for row, frame in enumerate(FRAMES)]
    longest = max(map(len, encoded))
    folder = record_infos({"clock": ROWS}, {"clock": ROWS})
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for number in range(2):
            rows = [np.frombuffer(image, np.uint8) for image in encoded]
            if equally_long:
                rows = [np.pad(row, (0, longest - len(row))) for row in rows]
            infos = file[f"episode_{number}/infos"]
            view = infos.create_dataset(
                "view", (4, longest) if equally_long else 4, np.uint8 if equally_long else h5py.vlen_dtype(np.uint8)
            )
            for step, row in enumerate(rows):
                view[step] = row
            infos["bytes"] = np.arange(20, dtype=np.uint8).reshape(4, 5)
    source = MinariSource(folder)
    assert set(source.describe().privileged) == {"clock", "bytes"}
    reason = "JPEG images: a column only if 'privileged' names it"
    assert source.describe().provenance["ignored_infos"] == {"view": reason}
    assert source.describe().provenance["jpeg"] is False
    named = MinariSource(folder, privileged=["view"])
    assert named.describe().privileged["view"].shape == (8, 9, 3)
    assert np.abs(named.read(1).privileged["view"].astype(float) - FRAMES).max() <= 2
    assert named.describe().provenance["jpeg"] is True


def jpeg(frame: np.ndarray, *, padding: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG")
    return buffer.getvalue() + bytes(padding)


def test_invalid_image_info_is_refused_if_named(record_infos):
    folder = record_infos({"clock": ROWS})
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        view = file["episode_0/infos"].create_dataset("view", 4, h5py.vlen_dtype(np.uint8))
        view[0] = np.arange(9, dtype=np.uint8)
    with pytest.raises(UserError, match=r"episode_0 of .*'infos/view' at step 0 is not a readable JPEG"):
        MinariSource(folder, privileged=["view"])


@every_layout
def test_varying_infos_are_ignored_unless_named(record_infos, layout):
    infos = [
        {"a": np.arange(4), "b": np.zeros((4, 2))},
        {"b": np.zeros((4, 3)), "c": np.arange(4)},
        {"b": np.zeros((4, 3))},
    ]
    folder = record_infos(*infos, layout=layout)
    source = MinariSource(folder)
    assert source.describe().privileged == {}
    assert source.describe().provenance["ignored_infos"] == {
        "a": "missing in episode_1",
        "b": "shape (3,) instead of shape (2,) in episode_1",
        "c": "missing in earlier episodes, first seen in episode_1",
    }
    named = MinariSource(folder, privileged=["a", "b"])
    assert named.read(0).privileged["a"].tolist() == [[0], [1], [2], [3]]
    with pytest.raises(UserError, match=r"episode_1 of .*'infos/a' is missing"):
        named.read(1)
    with pytest.raises(UserError, match=r"episode_1 of .*'infos/b' holds float64\[3\] per row"):
        MinariSource(folder, privileged=["b"]).read(1)


def test_unusable_info_error_names_the_reason(record_infos):
    folder = record_infos({"word": ["a", "b", "c", "d"], "clock": ROWS})
    with pytest.raises(
        UserError, match=r"'word' of the setting 'privileged' cannot be a column \(text, not numbers, in episode_0\)"
    ):
        MinariSource(folder, privileged=["word"])


def remove_group(file: h5py.File) -> None:
    del file["episode_1"]


def remove_rewards(file: h5py.File) -> None:
    del file["episode_1/rewards"]


def shorten_rewards(file: h5py.File) -> None:
    file["episode_1/rewards"].resize((2,))


def circle(file: h5py.File) -> None:
    file["episode_1/infos/again"] = file["episode_1/infos"]


def replace_infos(file: h5py.File) -> None:
    del file["episode_1/infos"]
    file["episode_1/infos"] = [1.0]


DAMAGE = {
    remove_group: ("the group is missing; the file is incomplete, copy or download it again", "the group is missing"),
    remove_rewards: ("'rewards' is missing; the file is incomplete, copy or download it again", "'rewards' is missing"),
    shorten_rewards: ("'observations' has 4 rows, expected 3", "has 3 rows, expected 2"),
    replace_infos: (
        "'infos' is an array, expected a group of arrays; copy the dataset again",
        "'infos/clock' is missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_episode_is_reported_on_read_and_others_are_unaffected(record_infos, damage):
    folder = record_infos(*[{"clock": ROWS + 10 * number} for number in range(3)])
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        damage(file)
    source = MinariSource(folder)
    reasons, actual = DAMAGE[damage]
    assert source.describe().provenance["episodes_with_unknown_infos"] == {"episode_1": reasons}
    assert source.episode_count == 3
    assert [source.read(n).privileged["clock"][0, 0] for n in (0, 2)] == [0, 20]
    with pytest.raises(UserError, match=rf"^episode_1 of .*main_data\.hdf5: .*{actual}"):
        source.read(1)


def test_cyclic_infos_do_not_affect_their_episode(record_infos):
    folder = record_infos(*[{"clock": ROWS}] * 2)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        circle(file)
    source = MinariSource(folder)
    assert "nested deeper than 16 groups" in source.describe().provenance["episodes_with_unknown_infos"]["episode_1"]
    assert source.read(1).privileged["clock"][:, 0].tolist() == ROWS.tolist()


def test_many_damaged_episodes_are_summarised(record_counter):
    folder = record_counter(*[1] * 3)
    written = folder / "data" / "metadata.json"
    written.write_text(json.dumps({**json.loads(written.read_text()), "total_episodes": 40}))
    reasons = MinariSource(folder).describe().provenance["episodes_with_unknown_infos"]
    assert list(reasons)[:2] == ["episode_3", "episode_4"]
    assert reasons["further episodes"] == "17 more"
    assert len(reasons) == 21


@every_layout
def test_episodes_without_infos_have_none(record_infos, layout):
    source = MinariSource(record_infos({}, {}, layout=layout))
    assert [raw.privileged for raw in read_all(source)] == [{}, {}]
