"""Npz archives and folders of files, valid and damaged."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets.sources.folder import digest, list_files
from dreamset.datasets.sources.npz import opened_npz
from dreamset.datasets.sources.tables import NpzTable

ARRAYS = {
    "image": np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "half": np.arange(4, dtype=np.float16),
    "flag": np.array([True, False]),
    "single": np.float64(3),
    "none": np.zeros((0, 3)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.npz"
    np.savez_compressed(path, **ARRAYS)
    return path


def read_all(path: Path) -> dict[str, np.ndarray]:
    with opened_npz(path, f"episode 7 of {path}") as archive:
        return {name: archive.read(name) for name in archive.headers}


def member(header: str, content: bytes = b"", magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return magic + len(text).to_bytes(2, "little") + text + content


def write_zip(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_and_headers_equal_the_written_ones(tmp_path, save):
    save(tmp_path / "some.npz", **ARRAYS)
    with opened_npz(tmp_path / "some.npz", "here") as archive:
        assert set(archive.headers) == set(ARRAYS)
        for name, values in ARRAYS.items():
            assert (archive.headers[name].shape, archive.headers[name].dtype) == (values.shape, values.dtype)
            assert np.array_equal(archive.read(name), values)
        with pytest.raises(UserError, match="here: 'more' is missing; available:"):
            archive.read("more")


def test_headers_are_read_without_the_values(tmp_path, monkeypatch):
    np.savez(tmp_path / "some.npz", image=np.zeros((1000, 1000)))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_args, **_settings: pytest.fail("read the values"))
    taken = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, count: taken.append(count) or read(self, count))
    with opened_npz(tmp_path / "some.npz", "here") as archive:
        assert archive.headers["image"].shape == (1000, 1000)
    assert sum(taken) < 1 << 15


def test_objects_are_refused_but_other_arrays_stay_readable(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, info=np.array([{"evil": print}], dtype=object), reward=np.arange(3.0))
    with opened_npz(path, f"episode 7 of {path}") as archive:
        assert archive.headers["info"].dtype.hasobject
        assert archive.read("reward").tolist() == [0, 1, 2]
        with pytest.raises(UserError, match=r"episode 7 of .*some\.npz: 'info' holds pickled objects"):
            archive.read("info")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_truncated_file_is_named(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"^episode 7 of .*some\.npz: unreadable, truncated or not npz .* copy or down"):
        read_all(file)


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_are_read_or_refused_but_never_crash(file, seed):
    content = bytearray(file.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(0, len(content), 1 + seed % 6):
        content[place] ^= int(generator.integers(1, 256))
    file.write_bytes(content)
    message = ""
    try:
        read_all(file)
    except UserError as error:
        message = str(error)
    assert not message or message.startswith("episode 7 of ")
    assert "\n" not in message


def test_values_with_a_wrong_checksum_are_refused(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, reward=np.arange(8.0))
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(5).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.npz: unreadable, truncated .*CRC"):
        read_all(path)


HEADERS = {
    "too many rows": ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", "but has 8"),
    "too few rows": ("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", "3 bytes, but has 8"),
    "negative rows": ("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -4), }", "but has 8"),
    "no shape": ("{'descr': '<f8', 'fortran_order': False, }", "not npz"),
    "an expression": ("__import__('os').getcwd()", "not npz"),
    "open brackets": ("{'descr': '<f8', 'shape': ((((", "not npz"),
    "no dtype": ("{'descr': 'what', 'fortran_order': False, 'shape': (1,), }", "not npz"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_impossible_header_is_refused_before_allocation(tmp_path, case):
    header, message = HEADERS[case]
    write_zip(tmp_path / "some.npz", "reward.npy", member(header, bytes(8)))
    with pytest.raises(UserError, match=message):
        read_all(tmp_path / "some.npz")


def test_unknown_versions_entries_and_compressions_are_refused(tmp_path):
    path = tmp_path / "some.npz"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
    write_zip(path, "reward.npy", member(header, bytes(8), magic=b"\x93NUMPY\x03\x00"))
    with pytest.raises(UserError, match="unknown version"):
        read_all(path)
    write_zip(path, "readme.txt", b"hello")
    with pytest.raises(UserError, match=r"contains 'readme\.txt', which is not an array"):
        read_all(path)
    write_zip(path, "reward.npy", member(header, bytes(8)), zipfile.ZIP_BZIP2)
    with pytest.raises(UserError, match="unknown compression method"):
        read_all(path)


def test_impossible_compression_ratio_is_refused(tmp_path):
    content = io.BytesIO()
    np.savez(content, reward=np.zeros(4))
    sizes = zipfile.ZipFile(content).infolist()[0].file_size.to_bytes(4, "little")
    changed = content.getvalue().replace(sizes * 2, sizes + (1 << 30).to_bytes(4, "little"))
    (tmp_path / "some.npz").write_bytes(changed)
    with pytest.raises(UserError, match=r"'reward\.npy' claims 1073741824 bytes of which \d+ are stored"):
        read_all(tmp_path / "some.npz")


def test_rows_are_cached_until_the_file_changes(tmp_path):
    table = NpzTable(tmp_path / "some.npz")
    np.savez(table.path, step=np.arange(6), single=3)
    assert table.read(["step"], "here", slice(2, 4))["step"].tolist() == [2, 3]
    assert table.read(["step"], "here", slice(4, 6))["step"].tolist() == [4, 5]
    np.savez(table.path, step=np.arange(6) * 10)
    assert table.read(["step"], "here", slice(2, 4))["step"].tolist() == [20, 30]
    np.savez(table.path, single=3)
    with pytest.raises(UserError, match="here: 'single' is a single value"):
        table.read(["single"], "here")


def test_files_are_sorted_by_number(tmp_path):
    for name in ("10.npz", "9.npz", "b2-1.npz", "b10-0.npz", "notes.txt", ".part.npz"):
        (tmp_path / name).touch()
    assert [file.name for file in list_files(tmp_path, [".npz"])] == ["9.npz", "10.npz", "b2-1.npz", "b10-0.npz"]
    with pytest.raises(
        UserError, match=r"contains no files \*\.hdf5 or \*\.h5; choose the folder that directly contains them"
    ):
        list_files(tmp_path, [".hdf5", ".h5"])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_files(tmp_path / "nowhere", [".npz"])


def test_digest_depends_on_names_and_contents_only(tmp_path):
    def written(folder: str, **contents: bytes) -> dict[str, object]:
        (tmp_path / folder).mkdir()
        for name, content in contents.items():
            (tmp_path / folder / name).write_bytes(content)
        return digest(sorted((tmp_path / folder).iterdir(), reverse=folder == "same"))

    one = written("one", a=b"xy", b=b"z")
    assert (one["files"], one["bytes"]) == (2, 3)
    assert one == written("same", a=b"xy", b=b"z")
    others = [
        written("moved", a=b"x", b=b"yz"),
        written("renamed", a=b"xy", c=b"z"),
        written("changed", a=b"xY", b=b"z"),
    ]
    assert len({one["sha256"], *(other["sha256"] for other in others)}) == 4
