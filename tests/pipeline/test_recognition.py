"""``dreamset data inspect`` names a command that ingests the data."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from dreamset.datasets import Store, write_store
from dreamset.datasets.exports import export_minari
from dreamset.pipeline import cli
from dreamset.pipeline.config.mistakes import override_text
from tests.datasets.conftest import CounterSource

EPISODES, LENGTH = 3, 12
CARD_FIGURES = "dreamset.pipeline.report.card._drawings"


def columns(episode: int) -> dict[str, Any]:
    """As many observations as actions, with a state in two columns."""
    random = np.random.default_rng(episode)
    return {
        "x": random.normal(size=LENGTH).astype(np.float32),
        "velocity": random.normal(size=LENGTH).astype(np.float32),
        "action": random.uniform(-1, 1, (LENGTH, 1)).astype(np.float32),
        "reward": random.normal(size=LENGTH).astype(np.float32),
        "done": np.zeros(LENGTH, bool),
    }


def in_sequence() -> dict[str, Any]:
    parts = [columns(episode) for episode in range(EPISODES)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**joined, "episode": np.repeat(np.arange(EPISODES), LENGTH)}


def minari(path: Path) -> None:
    export_minari(write_store(CounterSource([LENGTH + n for n in range(EPISODES)]), "exported"), path, lambda: None)


def npz(path: Path) -> None:
    path.mkdir()
    for episode in range(EPISODES):
        camera = np.eye(3)  # of the whole episode: no observation, because it has another number of rows
        np.savez(path / f"{episode}.npz", camera=camera, **columns(episode))


def csv(path: Path) -> None:
    path.mkdir()
    table = {name: np.squeeze(values) for name, values in in_sequence().items()}
    pd.DataFrame(table).to_csv(path / "log.csv")


def parquet(path: Path) -> None:
    path.mkdir()
    table = {name: np.squeeze(values) for name, values in in_sequence().items()}
    pd.DataFrame(table).to_parquet(path / "log.parquet")


def hdf5_groups(path: Path) -> None:
    path.mkdir()
    with h5py.File(path / "all.h5", "w") as file:
        for episode in range(EPISODES):
            for name, values in columns(episode).items():
                file[f"run_{episode}/{name}"] = values


def robomimic(path: Path) -> None:
    path.mkdir()
    with h5py.File(path / "demo.hdf5", "w") as file:
        for episode in range(EPISODES):
            values = columns(episode)
            group = file.create_group(f"data/demo_{episode}")
            group["obs/arm"], group["actions"] = values["x"][:, None], values["action"]
            group["rewards"], group["dones"] = values["reward"], values["done"]
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
        file["mask/valid"] = np.array([b"demo_2"])


def d4rl(path: Path) -> None:
    path.mkdir()
    values = in_sequence()
    with h5py.File(path / "mixed-v2.hdf5", "w") as file:
        file["observations"], file["actions"] = values["x"][:, None], values["action"]
        file["rewards"], file["terminals"] = values["reward"], values["done"]
        file["timeouts"] = np.diff(values["episode"], append=-1) != 0


def d3rlpy(path: Path) -> None:
    path.mkdir()
    with h5py.File(path / "buffer.h5", "w") as file:
        for episode in range(EPISODES):
            values = columns(episode)
            file[f"observations_{episode}"], file[f"actions_{episode}"] = values["x"][:, None], values["action"]
            file[f"rewards_{episode}"], file[f"terminated_{episode}"] = values["reward"][:, None], False
        file["num_episodes"] = EPISODES


def images(path: Path) -> None:
    for episode in range(EPISODES):
        run = path / f"run {episode}"
        run.mkdir(parents=True)
        for row in range(LENGTH):
            Image.new("RGB", (8, 6), (row, episode, 0)).save(run / f"{row}.png")
        np.save(run / "action.npy", columns(episode)["action"])


FORMATS = [minari, npz, csv, parquet, hdf5_groups, robomimic, d4rl, d3rlpy, images]


@pytest.mark.parametrize("write", FORMATS)
def test_the_command_that_inspect_prints_ingests_every_episode(
    write: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if write not in (minari, images):  # whose vectors look like those of Minari on the card
        monkeypatch.setattr(CARD_FIGURES, lambda *_: [])
    data = tmp_path / "my data [1]"
    write(data)
    files = [file for file in data.iterdir() if file.suffix in (".h5", ".hdf5")]
    cli.main(["data", "inspect", str(files[0] if files else data)])
    command = capsys.readouterr().out.splitlines()[-1]
    name, *arguments = shlex.split(command)
    assert (name, arguments[0]) == ("dreamset", "ingest")
    cli.main([*arguments, "dataset.name=found"])
    assert Store.open("data/stores/found").info["counts"]["episodes"] == EPISODES


@pytest.mark.parametrize("write", FORMATS)
def test_the_saved_settings_ingest_every_episode(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CARD_FIGURES, lambda *_: [])  # the test above draws the same
    data = tmp_path / "my data [1]"
    write(data)
    Path("configs").mkdir()
    Path("configs/project.yaml").write_text("saved_models_may_use: []\n")
    files = [file for file in data.iterdir() if file.suffix in (".h5", ".hdf5")]
    cli.main(["data", "inspect", str(files[0] if files else data), "--save", "found"])
    cli.main(["ingest", "dataset=found"])
    assert Store.open("data/stores/found").info["counts"]["episodes"] == EPISODES


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pendulum_state", "a dataset named pendulum_state exists already"),
        ("../x", "--save is '../x'; allowed: letters"),
        ("found", "it is no project; run `dreamset init .`"),
    ],
)
def test_a_name_that_is_taken_or_no_name_and_a_folder_without_project_are_refused(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(tmp_path / "data")
    if name != "found":
        Path("configs").mkdir()
        Path("configs/project.yaml").write_text("saved_models_may_use: []\n")
    with pytest.raises(SystemExit):
        cli.main(["data", "inspect", str(tmp_path / "data"), "--save", name])
    assert said in capsys.readouterr().err
    assert not Path("configs/dataset").exists()


def test_data_without_actions_get_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 8, 8, 3), np.uint8))
    cli.main(["data", "inspect", str(tmp_path)])
    assert "dreamset ingest" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "value",
    ["plain", "/data/run=1", "null", "it's", "a b", "ü", "1", 'say "x"', None, True, 1.5, ["a b", "c"], {"k": ["x/y"]}],
)
def test_override_text_means_the_same_to_shell_and_hydra(value: Any) -> None:
    (override,) = shlex.split(override_text("dataset.fetch", value))
    parsed = OverridesParser.create().parse_override(override)
    assert (parsed.key_or_group, parsed.value()) == ("dataset.fetch", value)
