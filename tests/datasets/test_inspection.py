"""``describe_path`` describes files and fails on damaged ones with one line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from dreamset.core.errors import UserError
from dreamset.datasets.inspection import describe_path


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((7, 3), np.float32)
        file["rewards"] = np.zeros(7)
        file["infos/qpos"] = np.zeros((7, 2))
        file["note"] = "text"
        file.create_dataset("frames", (7,), h5py.vlen_dtype(np.uint8))


def write_npz(path: Path) -> None:
    np.savez_compressed(path, image=np.zeros((5, 4, 4, 3), np.uint8), reward=np.arange(5.0))


def write_parquet(path: Path) -> None:
    parquet.write_table(pa.table({"action": [[1.0, 2.0], [3.0, 4.0]], "episode_index": [0, 0]}), path)


def write_json(path: Path) -> None:
    path.write_text(json.dumps({"codebase_version": "v3.0", "fps": 10}))


WRITERS: dict[str, Callable[[Path], None]] = {
    ".hdf5": write_hdf5,
    ".h5": write_hdf5,
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".json": write_json,
}


@pytest.fixture
def written(tmp_path) -> Callable[[str], Path]:
    def write(suffix: str) -> Path:
        WRITERS[suffix](tmp_path / f"file{suffix}")
        return tmp_path / f"file{suffix}"

    return write


@pytest.mark.parametrize("suffix", [".hdf5", ".h5"])
def test_hdf5_is_shown_as_a_tree(written, suffix):
    path = written(suffix)
    assert describe_path(path).splitlines() == [
        str(path),
        "  frames: object[7]",
        "  infos/",
        "    qpos: float64[7, 2]",
        "  note: object[]",
        "  observations: float32[7, 3]",
        "  rewards: float64[7]",
    ]


def test_npz_parquet_and_json_are_shown(written):
    assert describe_path(written(".npz")).splitlines()[1:] == ["  image: uint8[5, 4, 4, 3]", "  reward: float64[5]"]
    listed = describe_path(written(".parquet")).splitlines()[1:]
    assert listed == ["  2 rows", "  action: list<element: double>, from [1, 2] to [3, 4]", "  episode_index: int64"]
    assert describe_path(written(".json")).splitlines()[1:] == ["  dict of codebase_version, fps"]


ACTIONS = np.array([[0.5, -2.0], [np.nan, 100.0], [-1.25, 7.0], [0.0, 0.0]], np.float32)


def as_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["data/demo_0/actions"], file["data/demo_0/factions"] = ACTIONS, ACTIONS
    return folder / "a.h5"


def as_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", actions=ACTIONS, factions=ACTIONS)
    return folder / "a.npz"


def as_npy(folder: Path) -> Path:
    np.save(folder / "actions.npy", ACTIONS)
    return folder / "actions.npy"


def as_parquet(folder: Path) -> Path:
    parquet.write_table(pa.table({"actions": list(ACTIONS), "factions": list(ACTIONS)}), folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("written_as", [as_hdf5, as_npz, as_npy, as_parquet])
def test_range_of_actions_is_shown_per_element_without_rows_that_are_not_finite(tmp_path, written_as):
    lines = describe_path(written_as(tmp_path)).splitlines()
    (actions,) = [line for line in lines if line.strip().startswith("actions:")]
    assert actions.endswith(", from [-1.25, -2] to [0.5, 7]")
    assert not any("from" in line for line in lines if "factions" in line)


def test_range_covers_the_first_rows_only_and_says_so(tmp_path):
    action = np.where(np.arange(10_001) < 10_000, np.arange(10_001) % 7, -50)
    (tmp_path / "a.csv").write_text("x,action\n" + "\n".join(f"0.5,{value}" for value in action))
    assert describe_path(tmp_path / "a.csv").splitlines()[1:] == [
        "  x: float64[10001]",
        "  action: int64[10001], from 0 to 6 in the first 10000 rows",
    ]


def test_values_that_are_unreadable_or_too_large_have_no_range(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("action", (1 << 50,), float, chunks=(1 << 10,))
        file["cmd"], file["act"], file["obs/ctrl"] = ["text"], np.zeros((3, 0)), np.full(3, np.nan)
    assert not any("from" in line for line in describe_path(tmp_path / "a.h5").splitlines())


def test_folders_behind_links_are_described_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write_npz(tmp_path / "elsewhere" / "a.npz")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "run").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cycle").symlink_to(tmp_path / "data")
    lines = describe_path(tmp_path / "data").splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(tmp_path / "data" / "run" / "a.npz")]


def test_npz_headers_of_every_version_are_shown_and_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("a pickle was opened",)

    path = tmp_path / "mixed.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for version in ((1, 0), (2, 0), (3, 0)):
            with archive.open(f"v{version[0]}.npy", "w") as member:
                np.lib.format.write_array(member, np.zeros((2, version[0]), np.float32), version)
        with archive.open("objects.npy", "w") as member:
            np.lib.format.write_array(member, np.array([Trap()]), allow_pickle=True)
    lines = describe_path(path).splitlines()[1:]
    assert lines == ["  v1: float32[2, 1]", "  v2: float32[2, 2]", "  v3: float32[2, 3]", "  objects: object[1]"]


def test_many_groups_are_abbreviated_with_their_number(tmp_path):
    path = tmp_path / "episodes.h5"
    with h5py.File(path, "w") as file:
        for name in "abcd":
            file[name] = np.zeros(2)
        for number in range(5):
            file[f"episode_{number}/reward"] = np.zeros(number)
        file["zero"] = np.zeros(1)
    lines = describe_path(path).splitlines()[1:]
    assert lines[:4] == [f"  {name}: float64[2]" for name in "abcd"]
    assert lines[4:] == [
        *(line for n in range(3) for line in (f"  episode_{n}/", f"    reward: float64[{n}]")),
        "  zero: float64[1]",
        "  ... and 2 more groups",
    ]


def test_folder_is_shown_by_the_first_files_of_each_kind(tmp_path):
    for name in ("b/one.npz", "a/two.npz", "c.npz", "d.npz", "e.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_npz(tmp_path / name)
    write_json(tmp_path / "info.json")
    (tmp_path / "readme.txt").write_text("not looked at")
    lines = describe_path(tmp_path).splitlines()
    listed = [line for line in lines if not line.startswith(" ")]
    files = [str(tmp_path / name) for name in ("info.json", "a/two.npz", "b/one.npz", "c.npz")]
    assert listed == [*files, "... and 2 more .npz files", f"{tmp_path / 'readme.txt'}: not read"]


def test_kinds_that_are_not_read_are_listed_with_what_to_do(tmp_path):
    write_npz(tmp_path / "one.npz")
    names = ("b.PKL", "a.pkl", "film.mp4", "notes.txt", "logs.tar.gz")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    lines = [line.removeprefix(f"{tmp_path}/") for line in describe_path(tmp_path).splitlines() if line[0] != " "]
    assert lines[0] == "one.npz"
    assert lines[1] == "logs.tar.gz: not read; unpack it first"
    assert lines[2].startswith("film.mp4: not read; videos are read only in a LeRobot dataset; decode")
    assert lines[3].startswith(f"2 .pkl files, such as {tmp_path}/a.pkl: not read; a pickle can execute code; load")
    assert lines[4:] == ["notes.txt: not read"]


def test_undescribable_path_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        describe_path(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"supported kinds \.csv, \.h5, .*, \.zarr; choose another path"):
            describe_path(path)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        describe_path(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path):
    path = tmp_path / "linked.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert "'secret' is an external link, which is refused" in refused(path)


def test_cyclic_groups_are_refused(tmp_path):
    path = tmp_path / "circle.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group["again"] = group
    assert "nested deeper than 16" in refused(path)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7])
def test_truncated_files_are_named(written, suffix, kept):
    path = written(suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "copy or download it again" in refused(path) or suffix in (".h5", ".hdf5")


def test_too_deeply_nested_json_is_named(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "unreadable or truncated" in refused(tmp_path / "deep.json")


def test_member_that_is_not_an_array_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("note.txt", "hello")
    assert "unreadable or truncated" in refused(tmp_path / "text.npz")


@pytest.mark.parametrize("suffix", WRITERS)
def test_flipped_bytes_are_described_or_refused_but_never_crash(written, suffix):
    path = written(suffix)
    original = path.read_bytes()
    messages: list[str] = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        content = bytearray(original)
        for place in generator.integers(0, len(content), 1 + seed % 5):
            content[place] ^= int(generator.integers(1, 256))
        path.write_bytes(content)
        try:
            describe_path(path)
        except UserError as error:
            messages.append(str(error))
    assert messages
    assert [message for message in messages if "\n" in message or path.name not in message] == []
