"""Folders that appear complete or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    for item in (*folder.iterdir(), folder):
        _sync(item)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
