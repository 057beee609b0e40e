"""Damage to the Arrow and Parquet layouts, with one folder and file per episode."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, write_store
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.minari import parts as minari_parts

BODY = spaces.Dict(pose=spaces.Box(-np.inf, np.inf, (2, 2), np.float64), gear=spaces.Discrete(9))
ACTION = spaces.Box(-10.0, 1e6, (1,), np.float32)


@pytest.fixture(params=["arrow", "parquet"])
def layout(request) -> str:
    return request.param


@pytest.fixture
def folder(record, minari_counter, layout) -> Path:
    """Three episodes of four transitions."""
    observations = {"pose": np.arange(20.0).reshape(5, 2, 2), "gear": np.arange(5)}
    extras = {"observations": observations, "infos": {"clock": np.arange(5)}}
    return record([{**minari_counter(e, 4), **extras} for e in range(3)], BODY, ACTION, data_format=layout)


def part_of(folder: Path, layout: str, episode: int = 1) -> Path:
    return folder / "data" / str(episode) / f"part-0.{layout}"


def read_table(path: Path) -> pa.Table:
    return pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.feather.read_table(path)


def write_table(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        pa.feather.write_feather(table, path, compression="uncompressed")


def replace_column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def numbers(count: int = 5, **settings: Any) -> pa.Array:
    return pa.array(np.arange(float(count)), **settings)


DAMAGE: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "no rewards": (lambda table: table.drop_columns("rewards"), "'rewards' is missing"),
    "no part of a Dict": (
        lambda table: replace_column("observations", pa.StructArray.from_arrays([numbers()], ["gear"]))(table),
        "'observations/pose' is missing",
    ),
    "array for a Dict": (replace_column("observations", numbers()), "'observations/pose' is missing"),
    "Dict for an array": (
        lambda table: replace_column("rewards", pa.StructArray.from_arrays([numbers()], ["x"]))(table),
        "'rewards' is a group, expected an array",
    ),
    "text rewards": (replace_column("rewards", pa.array(list("abcde"))), "'rewards' holds text; allowed: numbers"),
    "missing rewards": (
        replace_column("rewards", pa.array([1.0, None, 2.0, None, 0.0])),
        "'rewards' lacks 2 of 5 values",
    ),
    "ragged actions": (replace_column("actions", pa.array([[1.0], [], [], [], []])), "'actions' holds list<.*elements"),
    "wider actions": (
        replace_column("actions", pa.FixedSizeListArray.from_arrays(numbers(10), 2)),
        r"'actions' holds float64\[2\] per row, its space declares numbers of shape \[1\]",
    ),
    "fewer rows": (lambda table: table.slice(0, 4), "has 4 rows, expected 5 for the 4 steps of its metadata"),
    "one column twice": (lambda table: table.append_column("rewards", table["rewards"]), "'rewards' is missing"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_one_damaged_episode_is_named_and_the_others_are_read(folder, layout, case, tmp_path):
    change, message = DAMAGE[case]
    path = part_of(folder, layout)
    write_table(path, change(read_table(path)))
    source = MinariSource(folder)
    assert source.episode_count == 3
    assert source.read(2).privileged["clock"][:, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=message) as caught:
        write_store(source, tmp_path / "store")
    assert str(caught.value).startswith(f"episode_1 of {path}: ")
    assert "\n" not in str(caught.value)


def test_unchanged_rewritten_file_is_read(folder, layout):
    """A control for the damage above."""
    path = part_of(folder, layout)
    before = MinariSource(folder).read(1)
    write_table(path, read_table(path))
    after = MinariSource(folder).read(1)
    assert np.array_equal(before.observations["pose"], after.observations["pose"])
    assert np.array_equal(before.actions, after.actions)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_named(folder, layout, kept):
    path = part_of(folder, layout)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    source = MinariSource(folder)
    reasons = source.describe().provenance["episodes_with_unknown_infos"]
    assert list(reasons) == ["episode_1"]
    assert str(folder) not in reasons["episode_1"]
    assert len([source.read(number) for number in (0, 2)]) == 2
    with pytest.raises(UserError, match=rf"^episode_1 of .*1/part-0\.{layout}: unreadable or truncated") as caught:
        source.read(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_are_read_or_refused_but_never_crash(folder, layout, tmp_path, seed):
    path = part_of(folder, layout)
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(0, len(content), 8):
        content[place] ^= int(generator.integers(1, 256))
    path.write_bytes(content)
    try:
        store = write_store(MinariSource(folder), tmp_path / "store")
    except UserError:
        assert not list(tmp_path.glob("*store*"))
    else:
        store.verify()


def test_missing_episode_is_named_when_it_is_read(folder, layout):
    part_of(folder, layout).unlink()
    (folder / "data" / "2" / "metadata.json").unlink()
    part_of(folder, layout, 2).unlink()
    (folder / "data" / "2").rmdir()
    source = MinariSource(folder)
    assert source.episode_count == 3  # as the metadata say
    assert len(source.read(0).rewards) == 4
    for number in (1, 2):
        with pytest.raises(UserError, match=rf"^episode_{number} of .*/{number}/part-0\.{layout}: no such file"):
            source.read(number)


def test_second_part_is_refused(folder, layout):
    part_of(folder, layout).with_name(f"part-1.{layout}").touch()
    with pytest.raises(UserError, match=r"episode_1 of .*: the episode has several parts"):
        MinariSource(folder).read(1)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"total_steps": null}'])
def test_damaged_metadata_of_an_episode_are_named(folder, text):
    (folder / "data" / "1" / "metadata.json").write_text(text)
    source = MinariSource(folder)
    assert len(source.read(0).rewards) == 4
    with pytest.raises(UserError, match=r"episode_1 of .*metadata\.json has no valid 'total_steps'"):
        source.read(1)


def test_episode_metadata_are_optional(folder):
    (folder / "data" / "1" / "metadata.json").unlink()
    assert MinariSource(folder).read(1).actions.tolist() == [[1000.25], [1001.25], [1002.25], [1003.25]]


def test_unnamed_infos_column_damages_only_its_episode(folder, layout):
    path = part_of(folder, layout)
    write_table(path, replace_column("infos", numbers())(read_table(path)))
    source = MinariSource(folder)
    assert "'infos' is an array" in source.describe().provenance["episodes_with_unknown_infos"]["episode_1"]
    with pytest.raises(UserError, match=r"episode_1 of .*'infos/clock' is missing"):
        source.read(1)


def test_missing_episodes_are_refused(folder):
    for number in range(3):
        (folder / "data" / str(number)).rename(folder / f"moved-{number}")
    with pytest.raises(UserError, match=r"/data: contains no episodes"):
        MinariSource(folder)


def test_parquet_file_with_an_impossible_size_is_refused(record, minari_counter, monkeypatch):
    space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    folder = record([minari_counter(0, 4)], space, ACTION, data_format="parquet")
    path = part_of(folder, "parquet", 0)
    rows, width = 1 << 14, 160
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * width)), width)
    narrow = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows)), 1)
    columns = {"observations": wide, "rewards": pa.array(np.zeros(rows)), "actions": narrow}
    write_table(path, pa.table({**columns, "terminations": pa.array(np.zeros(rows, bool))}))
    assert path.stat().st_size * 1100 < rows * width * 8
    monkeypatch.setattr(minari_parts, "_UNSUSPICIOUS", 1 << 10)
    monkeypatch.setattr(pa.parquet.ParquetFile, "read", lambda *_args, **_settings: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match=r"it claims \d+ bytes of which \d+ are stored"):
        MinariSource(folder).read(0)


def test_valid_files_are_read_completely(folder):
    assert [len(raw.rewards) for raw in read_all(MinariSource(folder))] == [4, 4, 4]
    assert json.loads((folder / "data" / "metadata.json").read_text())["total_episodes"] == 3
