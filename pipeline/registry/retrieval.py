"""Models that exist already: found in the registry, by run or as a folder, and kept on disk under their digest.

A reference that may mean another model tomorrow is *pinned* to the model's digest once. From then on the registry is
only asked for files that are not on this disk.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.core.variables import environment_variable
from dreamset.pipeline.artifacts.saved_models import DESCRIPTION, WEIGHTS, model_digest
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.tracking import delivery, reporting

FILES = (DESCRIPTION, WEIGHTS)
KEPT = Path("tracking/models")  # models from the registry, in folders named by their digests
MADE_BY = "dreamset models list"  # names what there is
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_RUN = re.compile(r"[0-9a-f]{32}")
_NAMED = re.compile(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a model is: a folder, an MLflow run or a registered model.

    Of a registered model the version counts before the alias; without both it is the champion or, where there is
    none, the latest.
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
            UserError: if it is none of these.
        """
        if (Path(text) / DESCRIPTION).exists():
            return cls(folder=text)
        if _RUN.fullmatch(text):
            return cls(run=text)
        found = _NAMED.fullmatch(text)
        if found is None:
            raise UserError(f"{text!r} is no NAME, NAME@alias, NAME/version, run id or folder with {DESCRIPTION}")
        number = found["version"]
        return cls(name=found["name"], alias=found["alias"], version=None if number is None else int(number))


@dataclass(frozen=True, slots=True)
class Pinned:
    """One very model; where it came from is for people and for finding its files again."""

    digest: str
    name: str | None = None
    version: int | None = None
    run: str | None = None
    folder: str | None = None

    @property
    def shown(self) -> str:
        """For people."""
        return self.folder or (f"run {self.run}" if self.name is None else f"{self.name}/{self.version}")


def from_registry(name: str, *, alias: str | None = None, version: int | None = None) -> Path:
    """The folder of a registered model, downloaded unless it is on this disk already.

    Raises:
        UserError: if there is no such model, or its files are not what was registered.
    """
    return local_folder(pin(Reference(name=name, alias=alias, version=version)))


def pin(reference: Reference) -> Pinned:
    """Looks an alias up; of a run the files are downloaded, since nothing but they tells which model it is.

    Raises:
        UserError: if there is no such model.
    """
    if reference.folder is not None:
        return Pinned(model_digest(Path(reference.folder)), folder=reference.folder)
    with connection() as client:
        if reference.run is not None:
            return Pinned(_download(client, reference.run).name, run=reference.run)
        assert reference.name is not None
        found = catalog.version(client, reference.name, number=reference.version, alias=reference.alias)
        return Pinned(found.digest, found.name, found.number, found.run)


def local_folder(pinned: Pinned) -> Path:
    """The model's files.

    Raises:
        UserError: if they are not those that were pinned, or cannot be had.
    """
    if pinned.folder is not None:
        if model_digest(Path(pinned.folder)) != pinned.digest:
            raise UserError(f"{pinned.folder} is another model than when this was resolved; resolve again")
        return Path(pinned.folder)
    kept = KEPT / pinned.digest
    if _is_whole(kept):
        return kept
    assert pinned.run is not None
    with connection() as client:
        return _download(client, pinned.run, expected=pinned.digest)


def figures_of(pinned: Pinned) -> dict[str, float]:
    """What the registry knows of it; nothing of a model that was named by its run or folder."""
    if pinned.name is None:
        return {}
    with connection() as client:
        return catalog.version(client, pinned.name, number=pinned.version).figures


@contextmanager
def connection(*, make: bool = False) -> Iterator[Any]:
    """A client of the registry to which stages deliver, after what finished stages have left was sent there.

    Args:
        make: make the embedded store if there is none.

    Raises:
        UserError: if there is none, or in place of what MLflow raises inside the block.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    embedded = delivery.EMBEDDED / "mlflow.db"
    waiting = reporting.OUTBOX.is_dir() and any(reporting.OUTBOX.glob("*.jsonl"))
    if not (uri or make or waiting or embedded.exists()):
        raise UserError(f"there is no {embedded}, so no model is registered; train one or set MLFLOW_TRACKING_URI")
    delivery.EMBEDDED.mkdir(exist_ok=True)
    delivery.settle(reporting.OUTBOX)
    from mlflow.exceptions import MlflowException  # takes seconds

    # with its own patience MLflow needs minutes to say that a server is away; its bars are of single small files
    with (
        environment_variable(RETRIES, os.environ.get(RETRIES, "2")),
        environment_variable("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ):
        try:
            yield delivery.client_of(uri or delivery.embedded_uri())
        except MlflowException as error:
            raise UserError(f"registry at {uri or embedded}: {' '.join(str(error).split())[:300]}") from error


def _download(client: Any, run: str, *, expected: str | None = None) -> Path:
    """The model among a run's artifacts, put in place when it is whole: two files of fixed names, nothing else."""
    _require_model(client, run)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT, prefix=".download-") as beside:
        whole = Path(beside) / "whole"
        whole.mkdir()
        for name in FILES:
            _fetch(client, run, name, Path(beside)).rename(whole / name)
        digest = model_digest(whole)
        if expected not in (None, digest):
            raise UserError(
                f"the files of run {run} are not the model that was registered: digest {digest[:12]} instead of "
                f"{str(expected)[:12]}; they were changed or damaged, choose another version"
            )
        with replaced_folder(KEPT / digest) as fresh:
            for name in FILES:
                (whole / name).rename(fresh / name)
    return KEPT / digest


def _require_model(client: Any, run: str) -> None:
    paths = {item.path for item in client.list_artifacts(run, catalog.FOLDER)}
    if paths >= {f"{catalog.FOLDER}/{name}" for name in FILES}:
        return
    experiment = client.get_run(run).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run}'")
    stages = ", ".join(f"{child.info.run_name} {child.info.run_id}" for child in children)
    raise UserError(f"run {run} keeps no model" + (f"; its stages are {stages}" if stages else ""))


def _fetch(client: Any, run: str, name: str, folder: Path) -> Path:
    path = Path(client.download_artifacts(run, f"{catalog.FOLDER}/{name}", str(folder)))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"run {run}: {name} came from another place than the run's artifacts; it is not taken")
    return path


def _is_whole(kept: Path) -> bool:
    try:
        return model_digest(kept) == kept.name
    except UserError:
        return False
