"""Datasets by id: found on this machine, or downloaded completely by Minari's client."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import minari
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource
from dreamset.datasets.sources.minari import fetch as minari_fetch
from dreamset.datasets.sources.minari.fetch import fetch

ID = "counter/test-v0"  # what `record_counter` writes into $MINARI_DATASETS_PATH


@pytest.fixture
def remote(record_counter, tmp_path, monkeypatch) -> Path:
    """A recorded dataset that is not where Minari looks, but from where the faked client "downloads"."""
    folder = record_counter(3, 3)
    away = tmp_path / "remote"
    shutil.move(folder, away)
    shutil.rmtree(tmp_path / "minari")
    monkeypatch.setattr(minari_fetch, "_INTERVAL", 0.01)

    def download_dataset(dataset_id: str, *, force_download: bool) -> None:
        assert force_download  # else Minari refuses what other versions wrote
        print("Downloading ...")
        if dataset_id != ID:
            raise ValueError(f"Couldn't find any version for dataset {dataset_id}\n in the remote Farama server.")
        target = Path(os.environ["MINARI_DATASETS_PATH"], dataset_id)
        (target / "data").mkdir(parents=True)
        for item in sorted((away / "data").iterdir()):
            shutil.copy(item, target / "data")
            time.sleep(0.05)

    monkeypatch.setattr(minari, "download_dataset", download_dataset)
    return away


def root() -> Path:
    return Path(os.environ["MINARI_DATASETS_PATH"])


def test_local_dataset_is_found_by_its_id(record_counter, monkeypatch):
    folder = record_counter(3, 3)
    monkeypatch.setattr(minari, "download_dataset", lambda *_args, **_settings: pytest.fail("nothing is missing"))
    assert fetch(ID) == folder
    by_id, by_path = MinariSource(dataset_id=ID), MinariSource(folder)
    assert by_id.describe() == by_path.describe()
    assert by_id.read(1).rewards.tolist() == by_path.read(1).rewards.tolist()


def test_default_minari_folder_is_in_the_home_directory(record_counter, tmp_path, monkeypatch):
    shutil.move(record_counter(2).parents[1], tmp_path / ".minari" / "datasets")
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch(ID) == tmp_path / ".minari" / "datasets" / ID


def test_given_folder_is_used_unchanged(tmp_path):
    assert fetch(path=tmp_path) == tmp_path


def test_missing_dataset_is_downloaded_completely(remote, capsys):
    heard: list[tuple[int, int | None]] = []
    folder = fetch(ID, on_bytes=lambda done, total: heard.append((done, total)))
    assert folder == root() / ID
    assert sorted(path.name for path in root().iterdir()) == ["counter"]  # nothing of the download is left
    assert len(MinariSource(dataset_id=ID).read(1).rewards) == 3
    size = sum(path.stat().st_size for path in (remote / "data").iterdir())
    assert heard[-1] == (size, None)
    assert any(0 < done < size for done, _ in heard)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert capsys.readouterr().out == ""
    assert fetch(ID) == folder


@pytest.mark.usefixtures("remote")
def test_unknown_id_is_one_line_and_leaves_no_files():
    with pytest.raises(UserError, match=r"^counter/other-v0: Minari could not download it \(Couldn't find") as caught:
        fetch("counter/other-v0")
    assert "\n" not in str(caught.value)
    assert list(root().iterdir()) == []


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nto host"), ImportError("install minari[hf]"), Exception()], ids=repr
)
def test_failed_download_names_reason_and_remedy(monkeypatch, error):
    def fail(*_args: Any, **_settings: Any) -> None:
        (root() / ID / "data").mkdir(parents=True)
        raise error

    before = dict(os.environ)
    monkeypatch.setattr(minari, "download_dataset", fail)
    reason = " ".join(str(error).split()) or "Exception"
    with pytest.raises(UserError) as caught:
        fetch(ID)
    assert str(caught.value).startswith(f"{ID}: Minari could not download it ({reason}); check the id and the network")
    assert str(root() / ID) in str(caught.value)
    assert list(root().iterdir()) == []
    assert os.environ == before


@pytest.mark.usefixtures("remote")
def test_empty_download_is_refused(monkeypatch):
    monkeypatch.setattr(minari, "download_dataset", lambda *_args, **_settings: None)
    with pytest.raises(UserError, match="Minari's download is not a dataset"):
        fetch(ID)


@pytest.mark.usefixtures("remote")
def test_reading_never_downloads():
    with pytest.raises(UserError, match=r"counter/test-v0: no such dataset in .*minari; fetch it .* 'minari download"):
        MinariSource(dataset_id=ID)


@pytest.mark.parametrize("dataset_id", ["../../etc-v0", "/etc/x-v0", "counter/test", "", "a//b-v0", "counter/te st-v0"])
def test_invalid_id_is_refused(dataset_id):
    with pytest.raises(UserError, match="is not a Minari dataset id such as"):
        fetch(dataset_id)
    with pytest.raises(UserError, match="is not a Minari dataset id"):
        MinariSource(dataset_id=dataset_id)


def test_path_and_id_together_are_refused(tmp_path):
    for use in (MinariSource, lambda path=None, *, dataset_id=None: fetch(dataset_id, path)):
        with pytest.raises(UserError, match="named by path or by dataset_id, but both are given"):
            use(tmp_path, dataset_id=ID)
        with pytest.raises(UserError, match="but neither is given"):
            use()


def test_reading_needs_no_minari(record_counter, monkeypatch):
    folder = record_counter(2)
    monkeypatch.setitem(sys.modules, "minari", None)  # importing it fails
    assert MinariSource(dataset_id=ID).episode_count == MinariSource(folder).episode_count == 1


def configuration(*overrides: str) -> DictConfig:
    with initialize_config_module("dreamset.configs", version_base="1.3"):
        return compose("config", overrides=["dataset=minari", *overrides]).dataset


def test_configuration_needs_only_an_id(record_counter):
    folder = record_counter(3, 3)
    assert OmegaConf.is_missing(configuration(), "id")
    node = configuration(f"dataset.id={ID}")
    assert instantiate(node.fetch) == folder
    assert instantiate(node.source).episode_count == 2


def test_configuration_accepts_a_folder_instead_of_an_id(record_counter):
    folder = record_counter(3, 3)
    node = configuration("dataset.id=null", f"dataset.source.path={folder}", "dataset.source.episodes=1")
    assert instantiate(node.fetch) == folder
    assert instantiate(node.source).episode_count == 1
