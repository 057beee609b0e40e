"""Paths of users, and atomic writes: files and folders are written to a temporary path, synced, then renamed."""

import ctypes
import glob
import hashlib
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamset.core import disk

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux


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

    If the block raises, the new folder is removed and ``path`` stays unchanged. A process that is killed leaves the old
    folder or the new one, and perhaps another beside it. Where the system cannot exchange two names in one step, it may
    leave the old one beside ``path``. ``recover`` tidies up.

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
    elif _exchanged(new, path):
        _remove(new)  # now the old content
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


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False if the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library from before 2018, or another one
        return False
    here = -100  # AT_FDCWD: relative paths start at the working folder
    return bool(exchange(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE) == 0)


def recover(path: Path) -> None:
    """Tidies up after a killed process that was replacing ``path``; nobody may write it at the same time.

    The old content is put back if there is neither old nor new content at ``path``. Folders beside it are removed.
    """
    path = path.absolute()
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(new|old)-[0-9a-f]{{8}}")
    for item in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        found = pattern.fullmatch(item.name)
        if found and found[1] == "old" and not os.path.lexists(path):
            item.rename(path)
        elif found:
            _remove(item)


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
