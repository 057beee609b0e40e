"""``dreamset data``: every tool on the command line, and the stage ``ingest`` with transforms and quarantine."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, Store, write_store
from dreamset.datasets.doubts import doubts
from dreamset.pipeline import cli
from dreamset.pipeline.report.card import write_card
from tests.datasets.conftest import CounterSource

TOOLS = ("inspect", "verify", "card", "score", "export", "merge", "split", "label-actions")
PNG = b"\x89PNG"


class Later(CounterSource):
    """The counting episodes from number 100 on, so that two stores share no episode."""

    def read(self, number: int) -> Any:
        return CounterSource([4] * (number + 101)).read(number + 100)


@pytest.fixture
def store() -> Store:
    return write_store(CounterSource([3, 5, 4, 6]), "store")


def run(*arguments: str | Path) -> None:
    cli.main(["data", *map(str, arguments)])


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run_and_capture(*arguments: str | Path) -> str:
        run(*arguments)
        return capsys.readouterr().out

    return run_and_capture


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a failing call, and returns its one-line error. The exit status is 2."""

    def run_and_fail(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        *progress, line = captured.err.splitlines()
        assert not any("error" in shown for shown in progress)
        return line

    return run_and_fail


@pytest.mark.parametrize("arguments", [[], *([tool] for tool in TOOLS)])
def test_help_explains_every_tool(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments, "--help")
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(" ".join(["usage: dreamset data", *arguments]))
    assert arguments or all(re.search(rf"\n    {tool}\s", output) for tool in TOOLS)


@pytest.mark.parametrize("arguments", [[], ["shred"], ["export", "store"], ["split", "store", "--output", "x"]])
def test_incomplete_call_is_one_line_that_points_to_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dreamset: error: ")
    assert "; see `dreamset data" in line


def test_arguments_may_be_any_sequence(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(("data", "verify", str(store.path)))
    assert store.digest in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "nowhere"],
        ["verify", "nowhere", "store"],
        ["card", "nowhere", "--output", "card"],
        ["export", "nowhere", "--to", "npz", "--output", "out"],
        ["merge", "store", "nowhere", "--output", "out"],
        ["split", "nowhere", "a=0.5", "b=0.5", "--output", "out"],
    ],
)
def test_wrong_path_is_a_one_line_error(refused: Callable[..., str], store: Store, arguments: list[str]) -> None:
    before = sorted(Path().iterdir())
    message = refused(*arguments)
    assert message.startswith("dreamset: error: nowhere: contains no dataset.json, so it is not a Dreamset dataset")
    assert sorted(Path().iterdir()) == before
    store.verify()


def test_inspect_shows_a_stores_card_or_a_files_arrays(
    printed: Callable[..., str], refused: Callable[..., str], store: Store
) -> None:
    card = printed("inspect", store.path)
    assert card.startswith("# Dataset `store`")
    assert "4 episodes, 18 transitions, 22 rows" in card
    file, action, *_ = printed("inspect", "store/shard-00000.h5").splitlines()
    assert (file, action.partition(", from")[0]) == ("store/shard-00000.h5", "  action: float32[22, 1]")
    with h5py.File("foreign.hdf5", "w") as file:
        file["data/demo_0/obs"] = np.zeros((3, 2))
    assert printed("inspect", "foreign.hdf5").splitlines() == [
        "foreign.hdf5",
        "  data/",
        "    demo_0/",
        "      obs: float64[3, 2]",
    ]
    assert refused("inspect", "nowhere") == "dreamset: error: nowhere: no such file or folder; check the path"


def test_inspect_names_the_working_folder(
    printed: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.path)
    assert printed("inspect", ".").startswith("# Dataset `store`")


def test_verify_checks_every_store_and_names_the_damaged_file(
    printed: Callable[..., str], refused: Callable[..., str], store: Store
) -> None:
    other = write_store(CounterSource([3, 3]), "other")
    assert printed("verify", "store", "other").splitlines() == [
        f"store: 1 shards match their checksums, digest {store.digest}",
        f"other: 1 shards match their checksums, digest {other.digest}",
    ]
    shard = Path("store/shard-00000.h5")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert refused("verify", "store").startswith("dreamset: error: store/shard-00000.h5: its checksum is")


def test_card_has_text_and_images_and_replaces_only_cards(
    printed: Callable[..., str], refused: Callable[..., str], store: Store
) -> None:
    for _ in range(2):  # the second replaces the first
        assert printed("card", "store", "--output", "cards/store").strip() == "cards/store/card.html"
        files = {file.name: file.read_bytes() for file in Path("cards/store").iterdir()}
        figures = {f"{name}.png" for name in ("returns", "lengths", "rewards", "actions", "image")}
        assert files.keys() == {"card.md", "card.html", *figures}
        page = files.pop("card.md").decode()
        assert files.pop("card.html").startswith(b"<!doctype html>")
        assert page.startswith("# Dataset `store`")
        assert "![image](image.png)" in page
        assert all(content.startswith(PNG) for content in files.values())
        Path("cards/store/leftover").touch()
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work")
    for taken in ("thesis", "thesis/chapter.txt", "store"):
        message = refused("card", "store", "--output", taken)
        assert f"{taken} exists and is not a dataset card, so it is not replaced" in message
    assert Path("thesis/chapter.txt").read_text() == "years of work"
    store.verify()


def test_card_of_a_store_without_validation_episodes_is_written(tmp_path: Path) -> None:
    splits = {"train": np.arange(2), "validation": np.arange(0)}
    write_card(write_store(CounterSource([3, 3]), "part", splits=lambda _: splits), tmp_path / "card")
    page = (tmp_path / "card" / "card.md").read_text()
    assert "| train | 2 | return |" in page
    assert "| validation |" not in page


@pytest.mark.parametrize("to", ["npz", "minari"])
def test_export_prints_its_folder_and_overwrites_nothing(
    printed: Callable[..., str], refused: Callable[..., str], store: Store, to: str
) -> None:
    assert printed("export", "store", "--to", to, "--output", "out").strip() == "out: 4 episodes"
    files = sorted(file.name for file in Path("out").rglob("*") if file.is_file())
    assert ("00000003-6.npz" if to == "npz" else "main_data.hdf5") in files
    before = {file: file.read_bytes() for file in Path("out").rglob("*") if file.is_file()}
    message = refused("export", "store", "--to", to, "--output", "out")
    assert message.startswith("dreamset: error: out exists already and is not overwritten; remove it or choose")
    assert {file: file.read_bytes() for file in Path("out").rglob("*") if file.is_file()} == before
    assert len(store.lengths) == 4


def test_exported_store_is_ingested_again(printed: Callable[..., str], store: Store) -> None:
    printed("export", "store", "--to", "minari", "--output", "out")
    again = write_store(MinariSource("out/dreamset/store-v0"), "again")
    assert again.lengths.tolist() == store.lengths.tolist()
    np.testing.assert_array_equal(again.read(3)["state"], store.read(3)["state"])


def test_unknown_format_error_lists_known_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("export", "store", "--to", "csv", "--output", "out")
    assert stop.value.code == 2
    assert "minari" in capsys.readouterr().err


def test_merge_prints_the_counts_and_overwrites_nothing(
    printed: Callable[..., str], refused: Callable[..., str], store: Store
) -> None:
    write_store(Later([4, 4, 4]), "later")
    path, _, counts = printed("merge", "store", "later", "--output", "both").partition(": ")
    assert path == "both"
    assert json.loads(counts) == {"episodes": 7, "rows": 37, "transitions": 30}
    assert Store.open("both").lengths[:4].tolist() == store.lengths.tolist()
    assert "both exists already and is not overwritten" in refused("merge", "store", "later", "--output", "both")
    assert "equals episode 0 of store" in refused("merge", "store", "store", "--output", "twice")
    assert not Path("twice").exists()


def test_split_prints_the_counts_of_each_part_and_overwrites_nothing(
    printed: Callable[..., str], refused: Callable[..., str], store: Store
) -> None:
    lines = printed("split", "store", "most=0.75", "rest=0.25", "--output", "parts", "--seed", "3").splitlines()
    counts = {path: json.loads(text) for path, _, text in (line.partition(": ") for line in lines)}
    assert {path: count["episodes"] for path, count in counts.items()} == {"parts/most": 3, "parts/rest": 1}
    assert sum(count["rows"] for count in counts.values()) == store.info["counts"]["rows"]
    assert Store.open("parts/rest").info["source"]["split"]["seed"] == 3
    assert "parts exists already" in refused("split", "store", "a=0.5", "b=0.5", "--output", "parts")


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (["half"], "'half' is not NAME=SHARE, such as pretrain=0.8; fix it"),
        (["a=much"], "'a=much' is not NAME=SHARE"),
        (["=1"], "'' cannot name a folder"),
        (["../a=1"], "'../a' cannot name a folder; choose a plain name"),
        (["..=0.5", "b=0.5"], "'..' cannot name a folder"),
        ([".=0.5", "b=0.5"], "'.' cannot name a folder"),
        (["a=0.5", "a=0.5"], "a=0.5 a=0.5 names a share twice"),
        (["a=0.5", "b=0.6"], "positive numbers that sum to 1"),
        (["a=nan", "b=0.5"], "positive numbers that sum to 1"),
        (["a=0.99", "b=0.01"], "too few episodes for the part 'b'; choose a larger share"),
    ],
)
def test_wrong_shares_are_a_one_line_error_and_write_nothing(
    refused: Callable[..., str], store: Store, shares: list[str], message: str
) -> None:
    assert message in refused("split", store.path, *shares, "--output", "parts")
    assert [item.name for item in Path().iterdir()] == ["store"]


@pytest.mark.parametrize("tool", [["merge", "store"], ["split", "store", "a=0.5", "b=0.5"]])
def test_existing_file_is_not_overwritten_by_a_store(
    refused: Callable[..., str], store: Store, tool: list[str]
) -> None:
    Path("notes.txt").write_text("kept")
    assert "notes.txt exists already and is not overwritten" in refused(*tool, "--output", "notes.txt")
    assert Path("notes.txt").read_text() == "kept"
    store.verify()


def ingest_config(**changes: Any) -> dict[str, Any]:
    source = {
        "_target_": "dreamset.datasets.sources.dreamer.episodes.DreamerSource",
        "path": "episodes",
        "observations": ["image", "state"],
        "privileged": ["privileged.clock"],
        "action_low": 0.0,
        "action_high": 9e9,
    }
    return {
        "dataset": "counter",
        "source": source,
        "transforms": [
            {"_target_": "dreamset.datasets.transforms.RenameColumns", "names": {"privileged.clock": "clock"}},
            {"_target_": "dreamset.datasets.transforms.FoldActions", "repeat": 2},
        ],
        "code": "any",
        "on_invalid": "quarantine",
        "split": {"validation_fraction": 0.5, "seed": 7},
        "settings": {"compression": None, "shard_megabytes": 1, "workers": 2},
        "output": "ingested",
        "card": "card",
        **changes,
    }


def ingest(**changes: Any) -> None:
    Path("ingest.yaml").write_text(yaml.safe_dump(ingest_config(**changes)))
    cli.main(["ingest", "--resolved", "ingest.yaml"])


@pytest.fixture
def episodes(store: Store) -> Path:
    """The store as npz files, the second of them with a NaN."""
    run("export", store.path, "--to", "npz", "--output", "episodes")
    damaged = Path("episodes/00000001-5.npz")
    with np.load(damaged) as archive:
        arrays = dict(archive)
    arrays["state"][2, 1] = np.nan
    np.savez(damaged, **arrays)
    return Path("episodes")


def test_ingest_ends_with_what_the_store_holds_and_where_it_lies(
    episodes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    ingest()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "counter"
    assert "  episodes      3 (1 train, 2 validation), 7 transitions, 2 to 3 per episode" in lines
    assert "  quarantined   1 of 4 episodes; the card says why" in lines
    assert lines[lines.index("  store         ingested") + 1] == "  card          card/card.html"
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert warnings[0].startswith("warning: rewards reach 6010, which makes the losses of Dreamer v1 and v2 diverge")
    assert "- rewards reach 6010, which makes" in Path("card/card.md").read_text()
    assert episodes.is_dir()


def test_ingest_lists_transforms_and_quarantined_episodes(episodes: Path) -> None:
    ingest()
    store = Store.open("ingested")
    assert [note["transform"] for note in store.info["source"]["transforms"]] == ["RenameColumns", "FoldActions"]
    assert store.info["split_settings"] == {"validation_fraction": 0.5, "seed": 7}
    assert store.lengths.tolist() == [3, 3, 4]
    assert store.read(0)["action"][:, 0].tolist() == [0, 0.25, 2.25]
    assert store.read(0)["privileged.clock"][:, 0].tolist() == [0, 4, 6]
    page = Path("card/card.md").read_text()
    assert "## Quarantined: 1 episodes" in page
    reason = f"episode 1 of {episodes}/00000001-5.npz: observation 'state' is nan at step 2, element [1]"
    assert f"| 1 | {reason}" in page
    assert Path("card/image.png").read_bytes().startswith(PNG)


def test_recorded_dataset_raises_no_warning(tiny_data: Path) -> None:
    store = Store.open(tiny_data / "data/stores/pendulum_state")
    assert doubts(store.info) == []
    assert "Warnings" not in (tiny_data / "data/cards/pendulum_state/card.md").read_text()


def test_ingest_stops_at_the_first_invalid_episode_if_configured(
    episodes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        ingest(on_invalid="error")
    assert stop.value.code == 2
    message = f"dreamset: error: episode 1 of {episodes}/00000001-5.npz: observation 'state' is nan"
    assert message in capsys.readouterr().err
    assert not Path("ingested").exists()
    assert not Path("card").exists()


def test_unfit_transform_is_a_one_line_error(episodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        ingest(transforms=[{"_target_": "dreamset.datasets.transforms.Resize", "height": 9, "width": 9}])
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("dreamset: error: Resize to 9 x 9: images are 2 x 3")
    assert episodes.is_dir()


def test_equal_ingests_give_equal_stores(episodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dreamset.pipeline.stages.ingest.write_card", lambda _store, folder: folder.mkdir(exist_ok=True)
    )
    ingest()
    ingest(output="again", settings={"compression": None, "shard_megabytes": 1, "workers": 5})
    assert Store.open("again").digest == Store.open("ingested").digest
    assert len(list(episodes.iterdir())) == 4


def test_card_does_not_replace_other_files(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists and is not a dataset card"):
        write_card(store, store.path)
    (tmp_path / "empty").mkdir()
    write_card(store, tmp_path / "empty")
    assert (tmp_path / "empty" / "card.md").is_file()
