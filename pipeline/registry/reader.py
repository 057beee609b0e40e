"""Reads the embedded registry without MLflow, which takes seconds to load: for ``dreamset models list`` and the like.

``Reader`` has those methods of MLflow's client that reading the registry needs. It knows the tables of the versions of
MLflow whose revision is in ``REVISIONS``; with any other version the client itself reads.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamset.pipeline.tracking import embedded

REVISIONS = {"dc11669786a5"}  # of the tables that the statements below are written for
DELETED = "Deleted_Internal"  # stage of a version that was deleted
_CONDITION = re.compile(r"(name|tags\.digest) = '([^']*)'")


class Page(list[Any]):
    """All results of a search, as the only page."""

    token = None


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """As MLflow's entity."""

    name: str
    tags: Mapping[str, str]
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """As MLflow's entity."""

    name: str
    version: str
    run_id: str | None
    creation_timestamp: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """As MLflow's entity."""

    key: str
    value: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """As MLflow's entity."""

    metrics: list[Metric] = field(default_factory=list)
    params: Mapping[str, str] = field(default_factory=dict)


def can_read(store: Path) -> bool:
    """Whether the tables of an existing store are known here.

    Raises:
        UserError: if the file is damaged.
    """
    return embedded.revision(store) in REVISIONS


@contextmanager
def opened(store: Path) -> Iterator["Reader"]:
    """A reader of the store, which cannot write."""
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        yield Reader(connection)


@dataclass(frozen=True, slots=True)
class Reader:
    """The part of MLflow's client that reads the registry, for one store."""

    connection: sqlite3.Connection

    def search_registered_models(self, filter_string: str | None = None, page_token: str | None = None) -> Page:
        """Every registered model."""
        assert filter_string is page_token is None
        return Page(self.get_registered_model(name) for (name,) in self._rows("SELECT name FROM registered_models"))

    def get_registered_model(self, name: str) -> RegisteredModel:
        """A registered model with its tags and aliases."""
        tags = self._rows("SELECT key, value FROM registered_model_tags WHERE name = ?", name)
        aliases = self._rows("SELECT alias, version FROM registered_model_aliases WHERE name = ?", name)
        return RegisteredModel(name, dict(tags), {alias: str(number) for alias, number in aliases})

    def search_model_versions(self, filter_string: str | None = None, page_token: str | None = None) -> Page:
        """The versions with a name, with a digest or with both."""
        assert filter_string is not None
        assert page_token is None
        wanted = dict(_CONDITION.findall(filter_string))
        versions = self._rows(
            "SELECT name, version, run_id, creation_time FROM model_versions WHERE current_stage != ?", DELETED
        )
        named = (row for row in versions if wanted.get("name", row[0]) == row[0])
        found = (
            ModelVersion(name, str(number), run, created, self._tags(name, number))
            for name, number, run, created in named
        )
        return Page(version for version in found if wanted.get("tags.digest") in (None, version.tags.get("digest")))

    def get_logged_model(self, model_id: str) -> LoggedModel:
        """The figures and parameters of a logged model; none if it was deleted."""
        alive = "model_id IN (SELECT model_id FROM logged_models WHERE model_id = ? AND lifecycle_stage = 'active')"
        columns = "metric_name, metric_value, metric_timestamp_ms"
        metrics = self._rows(f"SELECT {columns} FROM logged_model_metrics WHERE {alive}", model_id)  # noqa: S608
        params = self._rows(f"SELECT param_key, param_value FROM logged_model_params WHERE {alive}", model_id)  # noqa: S608
        return LoggedModel([Metric(*row) for row in metrics], dict(params))

    def _tags(self, name: str, number: int) -> dict[str, str]:
        return dict(
            self._rows("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", name, number)
        )

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, values).fetchall()
