"""A user's project: created by `dreamset init`, with its own parts, and run with the installed package."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import WORLD_MODEL_PARTS, check_targets
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.dependencies import ImportPath
from dreamset.pipeline.config.project import MARK, Project, make_importable
from dreamset.pipeline.stages import collect
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tools import init
from tests.test_structure import PACKAGES

RUN = re.compile(r"Running stage '([^']+)'")
WORLD_MODEL = """\
from dreamset.models.recurrent.world_model import WorldModel


class Mine(WorldModel):
    def reward(self, trajectory):
        return super().reward(trajectory) + 0.5
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder as a project, without DVC. Its modules are unloaded afterwards."""
    folder = tmp_path / "project"
    templates = Path(init.__file__).parent / "project"
    shutil.copytree(templates / "configs", folder / "configs")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    importlib.invalidate_caches()


def trust(*modules: str) -> None:
    MARK.write_text(yaml.safe_dump({"saved_models_may_use": list(modules)}))


def test_init_writes_a_project_and_a_dvc_repository(tmp_path: Path, root: Path) -> None:
    messages = init.run(tmp_path / "new")
    assert {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()} >= {
        *init.TEMPLATES,
        ".dvc/config",
    }
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):  # links to the files of the clone, so that they exist once
        assert (tmp_path / "new" / name).read_bytes() == (root / name).read_bytes()
        assert (root / "pipeline/tools/project" / name.removeprefix(".")).is_symlink()
    assert "without git" in messages[1]
    assert "no_scm = True" in (tmp_path / "new/.dvc/config").read_text()


def test_init_uses_existing_git_and_dvc_repositories(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    messages = init.run(tmp_path / "below")
    assert f"git repository {tmp_path}" in messages[1]
    assert "no_scm" not in (tmp_path / "below/.dvc/config").read_text()
    assert "uses the existing repository" in init.run(tmp_path / "below/further")[1]


@pytest.mark.parametrize("name", ["params.yaml", "README.md", "configs/project.yaml"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"already contains {name}, and nothing is overwritten; choose another$"):
        init.run(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / ".dvc").exists()
    assert not (tmp_path / "dvc.yaml").exists()


def test_project_configurations_precede_those_of_the_package(project: Path) -> None:
    make_importable()
    for name, arguments in (("my_objective", "model"), ("my_behavior", "features, action")):
        (project / f"{name}.py").write_text(f"class Mine:\n    def __init__(self, {arguments}): ...\n")
    (project / "configs/objective").mkdir()
    (project / "configs/objective/mine.yaml").write_text("_target_: my_objective.Mine\n")
    (project / "configs/behavior").mkdir()
    (project / "configs/behavior/cloning.yaml").write_text("_target_: my_behavior.Mine\n")
    config = compose(["objective=mine", "behavior=cloning", "preset=tiny"])
    assert config["objective"] == {"_target_": "my_objective.Mine"}
    assert config["behavior"] == {"_target_": "my_behavior.Mine"}
    assert config["dataset"]["name"] == "pendulum_pixels"  # the package's


def test_folder_without_the_mark_is_no_project(project: Path) -> None:
    (project / "configs/objective").mkdir()
    (project / "configs/objective/mine.yaml").write_text("_target_: my_objective.Mine\n")
    MARK.unlink()
    with pytest.raises(UserError, match="mine"):
        compose(["objective=mine"])
    make_importable()
    assert str(project) not in sys.path


def test_project_folder_is_last_on_the_import_path(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(project) not in sys.path
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert sys.path[-1] == str(project)
    capsys.readouterr()


def test_module_hidden_by_an_installed_package_is_refused(project: Path) -> None:
    (project / "yaml.py").write_text("class Mine: ...\n")
    with pytest.raises(
        UserError, match=r"refers to .*yaml\.py, but the installed package yaml has the same name; rename"
    ):
        ImportPath().digest(["yaml.Mine"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("saved_models_may_use: [", "not valid yaml"),
        ("saved_models: []", "allowed: the keys saved_models_may_use, configurations_may_use"),
        ("- a", "allowed: the keys"),
        ("", "allowed: the keys"),
        ("saved_models_may_use: mine", "a list of module names"),
        ("configurations_may_use: [1]", "a list of module names"),
    ],
)
def test_mistake_in_the_project_file_is_a_one_line_error(project: Path, text: str, expected: str) -> None:  # noqa: ARG001
    MARK.write_text(text)
    with pytest.raises(UserError, match=expected) as error:
        Project.here()
    assert str(error.value).startswith(str(MARK))
    assert "\n" not in str(error.value)


def test_saved_model_may_use_modules_listed_by_the_project(project: Path) -> None:
    (project / "my_world_model.py").write_text(WORLD_MODEL)
    node = {"_target_": "my_world_model.Mine"}
    with pytest.raises(UserError, match="saved_models_may_use"):
        check_targets(node, allowed=WORLD_MODEL_PARTS)
    assert "my_world_model" not in sys.modules  # it was not imported
    trust("my_world_model")
    check_targets(node, allowed=WORLD_MODEL_PARTS)
    assert "my_world_model" in sys.modules


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "my_world_model.WorldModel", "my_world_model.nothing", "my_other.Mine"],
)
def test_saved_model_runs_no_code_outside_of_listed_project_modules(project: Path, target: str) -> None:
    (project / "my_world_model.py").write_text(WORLD_MODEL)
    (project / "my_other.py").write_text("raise RuntimeError('it ran')\n")
    trust("my_world_model", "os", "subprocess")  # listing a module of another origin does not allow it
    with pytest.raises(UserError, match="allowed: classes of"):
        check_targets({"_target_": target}, allowed=WORLD_MODEL_PARTS)
    assert "my_other" not in sys.modules


def test_listed_module_is_trusted_in_its_project_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "my_world_model.py").write_text(WORLD_MODEL)
    trust("my_world_model")
    monkeypatch.chdir(project.parent)
    with pytest.raises(UserError, match="allowed: classes of"):
        check_targets({"_target_": "my_world_model.Mine"}, allowed=WORLD_MODEL_PARTS)


def test_dataset_without_a_path_is_a_one_line_error(project: Path) -> None:
    make_importable()
    (project / "my_walks.py").write_text("class Walks: ...\n")
    (project / "configs/dataset").mkdir()
    (project / "configs/dataset/walks.yaml").write_text("name: walks\nsource: {_target_: my_walks.Walks}\n")
    with pytest.raises(UserError, match=r"^dataset=walks: dataset\.source\.path is null.*set it to the file or folder"):
        collect.run(stages.collect(compose(["dataset=walks"])))


OBJECTIVE = """\
from dreamset.core.records import Loss
from dreamset.objectives.base import Objective
from my_helper import small


class Mine(Objective):
    def __init__(self, model, *, weight):
        super().__init__()
        self.weight = weight

    def forward(self, rollout, batch, model):
        return {"small": Loss(small(rollout.features), self.weight)}
"""
SOURCE = """\
import numpy as np

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription


class Walks:
    def __init__(self, *, path):
        self.actions = np.load(path)
        self.episode_count = len(self.actions)

    def describe(self):
        action = ActionSpec(size=1, discrete=False, low=(-1.0,), high=(1.0,))
        return SourceDescription({"state": ArraySpec((3,), "float32")}, {}, action, {"format": "walks"})

    def read(self, number):
        actions = self.actions[number]
        states = np.zeros((len(actions) + 1, 3), np.float32)
        states[1:] = actions.cumsum(0)
        return RawEpisode(f"walk {number}", {"state": states}, actions, states[1:, 0], False, {})
"""
DATASET = """\
name: walks
source: {_target_: my_walks.Walks, path: walks.npy}
environment: {_target_: dreamset.environments.pendulum.make, _partial_: true, image_size: null, action_repeat: 2}
"""


def installed(root: Path, folder: Path) -> Path:
    """A new environment with the wheel of this tree and the packages of this environment; returns its Python."""
    tree = folder / "tree"
    for name in (*PACKAGES, "src"):
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(root / name, tree / name)
    build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=tree, check=True, capture_output=True)
    shutil.rmtree(tree)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (site,) = (folder / "venv/lib").glob("*/site-packages")
    (site / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


@pytest.mark.slow
def test_project_with_its_own_parts_runs_with_the_wheel_alone(root: Path, tmp_path: Path) -> None:
    python = installed(root, tmp_path)
    project = tmp_path / "project"

    def run(*command: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        places = (python.parent, Path(sys.executable).parent)  # `dreamset` of the new one, `dvc` of this one
        environment["PATH"] = os.pathsep.join([*map(str, places), environment["PATH"]])
        environment |= {"DVC_NO_ANALYTICS": "1", "DREAMSET_TRACKING": "off"}
        done = subprocess.run(
            command, cwd=project if project.exists() else tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("dreamset", "init", "project")
    for name, text in (
        ("my_objective.py", OBJECTIVE),
        ("my_helper.py", "def small(features):\n    return features.square().mean(-1)\n"),
        ("my_walks.py", SOURCE),
        ("my_world_model.py", WORLD_MODEL),
        ("configs/objective/mine.yaml", "_target_: my_objective.Mine\nweight: 0.1\n"),
        ("configs/dataset/walks.yaml", DATASET),
        ("configs/world_model/mine.yaml", "defaults: [dreamer_v1, _self_]\n_target_: my_world_model.Mine\n"),
        ("configs/project.yaml", "saved_models_may_use: [my_world_model]\n"),
    ):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params |= {"preset": "tiny", "dataset": "walks", "objectives": ["mine"], "overrides": ["world_model=mine"]}
    (project / "params.yaml").write_text(yaml.safe_dump(params))

    actions = np.random.default_rng(0).uniform(-1, 1, (12, 50, 1)).astype(np.float32)
    np.save(project / "walks.npy", actions)

    learned = ["train_world_model@mine-0", "learn_behavior@mine-0", "evaluate@mine-0", "compare"]
    assert RUN.findall(run("dvc", "repro")) == ["resolve", "collect", "ingest", *learned]
    saved = json.loads((project / "runs/world_model/mine-0/model/model.json").read_text())
    assert saved["architecture"]["_target_"] == "my_world_model.Mine"
    assert "| mine |" in (project / "runs/comparison/comparison.md").read_text()
    second = run("dvc", "repro")
    assert RUN.findall(second) == ["resolve"]
    assert "nothing has changed" in second
    helper = project / "my_helper.py"
    helper.write_text(helper.read_text().replace("square", "abs"))
    assert RUN.findall(run("dvc", "repro", "train_world_model")) == ["resolve", "train_world_model@mine-0"]
    assert Path(run(str(python), "-c", "import dreamset; print(dreamset.__file__)")).is_relative_to(tmp_path / "venv")
