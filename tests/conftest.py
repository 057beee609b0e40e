"""Tests use one thread. With more threads, small networks are a hundred times slower on a busy machine."""

import functools
import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.pipeline.config import compose
from dreamset.pipeline.config.groups import config_folders
from dreamset.pipeline.tracking import embedded
from tests.warm import warm_programs

torch.set_num_threads(1)
gc.set_threshold(20_000)  # importing libraries makes many objects, among which the default searches for garbage often

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first. A slow file at the end would leave the other process idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def warm() -> Iterator[Path]:
    """A folder with ``python``, ``dreamset`` and ``dvc``, whose processes start with their libraries loaded."""
    with warm_programs() as folder:
        yield folder


@pytest.fixture
def _warm_jobs(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of benchmarks start with their libraries loaded."""
    from benchmarks.offline_suite import jobs

    monkeypatch.setattr(jobs, "START", [str(warm / "python"), *jobs.START[1:]])


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Hydra composes equal overrides of unchanged files once, as this takes a quarter of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "_compose", composing_once(compose._compose))
        yield


def composing_once(
    composing: Callable[[Sequence[str]], tuple[Any, dict[str, str | None]]],
) -> Callable[[Sequence[str]], tuple[Any, dict[str, str | None]]]:
    """The same function, which remembers its results. Its callers do not change what it returns."""
    results: dict[Any, tuple[Any, dict[str, str | None]]] = {}

    def remembered(overrides: Sequence[str]) -> tuple[Any, dict[str, str | None]]:
        files = [path for folder in config_folders() for path in sorted(folder.rglob("*.yaml"))]
        stats = [path.stat() for path in files]
        key = (*overrides, *files, *((stat.st_mtime_ns, stat.st_size) for stat in stats))
        if key not in results:
            results[key] = composing(overrides)
        return results[key]

    return remembered


@pytest.fixture(scope="session", autouse=True)
def _stores_copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow creates the first embedded store of this process; the next ones are copies, as each takes seconds."""
    first, create = tmp_path_factory.mktemp("store") / "mlflow.db", embedded._create

    @functools.wraps(create)
    def copied(store: Path) -> None:
        if not first.exists():
            create(first)
        beside = store.with_name(f".{store.name}")
        shutil.copy(first, beside)
        beside.replace(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_create", copied)
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder, without addresses and folders from environment variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MINARI_DATASETS_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """``with full_disk(100_000):`` no file can grow beyond that many bytes, so that writing fails as on a full disk."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
