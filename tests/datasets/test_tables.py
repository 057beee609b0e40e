"""Tables of one row per step, folders of arrays, and columns side by side."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from dreamset.core.errors import UserError
from dreamset.datasets.episode import align
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.columnar import CSVTable, ParquetTable
from dreamset.datasets.sources.files import open_table, tables_at
from dreamset.datasets.sources.mapped.source import MappedSource

ROLES: dict[str, Any] = {
    "observations": {"state": ["x", "v"]},
    "action": "u",
    "reward": "r",
    "terminal": None,
    "action_low": -9,
    "action_high": 9,
}


def steps(lengths: list[int]) -> dict[str, Any]:
    """One row per step of several episodes; x counts the rows of all."""
    rows = np.arange(float(sum(lengths)))
    episode = np.repeat(np.arange(len(lengths)), lengths)
    return {"x": rows, "v": -rows, "u": rows / 100, "r": rows + 0.5, "episode": episode}


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def states(source: MappedSource) -> list[list[float]]:
    return [raw.observations["state"][:, 0].tolist() for raw in read_all(source)]


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("group", [1, 3, 8])
def test_any_rows_of_a_parquet_file_equal_those_of_the_whole(tmp_path, start, group):
    vectors = np.arange(14.0).reshape(7, 2)
    file = write(tmp_path / "a.parquet", {"n": np.arange(7), "vector": list(vectors)}, row_group_size=group)
    for stop in range(start, 8):
        part = ParquetTable(file).read(["vector", "n"], "here", slice(start, stop))
        assert part["n"].tolist() == list(range(start, min(stop, 7)))
        assert part["vector"].tolist() == vectors[start:stop].tolist()


def test_headers_of_a_parquet_file_are_those_of_its_arrays(tmp_path):
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0, dtype=np.float32)), 3)
    kinds = {"f": vector, "n": [1, 2], "b": [True, False], "nested": [[[1, 2]], [[3, 4]]], "s": [{"k": 1}, {"k": 2}]}
    table = ParquetTable(write(tmp_path / "a.parquet", kinds))
    headers = table.headers("here")
    assert {name: headers[name].shape for name in kinds} == {
        "f": (2, 3),
        "n": (2,),
        "b": (2,),
        "nested": (2, 1, 2),
        "s": (2,),
    }
    for name in ("f", "n", "b", "nested"):
        assert table.read([name], "here")[name].dtype == headers[name].dtype
    with pytest.raises(UserError, match=r"^here: 's' holds struct<.*expected numbers; omit the column"):
        table.read(["s"], "here")


def test_missing_numbers_are_nan_and_missing_flags_are_false(tmp_path):
    columns = {"x": [1, None, 3], "done": [None, False, True]}
    read = ParquetTable(write(tmp_path / "a.parquet", columns)).read(["x", "done"], "here")
    assert np.array_equal(read["x"], [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(read["done"], [np.nan, 0, 1], equal_nan=True)


def test_lists_of_different_lengths_are_refused_where_they_are_read(tmp_path):
    table = ParquetTable(write(tmp_path / "a.parquet", {"u": [[1.0], [2.0], [3.0, 4.0]]}))
    assert table.read(["u"], "here", slice(0, 2))["u"].tolist() == [[1], [2]]
    with pytest.raises(UserError, match=r"^here: 'u' holds lists of different lengths"):
        table.read(["u"], "here")


def test_a_late_fraction_makes_a_csv_column_of_numbers(tmp_path):
    """The kind of a column follows from all rows: 0 in the first megabyte does not make it whole numbers."""
    rows = 1 << 19
    file = tmp_path / "a.csv"
    file.write_text("r,x\n" + "0,1\n" * (rows - 1) + "0.5,1\n")
    table = CSVTable(file)
    assert table.headers("here")["r"].dtype == np.float64
    assert table.read(["r"], "here", slice(rows - 2, None))["r"].tolist() == [0, 0.5]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_csv_delimiter_follows_from_the_first_line(tmp_path, delimiter):
    (tmp_path / "a.csv").write_text("\n".join(delimiter.join(line) for line in (["x", "v"], ["1", "2.5"], ["3", "4"])))
    read = CSVTable(tmp_path / "a.csv").read(["x", "v"], "here")
    assert {name: values.tolist() for name, values in read.items()} == {"x": [1, 3], "v": [2.5, 4]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x,v\n1,2\n3\n", r"a\.csv: unreadable, truncated or not csv \(.*Expected 2 columns, got 1"),
        ("a.parquet", b"PAR1 no more", r"a\.parquet: unreadable, truncated or not parquet \(.*; copy it again"),
        ("a.parquet", None, r"a\.parquet: no such file"),
    ],
)
def test_damaged_table_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        MappedSource(tmp_path / name, **ROLES)


def test_a_new_episode_begins_where_one_of_the_columns_changes(tmp_path):
    columns = {**steps([2, 3, 2, 2]), "episode": [0, 0, 1, 1, 1, 0, 0, 0, 0], "worker": list("aaaaaaabb")}
    file = write(tmp_path / "a.parquet", columns)
    one = MappedSource(file, **ROLES, boundaries={"changes": "episode"}, final_transition="repeat")
    assert [len(raw.rewards) for raw in read_all(one)] == [2, 3, 4]
    both = MappedSource(file, **ROLES, boundaries={"changes": ["episode", "worker"]}, final_transition="repeat")
    assert [raw.rewards.tolist() for raw in read_all(both)] == [[0.5, 1.5], [2.5, 3.5, 4.5], [5.5, 6.5], [7.5, 8.5]]


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        ([0.0, 0.0, np.nan, np.nan], "'episode' has no value in row 2"),
        (["a", "a", None, "b"], "'episode' has no value in row 2"),
        ([[0, 1]] * 4, r"'episode' holds \[2\] per row, expected one value"),
        ([0, 1, 0, 1], "change in 4 of 4 rows, but episodes have two rows or more; sort the rows by episode and step"),
    ],
)
def test_column_that_numbers_no_episodes_is_refused(tmp_path, episode, message):
    file = write(tmp_path / "a.parquet", {**steps([2, 2]), "episode": episode})
    with pytest.raises(UserError, match=message):
        MappedSource(file, **ROLES, boundaries={"changes": "episode"})


@pytest.mark.parametrize("stops", [[2, 2, 4], [2, 3], [2, 5], [3, 2, 4], [1.5, 4], []])
def test_stops_ascend_to_the_number_of_rows(tmp_path, stops):
    np.savez(tmp_path / "a.npz", **steps([2, 2]), stops=np.array(stops))
    with pytest.raises(UserError, match=r"'stops' ends at .*, expected ascending whole numbers, the last of them 4"):
        MappedSource(tmp_path / "a.npz", **ROLES, boundaries={"stops": "stops"})


def test_columns_side_by_side_are_one_vector_in_the_given_order(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["obs/arm"], file["obs/grip"] = np.arange(8.0).reshape(4, 2), np.arange(4, dtype=np.int32) + 100
        file["cmd"], file["joints"] = np.full((4, 2), 0.25), np.full(4, -0.5, np.float32)
    source = MappedSource(
        tmp_path / "a.h5",
        observations={"state": ["obs/grip", "obs/arm"], "arm": "obs/arm"},
        privileged={"all": ["obs/arm", "cmd"]},
        action=["joints", "cmd"],
        reward=None,
        terminal=None,
    )
    raw = source.read(0)
    assert raw.observations["state"].tolist() == [[100, 0, 1], [101, 2, 3], [102, 4, 5], [103, 6, 7]]
    assert raw.observations["arm"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert raw.privileged["all"].tolist() == [[2 * t, 2 * t + 1, 0.25, 0.25] for t in range(4)]
    assert raw.actions.tolist() == [[-0.5, 0.25, 0.25]] * 3
    align(raw, source.describe())
    assert source.describe().provenance["observations"]["state"] == "obs/grip + obs/arm"
    assert source.describe().provenance["ignored_columns"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": np.zeros(5)}, r"side by side have different numbers of rows, \{'x': 4, 'v': 5\}"),
        ({"v": np.array(list("abcd"))}, r"'x \+ v' holds <U\d+\[2\] per row, expected numbers"),
        ({"v": np.zeros((4, 3, 3, 3), np.uint8)}, "'x \\+ v': only numbers and vectors can stand side by side"),
        ({"w": np.zeros(4)}, r"'x \+ v' is missing; available"),
    ],
)
def test_columns_that_do_not_fit_side_by_side_are_refused(tmp_path, change, message):
    columns = {**steps([4]), **change}
    if "w" in change:
        del columns["v"]
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(UserError, match=message):
        MappedSource(tmp_path / "a.npz", **ROLES).read(0)


def write_folder(folder: Path, columns: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)


def test_folders_of_episodes_may_be_links_and_have_any_name(tmp_path):
    names = ["run 2", "run 10", "ü=[1] 100% $x {a}"]
    for number, name in enumerate(names):
        write_folder(tmp_path / "elsewhere" / name, {key: v + number for key, v in steps([3]).items()})
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "run 2" / "cycle").symlink_to(tmp_path / "elsewhere")
    source = MappedSource(tmp_path / "link", **ROLES, boundaries={"folders": ""})
    assert states(source) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]][: len(names)]


def test_nested_files_of_a_folder_are_columns_named_by_their_path(tmp_path):
    write_folder(tmp_path / "episodes/a/obs", {"x": np.arange(3.0), "v": np.arange(3.0)})
    (tmp_path / "episodes/a/note.txt").write_text("ignored")
    with h5py.File(tmp_path / "episodes/a/log.h5", "w") as file:
        file["act/u"], file["r"] = np.zeros(3), np.ones(3)
    roles = {"observations": {"state": ["obs/x", "obs/v"]}, "action": "log/act/u", "reward": "log/r"}
    source = MappedSource(tmp_path, **{**ROLES, **roles}, boundaries={"folders": "episodes"})
    assert states(source) == [[0, 1, 2]]
    assert source.describe().provenance["files"] == 4


def test_column_of_a_folder_is_that_of_the_longest_file_name(tmp_path):
    write_folder(tmp_path / "a/obs", {"x": np.arange(3.0)})
    np.savez(tmp_path / "a/obs.npz", v=-np.arange(3.0))
    read = open_table(tmp_path / "a").read(["obs/x", "obs/v"], "here")
    assert {name: values.tolist() for name, values in read.items()} == {"obs/x": [0, 1, 2], "obs/v": [0, -1, -2]}


def test_empty_list_of_columns_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **steps([4]))
    with pytest.raises(UserError, match="a list of columns is empty; name one column or more"):
        MappedSource(tmp_path / "a.npz", **{**ROLES, "action": []})


def test_changed_file_in_a_folder_changes_the_provenance(tmp_path):
    write_folder(tmp_path / "data/a", steps([3]))
    settings = {**ROLES, "boundaries": {"folders": ""}}
    before = MappedSource(tmp_path / "data", **settings).describe().provenance
    np.save(tmp_path / "data/a/r.npy", np.zeros(3))
    assert MappedSource(tmp_path / "data", **settings).describe().provenance["sha256"] != before["sha256"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "r.npy").unlink(), "'r' is missing"),
        (lambda folder: (folder / "r.npy").write_bytes(b"\x93NUMPY"), r"r\.npy: unreadable, truncated or no array"),
        (lambda folder: np.save(folder / "r.npy", np.array([None] * 3), allow_pickle=True), "Python objects in dtype"),
        (lambda folder: np.save(folder / "r.npy", np.float64(1)), r"r\.npy is a single value"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "contains no files of arrays"),
    ],
)
def test_damaged_folder_is_named_and_the_others_stay_readable(tmp_path, damage, message):
    for name in ("a", "b"):
        write_folder(tmp_path / name, steps([3]))
    damage(tmp_path / "b")
    source = MappedSource(tmp_path, **ROLES, boundaries={"folders": ""})
    assert source.read(0).rewards.tolist() == [0.5, 1.5]
    with pytest.raises(UserError, match=rf"episode 1 of .*{message}"):
        source.read(1)


def test_files_of_the_same_name_in_a_folder_are_refused(tmp_path):
    write_folder(tmp_path / "a", steps([3]))
    np.savez(tmp_path / "a" / "x.npz", y=np.zeros(3))
    with pytest.raises(UserError, match="contains several files named 'x'"):
        open_table(tmp_path / "a").headers("here")


def test_a_table_beside_npz_episodes_is_no_episode(tmp_path):
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", **steps([3]))
    write(tmp_path / "index.parquet", {"episode": [0, 1]})
    (tmp_path / "notes.csv").write_text("a\n1\n")
    np.save(tmp_path / "mean.npy", np.zeros(2))
    assert [path.name for path in tables_at(tmp_path)] == ["0.npz", "1.npz"]


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.parquet", steps([3]))
    assert states(MappedSource("~/a.parquet", **ROLES)) == [[0, 1, 2]]


def test_videos_beside_the_tables_are_pointed_to_their_layout(tmp_path):
    (tmp_path / "0.mp4").write_bytes(b"")
    hint = r"videos are read only in the layout of LeRobot \(dataset=lerobot\)"
    with pytest.raises(UserError, match=rf"contains no files .*; {hint}"):
        MappedSource(tmp_path, **ROLES)
    write(tmp_path / "0.parquet", {"u": [0.0, 1.0], "r": [0.0, 1.0]})
    with pytest.raises(UserError, match=rf"'x \+ v' is missing; available: .*; {hint}"):
        MappedSource(tmp_path, **ROLES)
