"""Zarr groups, as replay buffers of diffusion policies are stored."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets.episode import align
from dreamset.datasets.inspection import describe_path
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.files import tables_at
from dreamset.datasets.sources.mapped.source import MappedSource
from dreamset.datasets.sources.zarr_table import ZarrTable

zarr = pytest.importorskip("zarr", reason="the extra dreamset[zarr] is not installed")

ROLES: dict[str, Any] = {
    "observations": {"image": "data/img", "state": "data/state"},
    "action": "data/action",
    "reward": None,
    "terminal": None,
    "boundaries": {"stops": "meta/episode_ends"},
}
STOPS = [4, 7, 12]


def write(path: Path, zarr_format: int = 2, **options: Any) -> Path:
    """Three episodes; the state counts the rows, and chunks cross the ends of episodes."""
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    count = np.arange(12.0)
    image = np.zeros((12, 8, 8, 3), np.uint8)
    image[:, 0, 0, 0] = count
    columns = {"state": np.stack([count, -count], 1), "action": (count / 20)[:, None], "img": image}
    for name, values in columns.items():
        root.create_array(f"data/{name}", data=values, chunks=(5, *values.shape[1:]), **options)
    root.create_array("meta/episode_ends", data=np.array(STOPS))
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_episodes_of_a_replay_buffer_end_at_its_stops(tmp_path, zarr_format):
    source = MappedSource(write(tmp_path / "replay.zarr", zarr_format), **ROLES)
    assert source.episode_count == 3
    for raw, start, stop in zip(read_all(source), [0, *STOPS], STOPS, strict=False):
        count = np.arange(start, stop)
        assert raw.observations["state"].tolist() == np.stack([count, -count], 1).tolist()
        assert raw.observations["image"][:, 0, 0, 0].tolist() == count.tolist()
        assert raw.actions[:, 0].tolist() == (count[:-1] / 20).astype(np.float32).tolist()
        align(raw, source.describe())
    assert source.describe().provenance["files"] > 10


def test_shards_and_groups_in_a_folder_are_read(tmp_path):
    write(tmp_path / "a.zarr", 3, shards=None)
    root = zarr.open_group(tmp_path / "b.zarr", mode="w")
    root.create_array("x", data=np.arange(24.0).reshape(12, 2), chunks=(2, 2), shards=(6, 2))
    assert ZarrTable(tmp_path / "b.zarr").read(["x"], "here", slice(5, 8))["x"].tolist() == [
        [10, 11],
        [12, 13],
        [14, 15],
    ]
    assert [path.name for path in tables_at(tmp_path)] == ["a.zarr", "b.zarr"]


def test_changed_chunk_changes_the_provenance(tmp_path):
    path = write(tmp_path / "replay.zarr")
    before = MappedSource(path, **ROLES).describe().provenance["sha256"]
    zarr.open_group(path)["data/action"][0] = 0.5
    assert MappedSource(path, **ROLES).describe().provenance["sha256"] != before


def change(path: Path, **changes: Any) -> None:
    header = json.loads((path / "data/action/.zarray").read_text())
    (path / "data/action/.zarray").write_text(json.dumps({**header, **changes}))


def use_pickle(path: Path) -> None:
    """A chunk that would create a file if it were unpickled."""
    (path / "data/action/0.0").write_bytes(pickle.dumps(_Touch(path / "executed")))
    change(path, compressor={"id": "pickle", "protocol": 5})


def use_pickled_objects(path: Path) -> None:
    use_pickle(path)
    change(path, compressor=None, filters=[{"id": "pickle", "protocol": 5}], dtype="|O", fill_value=None)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def cut_a_chunk(path: Path) -> None:
    chunk = path / "data/action/0.0"
    chunk.write_bytes(chunk.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (use_pickle, "'data/action' is encoded by Pickle, which is refused|'data/action': unreadable or no zarr array"),
        (
            lambda path: change(path, filters=[{"id": "packbits"}]),
            "'data/action' is encoded by PackBits, which is refu",
        ),
        (use_pickled_objects, "'data/action': unreadable or no zarr array"),
        (lambda path: change(path, shape=[12, 1 << 40]), r"'data/action' claims \d+ bytes of which \d+ are stored"),
        (lambda path: change(path, dtype="<U4", fill_value=""), "'data/action' holds <U4|unreadable or no zarr array"),
        (cut_a_chunk, r"'data/action': the chunk 0\.0 is truncated"),
        (lambda path: (path / "data/action/.zarray").write_text("{"), "'data/action': unreadable or no zarr array"),
    ],
)
def test_tampered_group_is_refused_and_executes_nothing(tmp_path, tamper, message):
    path = write(tmp_path / "replay.zarr")
    tamper(path)
    with pytest.raises(UserError, match=message):
        MappedSource(path, **ROLES).read(0)
    assert not (path / "executed").exists()


def test_array_that_zarr_cannot_open_does_not_hide_the_others(tmp_path):
    path = write(tmp_path / "replay.zarr")
    (path / "meta/notes").mkdir()
    (path / "meta/notes/.zarray").write_text("{}")
    source = MappedSource(path, **ROLES)
    assert source.episode_count == 3
    assert list(source.describe().provenance["ignored_columns"]) == ["meta/notes"]


def test_missing_package_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "replay.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"zarr needs a package of this name; run pip install 'dreamset\[zarr\]'"):
        MappedSource(path, **ROLES)


def test_group_is_described_by_its_arrays_and_not_by_its_chunks(tmp_path):
    write(tmp_path / "data" / "replay", 3)
    expected = [
        "  data/action: float64[12, 1], from 0 to 0.55",
        "  data/img: uint8[12, 8, 8, 3]",
        "  data/state: float64[12, 2]",
        "  meta/episode_ends: int64[3]",
    ]
    for path in (tmp_path / "data", tmp_path / "data" / "replay"):
        assert describe_path(path).splitlines() == [str(tmp_path / "data" / "replay"), *expected]
