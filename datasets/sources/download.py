"""Downloads one file atomically."""

import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dreamset.core.errors import UserError
from dreamset.core.files import save_with

OnBytes = Callable[[int, int | None], None]  # receives the bytes so far and, if known, the total

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without data


def download(url: str, path: Path, *, on_bytes: OnBytes | None = None, check: Callable[[Path], None]) -> None:
    """Downloads ``url`` to ``path``; ``check`` validates the file before it replaces ``path``.

    Raises:
        UserError: if the download fails or ``check`` raises.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: not an http or https address; fix the url of the dataset")

    def save(beside: Path) -> None:
        _load(url, beside, on_bytes or (lambda _done, _total: None))
        check(beside)

    try:
        save_with(path, save)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{url}: the download failed ({reason}); try again, or download the file by hand to {path}"
        ) from error


def _load(url: str, beside: Path, on_bytes: OnBytes) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply, beside.open("wb") as file:  # noqa: S310 - checked above
        announced = reply.headers.get("Content-Length")
        total = int(announced) if announced and announced.isdigit() else None
        done = 0
        while block := reply.read(_BLOCK):
            file.write(block)
            done += len(block)
            on_bytes(done, total)
    if total is not None and done != total:
        raise OSError(f"{done} of {total} bytes arrived")
