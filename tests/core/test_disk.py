"""Faults of the disk become one line that names the folder, whichever library raised them; nothing partial remains."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dreamset.core import disk
from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SafetensorError(Exception):
    """As raised by libraries written in Rust."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FULL, errno.ENOSPC),
        (PermissionError(errno.EACCES, "denied", "x"), errno.EACCES),
        (
            RuntimeError("Can't decrement id ref count (errno = 27, error message = 'x')"),
            errno.EFBIG,
        ),
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (FileNotFoundError(errno.ENOENT, "no such file", "x"), None),
        (RuntimeError("errno = 4"), None),
        (UserError("unreadable (errno = 28)"), None),
        (ValueError("28"), None),
    ],
)
def test_faults_of_the_disk_are_told_from_other_errors(error: Exception, number: int | None) -> None:
    assert disk.fault_of(error) == number
    assert (disk.explained(error) is None) == (number is None)


def test_failed_folder_is_named_and_the_earlier_one_kept(tmp_path: Path) -> None:
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("kept")
    message = f"^{target}: no room is left on its file system .* free\\); free"
    with pytest.raises(disk.DiskError, match=message), replaced_folder(target) as folder:
        (folder / "new").write_text("partial")
        raise FULL
    assert (target / "old").read_text() == "kept"
    assert [item.name for item in tmp_path.iterdir()] == ["store"]


def test_needed_room_includes_what_was_written_and_is_removed(tmp_path: Path) -> None:
    message = rf"^{tmp_path / 'store'}: no room .* \(at least 5.0 MiB needed, .* free\)"
    with (
        pytest.raises(disk.DiskError, match=message),
        replaced_folder(tmp_path / "store") as folder,
        disk.naming(folder, needed=2 << 20),
    ):
        (folder / "first.h5").write_bytes(bytes(3 << 20))
        raise FULL


def test_file_that_does_not_fit_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise FULL

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(disk.DiskError, match=r"at least 4.0 MiB needed"):
        disk.write_whole(tmp_path / "shard.h5", bytes(4 << 20))
    assert list(tmp_path.iterdir()) == []


def test_another_file_keeps_its_name(tmp_path: Path) -> None:
    source = tmp_path / "source.npz"
    message = f"^{source}: this user may not read or write it"
    with pytest.raises(disk.DiskError, match=message), replaced_folder(tmp_path / "store"):
        raise PermissionError(errno.EACCES, "denied", str(source))


def test_failed_file_is_an_os_error_and_a_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="read-only; choose another folder") as caught:
        write_text(tmp_path / "card.md", "text")
    assert isinstance(caught.value, UserError)
    assert caught.value.errno == errno.EROFS
    assert list(tmp_path.iterdir()) == []


def test_room_is_required_before_a_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "data.hdf5"
    disk.require_room(file, 1000)
    with pytest.raises(disk.DiskError, match=rf"^{tmp_path}: .*(GiB needed|size limit)"):
        disk.require_room(file, 1 << 60)
    assert list(tmp_path.iterdir()) == []


SMALL_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from pathlib import Path
from dreamset.core.disk import DiskError, require_room
Path("data").write_bytes(bytes(60_000))
require_room(Path("data"), 30_000)
try:
    require_room(Path("data"), 60_000)
except DiskError as error:
    print(error)
"""


def test_limit_of_a_files_size_counts_what_it_holds(tmp_path: Path) -> None:
    assert hasattr(resource, "RLIMIT_FSIZE")
    run = subprocess.run([sys.executable, "-c", SMALL_FILES], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(
        f"{tmp_path}: a file would exceed the size limit of this process (at least 58.6 KiB needed)"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 KiB"), (6553, "6.4 KiB"), (1 << 20, "1.0 MiB"), (5 << 29, "2.5 GiB")],
)
def test_sizes_have_the_largest_unit_that_leaves_at_least_one(count: int, text: str) -> None:
    assert disk.size_in_words(count) == text
