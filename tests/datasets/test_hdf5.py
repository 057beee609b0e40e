"""HDF5 files in use, with filters from elsewhere or with values that were never written are told from damaged ones."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import hdf5
from dreamset.datasets.sources.tables import HDF5Table

WRITER = """
import os, sys, h5py
file = h5py.File(sys.argv[1], "w", libver="latest")
file.create_dataset("reward", data=[1.0, 2.0], maxshape=(None,), chunks=True)
if sys.argv[2] != "plain":
    file.swmr_mode = True
file.flush()
print("written", flush=True)
if sys.argv[2] == "killed":
    os._exit(9)
sys.stdin.read()
"""


@contextmanager
def written_by_another_process(path: Path, kind: str) -> Iterator[None]:
    command = [sys.executable, "-c", WRITER, str(path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate("")


@pytest.mark.parametrize("kind", ["plain", "swmr", "killed"])
def test_file_in_use_is_not_called_damaged(tmp_path, kind):
    path = tmp_path / "data.h5"
    with written_by_another_process(path, kind), pytest.raises(UserError) as caught:
        HDF5Table(path).headers(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: is being written by another process")
    assert "copy or download" not in message
    assert ("h5clear -s" in message) == (kind != "plain")


def test_file_that_was_closed_is_readable_again(tmp_path):
    path = tmp_path / "data.h5"
    with written_by_another_process(path, "plain"):
        pass
    assert HDF5Table(path).read(["reward"], str(path))["reward"].tolist() == [1, 2]


READER = """
import sys
from pathlib import Path
from dreamset.datasets.sources.tables import HDF5Table
assert "hdf5plugin" not in sys.modules
print(HDF5Table(Path(sys.argv[1])).read(["x"], "data")["x"].sum())
"""


@pytest.mark.parametrize("name", ["Zstd", "LZ4", "Blosc", "Bitshuffle"])
def test_filters_of_hdf5plugin_are_loaded_when_a_file_needs_them(tmp_path, name):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1000), **getattr(hdf5plugin, name)())
    assert HDF5Table(path).read(["x"], "data")["x"].tolist() == list(range(1000))
    if name == "Zstd":  # in a process that has not loaded them
        command = [sys.executable, "-c", READER, str(path)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "499500"


def test_missing_filter_error_names_the_filter_and_the_package(tmp_path, monkeypatch):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(1000), compression="lzf")
    monkeypatch.setattr(hdf5, "available", lambda _code: False)
    with pytest.raises(UserError, match=r"'/x' is compressed with the filter 'lzf'.*pip install 'dreamset\[archive\]'"):
        HDF5Table(path).read(["x"], "data")
    with h5py.File(path) as file, pytest.raises(UserError, match="'lzf'"):
        hdf5.read(file["x"], "data")


@pytest.mark.parametrize("chunks", [None, (1 << 10,)])
def test_column_that_was_never_written_is_read_as_its_fill_value(tmp_path, chunks):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("done", (3 << 20,), bool, chunks=chunks)
        assert file["done"].id.get_storage_size() == 0
        assert hdf5.read(file["done"], "data").shape == (3 << 20,)
    assert not HDF5Table(path).read(["done"], "data")["done"].any()


@pytest.mark.parametrize("rows", [256 << 20, (256 << 20) + 1])
def test_values_beyond_256_mib_must_be_stored(tmp_path, rows):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        column = file.create_dataset("done", (rows,), bool, chunks=(1 << 20,))
        if rows <= 256 << 20:
            hdf5.require_possible(column, rows, "data: '/done'")
        else:
            with pytest.raises(UserError, match=r"claims 268435457 bytes of which 0 are stored; .*omit the column"):
                hdf5.require_possible(column, rows, "data: '/done'")


def test_stored_values_may_unpack_as_far_as_deflate_can(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        column = file.create_dataset("x", data=np.random.default_rng(0).bytes(1 << 20), dtype="S1048576")
        hdf5.require_possible(column, 1 << 30, "data: '/x'")
        with pytest.raises(UserError, match="claims"):
            hdf5.require_possible(column, 1 << 31, "data: '/x'")
