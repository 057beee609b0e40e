"""Files and folders that are whole or not there: written beside, synced, renamed."""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one, never half of it."""
    save_with(path, lambda beside: beside.write_bytes(content))


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for text."""
    write_bytes(path, content.encode())


def save_with(path: Path, save: Callable[[Path], object]) -> None:
    """Lets a library write to a path of its own choice of ending, then puts the result in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving.") as folder:
        beside = Path(folder) / path.name
        save(beside)
        _sync(beside)
        beside.replace(path)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside ``path`` that takes its place when the block ends.

    If the block raises, the new folder is removed and whatever stood at ``path`` is as before.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _sibling(path, "new")
    fresh.mkdir()
    try:
        yield fresh
        _flush(fresh)
        _put_in_place(fresh, path)
    except BaseException:  # also an interrupt: nothing half-written stays behind
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _put_in_place(fresh: Path, path: Path) -> None:
    if not os.path.lexists(path):
        fresh.rename(path)
    else:
        old = _sibling(path, "old")
        path.rename(old)
        try:
            fresh.rename(path)
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
    """Bytes first, names second: after a power cut the folder is whole or absent."""
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
