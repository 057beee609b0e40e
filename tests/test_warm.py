"""Processes of the warm programs are like those of a new interpreter, but for what is loaded already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOWS = "import os, sys; print(sys.argv, sys.path, os.getcwd(), sorted(os.environ.items()), sys.stdin.read())"


def start(program: Path | str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, input="typed", env={**os.environ, **environment}
    )


@pytest.mark.parametrize("options", [[], ["-P"], ["-I"]])
def test_process_has_the_arguments_path_folder_environment_and_input_of_a_new_one(
    warm: Path, options: list[str], tmp_path: Path
) -> None:
    arguments = [*options, "-c", SHOWS, "one", "-c"]
    environment = {"PYTHONPATH": str(tmp_path), "NAME": "value"}
    real, forked = (start(python, *arguments, **environment) for python in (sys.executable, warm / "python"))
    assert (forked.returncode, forked.stderr) == (0, "")
    assert forked.stdout == real.stdout
    assert "typed" in forked.stdout


def test_module_is_run_as_by_a_new_interpreter(warm: Path, tmp_path: Path) -> None:
    Path("package").mkdir()
    Path("package/module.py").write_text(f"{SHOWS}\nprint(__name__, __spec__.name, __file__)")
    arguments = ["-m", "package.module", "one", "-c", "two"]
    real, forked = (start(python, *arguments, PYTHONPATH=str(tmp_path)) for python in (sys.executable, warm / "python"))
    assert (forked.returncode, forked.stderr) == (0, "")
    assert forked.stdout == real.stdout
    assert "__main__ package.module" in forked.stdout


def test_process_imports_the_code_of_its_moment(warm: Path, tmp_path: Path) -> None:
    for value in ("1", "'another'"):
        (tmp_path / "edited.py").write_text(f"value = {value}")
        assert start(warm / "python", "-c", "import edited; print(repr(edited.value))").stdout == f"{value}\n"


def test_process_has_loaded_libraries_but_nothing_of_this_package(warm: Path) -> None:
    loaded = start(warm / "python", "-c", "import sys; print(sorted(sys.modules))").stdout
    assert "'torch'" in loaded
    assert "'dreamset" not in loaded


@pytest.mark.parametrize("code", ["pass", "raise SystemExit", "raise SystemExit(7)", "raise SystemExit('no')", "1 / 0"])
def test_exit_status_and_errors_are_those_of_a_new_process(warm: Path, code: str) -> None:
    real, forked = (start(python, "-c", f"print('x')\n{code}") for python in (sys.executable, warm / "python"))
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_killed_process_has_the_status_that_a_shell_gives(warm: Path) -> None:
    assert start(warm / "python", "-c", "import os; os.kill(os.getpid(), 9)").returncode == 128 + 9


def test_command_is_that_of_this_environment(warm: Path) -> None:
    wrong = start(warm / "dreamset", "train-world-model", "preset=nope")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("dreamset: error: configuration: preset is 'nope'")
