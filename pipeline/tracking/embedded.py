"""The embedded MLflow store: a SQLite file in the working folder. It is created completely or not at all."""

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from dreamset.core.errors import UserError

FOLDER = Path("tracking")
PREFIX = "sqlite:///"
ARTIFACTS = "artifacts"  # folder of the artifacts, beside the store
# the columns where MLflow keeps absolute addresses of files
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def path() -> Path:
    """The file of the store."""
    return (FOLDER / "mlflow.db").resolve()


def uri() -> str:
    """The address of the store."""
    return f"{PREFIX}{path()}"


def prepare(address: str) -> None:
    """Creates the SQLite store at an address unless it exists; checks an existing one before MLflow opens it.

    MLflow creates a store in many steps, and it migrates an older one without being asked. A process that is killed
    meanwhile leaves a file that no version of MLflow can open. A new store is therefore made beside its place.

    Raises:
        UserError: if the file is damaged or belongs to another version of MLflow.
    """
    if not address.startswith(PREFIX) or "?" in address:  # a server, or SQLite with options of its own
        return
    store = Path(address.removeprefix(PREFIX))
    store.parent.mkdir(parents=True, exist_ok=True)
    if not _exists(store):
        with FileLock(store.with_name(f"{store.name}.lock")):
            if not _exists(store):
                _create(store)
    require_schema(store)
    if store == path():
        _follow(store)


def _exists(store: Path) -> bool:
    """Whether the store has any content; SQLite leaves an empty file if it is killed at once."""
    return store.exists() and store.stat().st_size > 0


def _create(store: Path) -> None:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".creating-") as folder:
        made = Path(folder) / store.name
        MlflowClient(f"{PREFIX}{made}").delete_experiment("0")  # MLflow's own "Default", which nothing here uses
        require_schema(made)
        made.replace(store)


def _follow(store: Path) -> None:
    """Corrects the addresses of artifacts if the folder of the store was moved or copied, in one transaction.

    A store that was moved without its artifacts keeps the addresses of those that are still at the old place.
    """
    here = store.parent.as_uri()
    with closing(sqlite3.connect(store)) as connection, connection:
        known = connection.execute("SELECT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%'")
        folders = {location.rpartition(f"/{ARTIFACTS}/")[0] for (location,) in known} - {"", here}
        for there in folders:
            if (store.parent / ARTIFACTS).exists() or not Path(url2pathname(urlsplit(there).path), ARTIFACTS).exists():
                _readdress(connection, there, here)


def _readdress(connection: sqlite3.Connection, there: str, here: str) -> None:
    for table, columns in ADDRESSES.items():
        for column in columns:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                (here, len(there) + 1, len(there) + 1, f"{there}/"),
            )


def require_schema(store: Path) -> None:
    """Compares the version of the store's tables with that of the installed MLflow.

    Raises:
        UserError: if they differ, or the file is damaged.
    """
    found, scripts = revision(store), _scripts()
    expected = scripts.get_current_head()
    if found == expected:
        return
    versions = f"{store} has the tables of another version of MLflow ({found}; the installed one needs {expected})"
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise UserError(f"{versions}, which is newer; run `pip install --upgrade mlflow`, or move the file away")
    copy = store.with_name("migrated.db")
    raise UserError(
        f"{versions}; migrate a copy and take its place: `cp {store} {copy} && mlflow db upgrade {PREFIX}{copy} && "
        f"mv {copy} {store}`"
    )


def revision(store: Path) -> str:
    """The version of the tables in the file.

    Raises:
        UserError: if the file is no store, or its creation was interrupted.
    """
    try:
        with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # locked, for example
            raise
        revisions = []
    except sqlite3.DatabaseError as error:
        raise _damaged(store, str(error)) from error
    if len(revisions) != 1:
        raise _damaged(store, "its creation was interrupted")
    return str(revisions[0][0])


def _damaged(store: Path, reason: str) -> UserError:
    return UserError(
        f"{store} is damaged ({reason}); move it away: `mv {store} {store}.damaged`; a new store is created with the "
        "reports that are still in the outbox, and `dreamset models import` registers models in runs/ again"
    )


@cache
def _scripts() -> Any:
    """The migrations of the installed MLflow."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store/db_migrations"))
