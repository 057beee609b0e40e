"""Downloads Minari datasets by id, with Minari's client."""

import contextlib
import io
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.datasets.sources.download import OnBytes
from dreamset.datasets.sources.minari.location import (
    ROOT_VARIABLE,
    dataset_folder,
    datasets_root,
    local_folder,
    require_one,
)

_INTERVAL = 0.5  # seconds between two reports of progress


def fetch(dataset_id: str | None = None, path: str | Path | None = None, *, on_bytes: OnBytes | None = None) -> Path:
    """Downloads a dataset unless it is on this machine, and returns its folder.

    Args:
        dataset_id: such as ``D4RL/door/human-v2``; downloaded into Minari's own folder.
        path: the folder of a local dataset, instead of an id; then nothing is downloaded.
        on_bytes: called with the number of bytes so far; the total is unknown.

    Raises:
        UserError: if both or neither are given, the dataset does not exist, or the download fails.
    """
    require_one(path, dataset_id)
    if dataset_id is None or local_folder(dataset_id) is not None:
        return dataset_folder(path, dataset_id)
    root = datasets_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".downloading.") as folder:
        beside = Path(folder)
        with _progress(beside, on_bytes):
            _download(dataset_id, beside)
        if not (beside / dataset_id / "data").is_dir():
            raise UserError(f"{dataset_id}: Minari's download is not a dataset; check the id")
        _put_in_place(beside / dataset_id, root / dataset_id)
    return dataset_folder(None, dataset_id)


def _download(dataset_id: str, root: Path) -> None:
    try:
        import minari  # slow to import and seldom needed

        with _minari_root(root), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter(
                "ignore"
            )  # Minari doubts that it can read other versions' files, which we do ourselves
            minari.download_dataset(dataset_id, force_download=True)
    except Exception as error:  # the client of the remote storage may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{dataset_id}: Minari could not download it ({reason}); check the id and the network, or copy the dataset "
            f"into {datasets_root() / dataset_id}"
        ) from error


def _put_in_place(downloaded: Path, folder: Path) -> None:
    with replaced_folder(folder) as target:
        for item in downloaded.iterdir():
            item.rename(target / item.name)


@contextlib.contextmanager
def _minari_root(root: Path) -> Iterator[None]:
    """Sets Minari's folder, which is possible only through an environment variable."""
    before = os.environ.get(ROOT_VARIABLE)
    os.environ[ROOT_VARIABLE] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROOT_VARIABLE]
        else:
            os.environ[ROOT_VARIABLE] = before


@contextlib.contextmanager
def _progress(folder: Path, on_bytes: OnBytes | None) -> Iterator[None]:
    """Reports the growth of a folder, because Minari's client has no progress callback."""
    if on_bytes is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            on_bytes(_size(folder), None)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    on_bytes(_size(folder), None)


def _size(folder: Path) -> int:
    total = 0
    for parent, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # the client renames files while it downloads
                total += (Path(parent) / name).stat().st_size
    return total
