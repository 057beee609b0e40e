"""What a hosting site reads: the workflow, the issue forms and the security policy agree with the repository."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamset.pipeline import cli

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
KINDS = {"textarea", "input", "dropdown", "checkboxes", "markdown"}  # of fields, as GitHub defines them
PLACES = (ROOT, ROOT / "pipeline/tools/project", ROOT / "pipeline/export/standalone")  # clone, project, export
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def steps(key: str) -> list[str]:
    """The values of ``uses`` or ``run`` of all steps of all jobs."""
    return [step[key] for job in WORKFLOW["jobs"].values() for step in job["steps"] if key in step]


def test_every_step_of_the_workflow_is_a_target_or_a_script_of_the_repository() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = steps("run")
    assert len(runs) >= len(WORKFLOW["jobs"])
    for run in runs:
        command, *arguments = run.split()
        if command == "make":
            assert arguments[0] in targets, run
        else:
            assert os.access(ROOT / command, os.X_OK), run


def test_workflow_covers_what_the_local_check_runs() -> None:
    local = set(re.findall(r"^make ([a-z]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    assert local == {"setup", "lint", "docs", "test"}
    assert local <= {run.split()[1] for run in steps("run") if run.startswith("make ")}


def test_actions_are_pinned_and_can_only_read_the_repository() -> None:
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in steps("uses"))
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_declared_python_versions_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = set(re.findall(r":: Python :: (3\.\d+)", " ".join(project["classifiers"])))
    tested = WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={tested[0]}"
    assert declared
    assert declared <= set(tested)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_the_site_requires(path: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers) > 0
    for field in form["body"]:
        assert field["type"] in KINDS
        assert field["attributes"]["label"]


def test_forms_policy_and_template_name_only_commands_targets_and_files_that_exist() -> None:
    pages = [*FORMS, ROOT / ".github/PULL_REQUEST_TEMPLATE.md", ROOT / "SECURITY.md"]
    text = "\n".join(path.read_text() for path in pages)
    commands = set(re.findall(r"`dreamset ([a-z][a-z-]*)", text))
    assert {"doctor", "data"} <= commands
    assert commands <= set(cli.Parser().commands)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"`make ([a-z]+)`", text))
    files = set(re.findall(r"`([\w/.]+\.(?:py|md|yaml))`", text))
    assert {"CHANGELOG.md", "policy.py"} <= files
    missing = [name for name in files if not any((folder / name).exists() for folder in PLACES)]
    assert missing == []
