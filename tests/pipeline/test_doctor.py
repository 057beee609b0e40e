"""``dreamset doctor`` finds what is broken, says how to fix it, and changes nothing."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamset.pipeline import cli
from dreamset.pipeline.tools import doctor, init
from dreamset.pipeline.tools.doctor import Finding


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def findings(check: str) -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.check == check]


def test_report_in_an_empty_folder_has_no_error_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["doctor", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert {entry["check"] for entry in listed} == {check.__name__.strip("_") for check in doctor.CHECKS}
    assert all(entry["state"] != "error" for entry in listed)
    assert list(folder.iterdir()) == []


def test_missing_library_is_an_error_with_its_command_and_exit_status_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == 1
    page = capsys.readouterr().out
    assert "ERROR libraries  no-such-library is missing" in page
    assert '-> pip install "no-such-library"' in page
    assert page.splitlines()[-1] == "errors: 1, warnings: 0; the arrows say what to do"


def test_old_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (sys.version_info.major, sys.version_info.minor + 1))
    assert [finding.state for finding in findings("python")] == ["error"]


def test_every_broken_finding_says_how_to_fix_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_GIGABYTES", 1e9)
    (folder / "tracking/outbox").mkdir(parents=True)
    (folder / "tracking/outbox/failure.txt").write_text("no server")
    (folder / "tracking/mlflow.db").write_text("no store")
    (folder / "params.yaml").write_text("preset: [")
    broken = [finding for finding in doctor.examine() if finding.state in ("warning", "error")]
    assert {finding.check for finding in broken} >= {"disk", "tracking", "project"}
    assert all(finding.fix for finding in broken)


@pytest.mark.parametrize(
    ("preset", "state", "text"),
    [("tiny", "ok", "params.yaml: robot, tiny, mine"), ("tin", "error", "preset is 'tin'; allowed: .*preset=tiny")],
)
def test_names_in_params_must_exist(preset: str, state: str, text: str, folder: Path) -> None:
    for name in ("configs/dataset/robot.yaml", "configs/objective/mine.yaml", "configs/project.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("saved_models_may_use: []\n" if "project" in name else "name: x\n")
    (folder / "params.yaml").write_text(
        f"{{preset: {preset}, dataset: robot, objectives: [mine], seeds: [0], finetune: [], overrides: []}}"
    )
    (folder / ".dvc").mkdir()
    (first, *_) = findings("project")
    assert first.state == state
    assert re.search(text, first.text)


def test_stages_of_another_release_are_a_warning_whose_command_renews_them(folder: Path) -> None:
    init.run(folder)
    assert "warning" not in {finding.state for finding in findings("project")}
    stages = (folder / "dvc.yaml").read_bytes()
    (folder / "dvc.yaml").write_bytes(stages.replace(b"report.html", b"metrics.json"))
    warning = next(finding for finding in findings("project") if finding.state == "warning")
    subprocess.run(warning.fix.partition(": ")[2], shell=True, check=True)
    assert (folder / "dvc.yaml").read_bytes() == stages


def test_check_that_fails_hides_no_other_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken() -> Iterator[Finding]:
        raise sqlite3.OperationalError("disk\nI/O error")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (_broken, *doctor.CHECKS))
    first, *others = doctor.examine()
    assert first == Finding("broken", "warning", "could not be examined: disk I/O error")
    assert len(others) > 5


def test_password_of_the_server_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    (finding,) = findings("tracking")
    assert "host" in finding.text
    assert "secret" not in finding.text


def test_colours_are_for_terminals_only() -> None:
    listed = [Finding("python", "ok", "3.11")]
    assert "\x1b" not in doctor.report(listed, color=False)
    assert "\x1b[32mok" in doctor.report(listed, color=True)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 'pip install "dreamset[dmc]"'),
        ({"url": "file:///a%20b/dreamset", "dir_info": {"editable": True}}, 'pip install -e "/a b/dreamset[dmc]"'),
        ({"url": "file:///x/dreamset", "dir_info": {}}, 'pip install "/x/dreamset[dmc]"'),
    ],
)
def test_extras_are_added_from_where_the_package_came(
    origin: dict[str, object] | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return None if origin is None else {"direct_url.json": json.dumps(origin)}[name]

    monkeypatch.setattr(doctor, "distribution", lambda _: Installed())
    assert doctor.install_command("dmc") == expected


def test_waiting_reports_are_counted(folder: Path) -> None:
    (folder / "tracking/outbox").mkdir(parents=True)
    for number in range(3):
        (folder / f"tracking/outbox/{number}.jsonl").touch()
    assert any(finding.text.startswith("3 reports of stages") for finding in findings("tracking"))


def test_chosen_writers_are_listed_and_a_missing_package_has_its_command(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("DREAMSET_WRITERS", "tensorboard,wandb")
    (folder / "tracking/outbox").mkdir(parents=True)
    (folder / "tracking/outbox/failure-tensorboard.txt").write_text("no room")
    monkeypatch.setattr("dreamset.pipeline.tracking.writers.find_spec", lambda name: None if name == "wandb" else name)
    listed, waiting, missing = findings("writers")
    assert (listed.state, listed.text) == ("ok", "TensorBoard: tracking/tensorboard")
    assert (waiting.state, waiting.text) == ("warning", "0 reports wait in tracking/outbox: no room")
    assert missing.state == "warning"
    assert "[wandb]" in missing.fix
