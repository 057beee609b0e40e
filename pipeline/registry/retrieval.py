"""Finds existing models in the registry, by run or as a folder, and stores their files under their digest.

A reference such as an alias may name another model later. It is therefore *pinned* to the digest of the model once.
Afterwards the registry is asked only for files that are not on this disk.
"""

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.core.variables import environment_variable
from dreamset.pipeline.artifacts.description import DESCRIPTION, WEIGHTS, model_digest
from dreamset.pipeline.registry import catalog, logged, reader
from dreamset.pipeline.tracking import address, delivery, embedded, reporting, rows

FILES = (DESCRIPTION, WEIGHTS)
CACHE = Path("tracking/models")  # models from the registry, in folders named by their digests
MADE_BY = "dreamset models list"  # the command that lists the models
_RUN = re.compile(r"[0-9a-f]{32}")
_NAMED = re.compile(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's place: a folder, an MLflow run or a registered model.

    For a registered model the version takes precedence over the alias. Without both it is the champion, or the latest
    version if there is no champion.
    """

    name: str | None = None
    alias: str | None = None
    version: int | None = None
    run: str | None = None
    folder: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """``NAME``, ``NAME@alias``, ``NAME/3``, the id of a run, or the path of a folder with a model.

        Raises:
            UserError: if the text is none of these.
        """
        if (Path(text) / DESCRIPTION).exists():
            return cls(folder=text)
        if _RUN.fullmatch(text):
            return cls(run=text)
        named = _NAMED.fullmatch(text)
        if named is None:
            raise UserError(
                f"{text!r} refers to no model; allowed: NAME, NAME@alias, NAME/version, a run id or a folder with "
                f"{DESCRIPTION}"
            )
        number = named["version"]
        return cls(name=named["name"], alias=named["alias"], version=None if number is None else int(number))


@dataclass(frozen=True, slots=True)
class Pinned:
    """One model, identified by its digest. The other fields are for messages and for downloading its files."""

    digest: str
    name: str | None = None
    version: int | None = None
    run: str | None = None
    folder: str | None = None

    @property
    def label(self) -> str:
        """A short name for messages and tables."""
        return self.folder or (f"run {self.run}" if self.name is None else f"{self.name}/{self.version}")


def from_registry(name: str, *, alias: str | None = None, version: int | None = None) -> Path:
    """The folder of a registered model, which is downloaded unless it is on this disk.

    Raises:
        UserError: if there is no such model, or its files differ from the registered ones.
    """
    return local_folder(pin(Reference(name=name, alias=alias, version=version)))


def pin(reference: Reference, *, kind: str | None = None) -> Pinned:
    """Identifies the model. The files of a run are downloaded, since only these files identify the model.

    Args:
        reference: to the model.
        kind: of the model, for a run that has models of several kinds.

    Raises:
        UserError: if there is no such model.
    """
    if reference.folder is not None:
        return Pinned(model_digest(Path(reference.folder)), folder=reference.folder)
    if reference.run is not None:
        with connection() as client:
            return Pinned(_download(client, reference.run, kind=kind).name, run=reference.run)
    assert reference.name is not None
    with reading() as client:
        version = catalog.version(client, reference.name, number=reference.version, alias=reference.alias)
        return Pinned(version.digest, version.name, version.number, version.run)


def local_folder(pinned: Pinned) -> Path:
    """The folder with the model's files.

    Raises:
        UserError: if the files differ from the pinned ones, or cannot be downloaded.
    """
    if pinned.folder is not None:
        if model_digest(Path(pinned.folder)) != pinned.digest:
            raise UserError(f"{pinned.folder} has changed since the configuration was resolved; resolve it again")
        return Path(pinned.folder)
    cached = CACHE / pinned.digest
    if _is_complete(cached):
        return cached
    assert pinned.run is not None
    with connection() as client:
        return _download(client, pinned.run, expected=pinned.digest)


def figures_of(pinned: Pinned) -> dict[str, float]:
    """The model's figures in the registry; none for a model that a run or a folder names."""
    if pinned.name is None:
        return {}
    with reading() as client:
        return catalog.figures(client, catalog.version(client, pinned.name, number=pinned.version))


@contextmanager
def reading() -> Iterator[Any]:
    """As ``connection``, but the client may only read the registry, and does so without MLflow if it can."""
    store = embedded.FOLDER / "mlflow.db"
    if address.configured() or _waiting() or not store.exists() or not reader.can_read(store):
        with connection() as client:
            yield client
        return
    try:
        with reader.opened(store) as client:
            yield client
    except sqlite3.Error as error:
        raise UserError(f"registry at {store}: {error}") from error


def _waiting() -> bool:
    """Whether reports of stages are not sent yet."""
    return reporting.OUTBOX.is_dir() and any(reporting.OUTBOX.glob("*.jsonl"))


@contextmanager
def connection(*, make: bool = False) -> Iterator[Any]:
    """A client of the registry. Reports of finished stages are sent first, so that the registry is up to date.

    Args:
        make: whether to create the embedded store if it does not exist.

    Raises:
        UserError: if there is no store, or instead of any MLflow error inside the block.
    """
    uri, store = address.configured(), embedded.FOLDER / "mlflow.db"
    waiting = _waiting()
    if not (uri or make or waiting or store.exists()):
        raise UserError(f"{store} does not exist, so no model is registered; train one or set MLFLOW_TRACKING_URI")
    with translated(uri or str(store)), environment_variable("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"):
        yield _opened(uri or embedded.uri(), settle=waiting)


def _opened(uri: str, *, settle: bool) -> Any:
    """A client, once the reports of finished stages are sent."""
    try:
        client = delivery.client_of(uri)
        if settle:
            delivery.settle(reporting.OUTBOX)
    except address.UnreachableError as error:
        raise UserError(f"registry: {error}") from error
    except OSError as error:
        raise UserError(
            f"{embedded.FOLDER} cannot be written ({error}); allow it, or free space on the disk"
        ) from error
    return client


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turns errors of MLflow and of its store into a ``UserError`` of one line, which names the registry's place."""
    from mlflow.exceptions import MlflowException  # takes seconds

    try:
        yield
    except (MlflowException, sqlite3.Error) as error:
        raise UserError(f"registry at {address.masked(place)}: {delivery.reason(error)}") from error


def _download(client: Any, run: str, *, expected: str | None = None, kind: str | None = None) -> Path:
    """Downloads the two files of a run's model. Its folder appears only when both files are complete."""
    place = _place(client, run, expected, kind)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".download-") as beside:
        model = Path(beside) / "complete"
        model.mkdir()
        for name in FILES:
            _fetch(client, f"{place}/{name}", Path(beside)).rename(model / name)
        digest = model_digest(model)
        if expected not in (None, digest):
            raise UserError(
                f"the files of run {run} were changed or damaged: their digest is {digest[:12]}, the registered one is "
                f"{str(expected)[:12]}; choose another version"
            )
        with replaced_folder(CACHE / digest) as cached:
            for name in FILES:
                (model / name).rename(cached / name)
    return CACHE / digest


def _place(client: Any, run: str, digest: str | None, kind: str | None) -> str:
    """Address of the files of a run's model: a logged model or, from earlier releases, artifacts of the run.

    Raises:
        UserError: if the run has no such model, or several.
    """
    paths = {item.path for item in client.list_artifacts(run, catalog.FOLDER)}
    if paths >= {f"{catalog.FOLDER}/{name}" for name in FILES}:
        return f"{client.get_run(run).info.artifact_uri}/{catalog.FOLDER}"
    places = logged.places(client, run, digest, kind)
    if len(places) == 1:
        return places[0]
    experiment = client.get_experiment_by_name(reporting.STAGES)
    found = [] if experiment is None else client.search_runs([experiment.experiment_id], f"tags.`{rows.ROW}` = '{run}'")
    stages = ", ".join(f"{stage.info.run_name} {stage.info.run_id}" for stage in found)
    count = "several models" if places else "no model"
    raise UserError(f"run {run} has {count}; choose " + (f"one of its stages: {stages}" if stages else "another run"))


def _fetch(client: Any, address: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    path = Path(download_artifacts(artifact_uri=address, dst_path=str(folder), tracking_uri=client.tracking_uri))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{address} lies outside of its model's folder, so it is refused; choose another model")
    return path


def _is_complete(folder: Path) -> bool:
    try:
        return model_digest(folder) == folder.name
    except UserError:
        return False
