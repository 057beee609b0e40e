"""What ``scripts/setup.sh`` refuses in one line, and the citation of the package. Nothing is downloaded here."""

import os
import shutil
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname", "sed", "env"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def program(clone: Path, name: str, text: str) -> None:
    path = clone / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def set_up(clone: Path) -> tuple[int, list[str]]:
    environment = {**os.environ, "PATH": str(clone / "bin"), "PYTHON": ""}
    done = subprocess.run([clone / "scripts/setup.sh"], env=environment, capture_output=True, text=True)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_windows_is_sent_to_wsl(clone: Path) -> None:
    program(clone, "uname", "echo MINGW64_NT-10.0")
    status, lines = set_up(clone)
    assert (status, len(lines)) == (1, 1)
    assert "is not supported; on Windows use WSL" in lines[0]


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_size_is_said_first_and_an_old_python_is_named(clone: Path, system: str) -> None:
    program(clone, "uname", f"echo {system}")
    program(clone, "python3", '[ "$1" = --version ] && echo Python 3.9.1 || exit 1')
    status, (first, last) = set_up(clone)
    assert status == 1
    assert "into .venv: 2.7 GB on disk, about 4 minutes" in first
    assert "no Python of version 3.11 or later was found (Python 3.9.1); install one or name it" in last
    assert not (clone / ".venv").exists()


def test_every_pinned_package_runs_on_the_oldest_supported_python() -> None:
    """Debian 12 has Python 3.11.2, with which pip finds no version of a package that needs 3.11.5."""
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {canonicalize_name(line.partition("==")[0]) for line in pins}
    installed = {canonicalize_name(found.metadata["Name"]): found for found in distributions()}
    needs = {name: installed[name].metadata.get("Requires-Python") or "" for name in pinned & installed.keys()}
    assert len(needs) > 100
    assert {name: need for name, need in needs.items() if "3.11.0" not in SpecifierSet(need)} == {}


def test_failed_installation_says_what_to_do_and_leaves_no_mark(clone: Path) -> None:
    program(clone, "uname", "echo Linux")
    program(clone, "python3", "case $* in *pip*) exit 1;; *'import torch'*) exit 1;; esac; exit 0")
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to(clone / "bin/python3")
    (clone / "constraints.txt").write_text("torch==2.13.0\n")
    status, lines = set_up(clone)
    assert status == 1
    assert lines[-2] == "setup: 1 of 2: PyTorch 2.13.0"
    assert "the installation failed; if there is no network, set HTTPS_PROXY or PIP_INDEX_URL" in lines[-1]
    assert not (clone / ".venv/.installed").exists()


def test_citation_has_what_the_schema_requires_and_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The Dreamset developers"}]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
