"""Paths of users, and atomic writes: files and folders are written to a temporary path, synced, then renamed."""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamset.core import disk


def user_path(path: str | Path) -> Path:
    """A path that a user has set; ``~`` is the home folder."""
    return Path(path).expanduser()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader sees the old file or the new one, never a part."""
    save_with(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for text."""
    write_bytes(path, content.encode())


def save_with(path: Path, save: Callable[[Path], object]) -> None:
    """Lets ``save`` write to a temporary path with the same file name, then renames the result to ``path``.

    Raises:
        DiskError: if there is no room or no permission; names the folder of ``path``.
    """
    folder = path.absolute().parent
    with disk.naming(folder), _temporary_folder(folder) as beside:
        temporary = beside / path.name
        save(temporary)
        _sync(temporary)
        temporary.replace(path)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".saving.") as folder:
        yield Path(folder)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """An empty folder next to ``path`` that replaces it when the block ends.

    If the block raises, the new folder is removed and ``path`` stays unchanged.

    Raises:
        DiskError: if there is no room or no permission; names ``path``.
    """
    path = path.absolute()
    new = _sibling(path, "new")
    try:
        with disk.naming(path, temporary=new):
            path.parent.mkdir(parents=True, exist_ok=True)
            new.mkdir()
            yield new
            _flush(new)
            _put_in_place(new, path)
    except BaseException:  # KeyboardInterrupt too: no partial folder may remain
        shutil.rmtree(new, ignore_errors=True)
        raise


def _put_in_place(new: Path, path: Path) -> None:
    if not os.path.lexists(path):
        new.rename(path)
    else:
        old = _sibling(path, "old")
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
        _remove(old)
    _sync(path.parent)


def _sibling(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}-{uuid.uuid4().hex[:8]}")


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)


def _flush(folder: Path) -> None:
    """Syncs files before the folder: after a power failure the folder is complete or absent."""
    for item in (*folder.rglob("*"), folder):
        _sync(item)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
