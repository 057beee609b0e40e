"""A project folder that is moved or copied keeps its runs, files and registered models."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.tracking import delivery, embedded, experiments


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A run with a file and a registered model, in the project folder ``before`` (the working folder)."""
    (tmp_path / "before it").mkdir()
    monkeypatch.chdir(tmp_path / "before it")
    with retrieval.connection(make=True) as client:
        rows = experiments.experiment(client, experiments.ROWS, embedded_store=True)
        made = client.create_run(rows).info
        client.log_text(made.run_id, "weights", "model/model.json")
        client.create_registered_model("pendulum.policy")
        client.create_model_version("pendulum.policy", f"{made.artifact_uri}/model", made.run_id)
    delivery.client_of.cache_clear()
    return str(made.run_id)


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(folder)
    with retrieval.connection() as client:
        assert isinstance(client, MlflowClient)
        return client


def texts(store: Path) -> str:
    with closing(sqlite3.connect(store)) as connection:
        return "\n".join(connection.iterdump())


@pytest.mark.parametrize("transfer", [shutil.move, shutil.copytree])
def test_files_and_models_are_found_where_the_project_is_now(
    transfer: object, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before it", tmp_path / "after"
    assert callable(transfer)
    transfer(before, after)
    client = opened(after, monkeypatch)
    downloaded = client.download_artifacts(run, "model/model.json")
    assert Path(downloaded).read_text() == "weights"
    assert client.get_run(run).info.artifact_uri.startswith(after.as_uri() + "/")
    assert client.get_model_version("pendulum.policy", "1").source.startswith(after.as_uri() + "/")
    assert before.as_uri() not in texts(embedded.path())


def test_store_that_was_moved_alone_keeps_its_artifacts_at_the_old_place(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before it", tmp_path / "after"
    (after / "tracking").mkdir(parents=True)
    shutil.move(before / "tracking/mlflow.db", after / "tracking/mlflow.db")
    client = opened(after, monkeypatch)
    assert Path(client.download_artifacts(run, "model/model.json")).read_text() == "weights"
    assert client.get_run(run).info.artifact_uri.startswith(before.as_uri() + "/")


def test_store_that_was_not_moved_is_not_written(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = embedded.path().read_bytes()
    client = opened(Path.cwd(), monkeypatch)
    assert client.get_run(run).info.run_id == run
    assert embedded.path().read_bytes() == content
