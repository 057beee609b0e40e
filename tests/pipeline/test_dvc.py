"""The whole pipeline through `dvc repro`: it runs what changed and nothing else."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dreamset.pipeline.artifacts.saved_models import model_digest

pytestmark = pytest.mark.slow

FILES = ["dvc.yaml", "params.yaml", ".dvcignore"]
RUN = re.compile(r"Running stage '([^']+)'")


def dvc(project: Path, *arguments: str) -> str:
    """Runs DVC in ``project`` and returns what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(project / "mine"),
        "DVC_NO_ANALYTICS": "1",
        "DREAMSET_TRACKING": "off",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    result = subprocess.run(
        ["dvc", *arguments],
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def stages_run(project: Path, *arguments: str) -> list[str]:
    return RUN.findall(dvc(project, "repro", *arguments))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module", autouse=True)
def _programs(warm: Path) -> Iterator[None]:
    """``dvc`` and the ``dreamset`` that it starts; test_project.py runs a project with those of a new environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(warm), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the tiny preset, already reproduced."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(root / "configs", project / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(root / name, project)
    dvc(project, "init", "--no-scm", "-q")
    dvc(project, "config", "core.analytics", "false")
    edit(project / "params.yaml", "preset: small", "preset: tiny")
    edit(project / "params.yaml", "dataset: pendulum_pixels", "dataset: pendulum_state")
    edit(project / "params.yaml", "  - predictive_contrastive\n", "")
    assert stages_run(project) == [
        "resolve",
        "collect",
        "ingest",
        "train_world_model@reconstruction-0",
        "train_world_model@reward_only-0",
        "learn_behavior@reconstruction-0",
        "learn_behavior@reward_only-0",
        "evaluate@reconstruction-0",
        "evaluate@reward_only-0",
        "compare",
    ]
    return project


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the reproduced project for one test."""
    return Path(shutil.copytree(project, tmp_path / "project", symlinks=True))


def test_comparison_includes_every_objective(project: Path) -> None:
    summary = pd.read_csv(project / "runs/comparison/summary.csv")
    assert summary["objective"].tolist() == ["reconstruction", "reward_only"]
    assert (summary["return_iqm_low"] <= summary["return_iqm_high"]).all()
    table = (project / "runs/comparison/comparison.md").read_text()
    assert "| reconstruction |" in table
    assert (project / "runs/comparison/comparison.png").stat().st_size > 10_000


def test_second_run_has_nothing_to_do(project: Path) -> None:
    output = dvc(project, "repro")
    assert RUN.findall(output) == ["resolve"]  # which checks for changes
    assert "resolved: nothing has changed" in output
    assert len(re.findall("didn't change, skipping", output)) == 9


def test_no_stage_lists_code(root: Path) -> None:
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items():
        assert all(dep.startswith(("resolved/", "data/", "runs/")) for dep in stage.get("deps", [])), name


def test_dvc_shows_metrics_and_plots(project: Path) -> None:
    output = dvc(project, "metrics", "show", "--md")
    assert "runs/comparison/metrics/reconstruction.json" in output
    assert "return_iqm" in output
    assert "metrics.json" not in output  # of a single stage
    assert max(map(len, dvc(project, "metrics", "show").splitlines())) <= 120
    dvc(project, "plots", "show", "-o", "plots")
    assert (project / "plots/index.html").stat().st_size > 1000


def test_setting_of_an_objective_reruns_that_objective_only(copy: Path) -> None:
    edit(copy / "configs/objective/reconstruction.yaml", "weight: ${weights.observation}", "weight: 2.0")
    assert stages_run(copy) == [
        "resolve",
        "train_world_model@reconstruction-0",
        "learn_behavior@reconstruction-0",
        "evaluate@reconstruction-0",
        "compare",
    ]


def test_setting_of_a_behavior_retrains_no_world_model(copy: Path) -> None:
    edit(copy / "configs/behavior/dreamer_v1.yaml", "discount: 0.99", "discount: 0.9")
    run = stages_run(copy)
    assert [stage for stage in run if stage.startswith("learn_behavior")] == [
        "learn_behavior@reconstruction-0",
        "learn_behavior@reward_only-0",
    ]
    assert not [stage for stage in run if stage.startswith(("collect", "ingest", "train_world_model"))]


def git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=project, check=True)


def test_experiment_with_one_other_setting_runs_the_stages_that_read_it(copy: Path, root: Path) -> None:
    shutil.copy(root / "pipeline/tools/project/gitignore", copy / ".gitignore")
    dvc(copy, "config", "--unset", "core.no_scm")
    git(copy, "init", "-q")
    git(copy, "add", ".")
    git(copy, "commit", "-q", "-m", "results")
    output = dvc(copy, "exp", "run", "-n", "short", "-S", "+overrides.behavior.horizon=3")
    assert RUN.findall(output) == [
        "resolve",
        "learn_behavior@reconstruction-0",
        "learn_behavior@reward_only-0",
        "evaluate@reconstruction-0",
        "evaluate@reward_only-0",
        "compare",
    ]
    settings = yaml.safe_load((copy / "resolved/learn_behavior/reconstruction-0.yaml").read_text())
    assert settings["behavior"]["horizon"] == 3
    assert "overrides.behavior.horizon" in dvc(copy, "params", "diff")


def test_adaptation_is_a_new_dataset_with_an_existing_model(copy: Path) -> None:
    shutil.copytree(copy / "runs/world_model/reconstruction-0/model", copy / "original")
    edit(copy / "params.yaml", "dataset: pendulum_state", "dataset: pendulum_spin")
    edit(copy / "params.yaml", "  - reward_only\n", "")
    overrides = "[world_model=from_registry, world_model.folder=original, adaptation=heads_only]"
    edit(copy / "params.yaml", "overrides:", f"overrides: {overrides}")
    assert stages_run(copy) == [
        "resolve",
        "collect",
        "ingest",
        "train_world_model@reconstruction-0",
        "learn_behavior@reconstruction-0",
        "evaluate@reconstruction-0",
        "compare",
    ]
    adapted = json.loads((copy / "runs/world_model/reconstruction-0/model/model.json").read_text())
    assert adapted["lineage"]["parent"]["digest"] == model_digest(copy / "original")
    assert adapted["lineage"]["dataset"] == "pendulum_spin"
    assert stages_run(copy) == ["resolve"]


def test_fine_tuning_adds_one_stage(copy: Path) -> None:
    edit(copy / "params.yaml", "finetune: []", "finetune: [reconstruction]")
    assert stages_run(copy) == ["resolve", "finetune@reconstruction-0"]
    assert pd.read_csv(copy / "runs/finetune/reconstruction-0/curve.csv")["environment_steps"].tolist() == [0, 200, 400]
    assert stages_run(copy) == ["resolve"]


OWN_OBJECTIVE = '''
from dreamset.core.records import Loss
from dreamset.objectives.base import Objective


class Mine(Objective):
    """Keeps the features small."""

    def __init__(self, model, *, weight):
        super().__init__()
        self.weight = weight

    def forward(self, rollout, batch, model):
        return {"small": Loss(rollout.features.square().mean(-1), self.weight)}
'''


def test_new_objective_in_a_users_module_trains_only_itself(copy: Path) -> None:
    (copy / "mine").mkdir()
    (copy / "mine/my_objectives.py").write_text(OWN_OBJECTIVE)
    (copy / "configs/objective/mine.yaml").write_text("_target_: my_objectives.Mine\nweight: 0.1\n")
    edit(copy / "params.yaml", "  - reward_only", "  - reward_only\n  - mine")
    assert stages_run(copy) == [
        "resolve",
        "train_world_model@mine-0",
        "learn_behavior@mine-0",
        "evaluate@mine-0",
        "compare",
    ]
    edit(copy / "mine/my_objectives.py", "Keeps the features small", "a docstring")
    assert stages_run(copy) == ["resolve"]
    edit(copy / "mine/my_objectives.py", "square().mean", "abs().mean")
    assert stages_run(copy)[:2] == ["resolve", "train_world_model@mine-0"]
