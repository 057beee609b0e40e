"""``--multirun``: one run per combination, skipped only if it is finished and nothing has changed."""

import sys
from pathlib import Path

import pytest

from dreamset.pipeline import cli
from dreamset.pipeline.commands import sweep
from dreamset.pipeline.config.compose import combinations

PROGRAM = """\
import pathlib, sys
overrides = dict(text.split("=") for text in sys.argv[2:])
with open("log.txt", "a") as log: log.write(" ".join(sys.argv[2:]) + "\\n")
folder = pathlib.Path("runs/world_model", f"{overrides['objective']}-{overrides['seed']}")
folder.mkdir(parents=True, exist_ok=True)
(folder / "model").write_text("x")
sys.exit(overrides["seed"] == "1" and pathlib.Path("broken").exists())
"""  # stands for the stage
SWEEP = ["train-world-model", "-m", "preset=tiny", "objective=reward_only,contrastive", "seed=0,1"]
RUNS = [f"preset=tiny objective={name} seed={seed}" for name in ("reward_only", "contrastive") for seed in (0, 1)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "START", [sys.executable, "-c", PROGRAM])
    return tmp_path


def started() -> list[str]:
    """The runs since the last call."""
    log = Path("log.txt")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_values_separated_by_commas_give_all_combinations_in_order() -> None:
    assert combinations(["a=1,2", "b=[1,2]", "c=range(0,2)", "d='x,y'"]) == [
        [f"a={a}", "b=[1,2]", f"c={c}", "d='x,y'"] for a in (1, 2) for c in (0, 1)
    ]


def test_finished_runs_are_skipped_until_an_output_or_input_changes(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(SWEEP)
    assert started() == RUNS
    cli.main(SWEEP)
    assert started() == []
    assert capsys.readouterr().out.splitlines()[-1] == "finished before, skipped: runs/world_model/contrastive-1"
    Path("runs/world_model/contrastive-0/model").write_text("another one")
    cli.main(SWEEP)
    assert started() == [RUNS[2]]
    Path("data/stores/pendulum_pixels").mkdir(parents=True)
    Path("data/stores/pendulum_pixels/dataset.json").write_text("{}")
    cli.main(SWEEP)
    assert started() == RUNS


def test_other_settings_run_again() -> None:
    cli.main(SWEEP)
    started()
    cli.main([*SWEEP, "network.hidden=7"])
    assert len(started()) == 4


def test_failed_run_stops_no_other_and_is_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken").touch()
    with pytest.raises(SystemExit) as stop:
        cli.main(SWEEP)
    assert stop.value.code == 2
    assert started() == RUNS
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("dreamset: error: 2 of 4 runs failed; run the same command again")
    assert [line.startswith("FAILED") for line in captured.out.splitlines()] == [False, True, False, True]
    Path("broken").unlink()
    cli.main(SWEEP)
    assert started() == [RUNS[1], RUNS[3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["network.hidden=7,8"], "several runs of the sweep would write runs/world_model/reconstruction-0"),
        (["seed=0,1", "objective=reward_only,nothing"], "objective is 'nothing'"),
        (["--resolved", "x.yaml"], "--multirun and --resolved exclude each other"),
    ],
)
def test_wrong_sweep_starts_no_run(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train-world-model", "--multirun", *arguments])
    assert message in capsys.readouterr().err
    assert started() == []
    assert list(Path().iterdir()) == []
