"""One file from the network: whole and in place, or not there."""

import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dreamset.core.errors import UserError
from dreamset.core.files import save_with

OnBytes = Callable[[int, int | None], None]  # hears the bytes that are done and, if the server says so, all of them

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds of silence


def download(url: str, path: Path, *, on_bytes: OnBytes | None = None, check: Callable[[Path], None]) -> None:
    """Loads ``url`` into ``path``; ``check`` looks at the file before it is put in place.

    Raises:
        UserError: if the address cannot be read to its end; also what ``check`` raises.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: is no http or https address; fix the url of the dataset")

    def save(beside: Path) -> None:
        _load(url, beside, on_bytes or (lambda _done, _total: None))
        check(beside)

    try:
        save_with(path, save)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{url}: the download failed ({reason}); try again, or load it by hand into {path}") from error


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
