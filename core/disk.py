"""Faults of the disk: no room, no permission. Each becomes one line that names the folder and what to do."""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamset.core.errors import UserError

_AGAIN = "free some room, then run the same command again"
_ELSEWHERE = "change its permissions, or choose another folder"
FAULTS = {  # number of the error -> finding and remedy
    errno.ENOSPC: ("no room is left on its file system", _AGAIN),
    errno.EDQUOT: ("the disk quota of this user is used up", _AGAIN),
    errno.EFBIG: ("a file would exceed the size limit of this process", "raise `ulimit -f`, then run it again"),
    errno.EROFS: ("its file system is read-only", "choose another folder"),
    errno.EACCES: ("this user may not read or write it", _ELSEWHERE),
    errno.EPERM: ("this user may not change it", _ELSEWHERE),
}
_HDF5_OVERHEAD = 1.5  # incomplete chunks take more room than their values
_GROUP_BYTES = 64 << 10  # headers and indices of a group with about ten arrays
_NUMBER = re.compile(r"(?:errno = |os error )(\d+)")  # in the messages of HDF5, and of libraries written in Rust


class DiskError(UserError, OSError):
    """A fault of the disk that the user can fix."""

    place: Path  # the folder or file
    needed: int | None  # bytes that should have been written, if known


def fault_of(error: BaseException) -> int | None:
    """The number of the fault if ``error`` is one of ``FAULTS``, whichever library raised it; otherwise None."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and not isinstance(error, UserError):
        text = _NUMBER.search(str(error))
        number = int(text[1]) if text else None
    return number if number in FAULTS else None


def disk_error(number: int, place: Path, needed: int | None = None, *, released: int = 0) -> DiskError:
    """The error with its message: the place, the fault, the room that is needed and free, and the remedy.

    ``released`` bytes become free before the message is read.
    """
    finding, remedy = FAULTS[number]
    rooms = [] if needed is None else [f"at least {size_in_words(needed)} needed"]
    if number == errno.ENOSPC:
        rooms.append(f"{size_in_words(shutil.disk_usage(_existing(place)).free + released)} free")
    room = f" ({', '.join(rooms)})" if rooms else ""
    error = DiskError(f"{place}: {finding}{room}; {remedy}")
    error.errno, error.place, error.needed = number, place, needed
    return error


@contextmanager
def naming(place: Path, *, needed: int | None = None, temporary: Path | None = None) -> Iterator[None]:
    """Turns faults of the disk into a ``DiskError`` that names ``place``.

    A fault of another file keeps the name of that file. Files in the folder ``temporary`` count as ``place``; what they
    hold is needed again.
    """
    try:
        yield
    except Exception as error:
        number = fault_of(error)
        if number is None:
            raise
        own = _place(error)
        if own is None or {place, temporary} & {own, *own.parents} or own in place.parents:
            own = place
        written = 0 if temporary is None else _size(temporary)
        known = error.needed if isinstance(error, DiskError) else needed
        total = (known or 0) + written or known
        raise disk_error(number, own, total, released=written) from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a new file, or none.

    Raises:
        DiskError: if there is no room or no permission.
    """
    with naming(path.parent, needed=len(content)):
        try:
            path.write_bytes(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def explained(error: BaseException) -> str | None:
    """The message for a fault of the disk anywhere in a program; None for any other error."""
    number = fault_of(error)
    return None if number is None else str(disk_error(number, _place(error) or Path.cwd()))


def require_room(file: Path, growth: int) -> None:
    """Checks that ``file`` can grow by ``growth`` bytes, for libraries that do not survive a full disk.

    Reserves the room for a moment, which respects quotas too.

    Raises:
        DiskError: if there is no room, or the process may not write so large a file.
    """
    size = file.stat().st_size if file.exists() else 0
    folder = _existing(file.parent)
    if size + growth > _largest_file():
        raise disk_error(errno.EFBIG, folder, growth)
    with naming(folder, needed=growth), tempfile.TemporaryFile(dir=folder) as reserved:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(reserved.fileno(), 0, max(growth, 1))
        elif shutil.disk_usage(folder).free < growth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def require_hdf5_room(file: Path, *, values: int, groups: int) -> None:
    """``require_room`` for ``values`` bytes in ``groups`` new groups of an HDF5 file that another library writes.

    HDF5 crashes at the end of the process if the disk is full when it closes a file.
    """
    require_room(file, int(_HDF5_OVERHEAD * values) + groups * _GROUP_BYTES)


def _largest_file() -> float:
    if sys.platform == "win32":
        return float("inf")
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _place(error: BaseException) -> Path | None:
    if isinstance(error, DiskError):
        return error.place
    name = error.filename if isinstance(error, OSError) else None
    return Path(os.fsdecode(name)).absolute() if isinstance(name, str | bytes) else None


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def size_in_words(count: int) -> str:
    """A number of bytes with a unit: ``6.4 KiB``, ``1.0 GiB``."""
    size, unit = next(
        (size, unit) for size, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if count >> size or size == 10
    )
    return f"{count / (1 << size):.1f} {unit}"
