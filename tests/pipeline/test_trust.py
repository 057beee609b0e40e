"""A configuration may name parts of the package, of torch.nn and torch.optim, and the user's own modules."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.project import MARK
from dreamset.pipeline.config.targets import mistakes
from dreamset.pipeline.config.trust import refusal

ROOT = Path(__file__).parents[2]
FOREIGN = [
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "shutil.rmtree",
    "posix.system",
    "hydra.utils.get_object",
    "torch.load",
    "torch.hub.load",
    "numpy.load",
    "gymnasium.make",
    "dreamset.pipeline.cli.main",
    "dreamset.core.files.write_text",
]
SMUGGLED = [
    "dreamset.models.recurrent.rssm.torch.hub.load",
    "dreamset.environments.watchdog.os.kill",
    "dreamset.pipeline.training.checkpoint.shutil.rmtree",
    "torch.optim.optimizer.torch.load",
    "torch.nn.modules.module.functools.partial",
]


@pytest.mark.parametrize("target", ["dreamset.models.heads.NormalHead", "torch.optim.Adam", "torch.nn.functional.relu"])
def test_parts_are_allowed(target: str) -> None:
    assert refusal(target) is None


def test_every_target_of_the_package_is_allowed() -> None:
    names = {
        line.split("_target_:")[1].split("#")[0].strip(" ,}\n\"'").split(",")[0]
        for path in (ROOT / "configs").rglob("*.yaml")
        for line in path.read_text().splitlines()
        if "_target_:" in line
    }
    assert len(names) > 100
    assert {name: refusal(name) for name in names if refusal(name) is not None} == {}


@pytest.mark.parametrize("target", FOREIGN)
def test_an_installed_library_is_refused_before_anything_is_imported(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    (mistake,) = mistakes({"_target_": target}, "dataset.source")
    assert mistake.key == "dataset.source._target_"
    assert "of the installed library" in str(mistake.finding)
    with pytest.raises(UserError, match="configurations_may_use"):
        build_part({"_target_": target})


@pytest.mark.parametrize("target", SMUGGLED)
def test_what_a_part_only_imports_is_refused(target: str) -> None:
    with pytest.raises(UserError, match="from elsewhere"):
        build_part({"_target_": "torch.optim.Adam", "params": [{"_target_": target}]})


def test_functions_of_transforms_count_too() -> None:
    transform = {"_target_": "dreamset.datasets.transforms.RelabelReward", "function": "os:getcwd"}
    (mistake,) = mistakes([transform], "dataset.transforms")
    assert mistake.key == "dataset.transforms[0].function"
    with pytest.raises(UserError, match=r"function is os\.getcwd, of the installed library os"):
        build_part(transform)
    assert not list(mistakes([transform | {"function": "dreamset.environments.pendulum:spinning"}]))


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module outside of all libraries and puts it on the import path."""

    def write(name: str) -> str:
        (tmp_path / f"{name}.py").write_text("import os\nclass Mine: ...\n")
        return f"{name}.Mine"

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield write
    sys.modules.pop("my_trusted_part", None)


def test_the_users_own_modules_are_allowed(own_module: Callable[[str], str]) -> None:
    assert type(build_part({"_target_": own_module("my_trusted_part")})).__name__ == "Mine"


def test_a_project_may_list_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node: dict[str, Any] = {"_target_": "fractions.Fraction", "numerator": 3}
    monkeypatch.chdir(tmp_path)
    MARK.parent.mkdir()
    for listed, works in (([], False), (["fraction"], False), (["fractions"], True), (["fractions.Fraction"], True)):
        MARK.write_text(yaml.safe_dump({"configurations_may_use": listed}))
        if works:
            assert build_part(node) == 3
        else:
            with pytest.raises(UserError, match="list it in configurations_may_use"):
                build_part(node)


def test_the_command_line_cannot_name_a_library_either() -> None:
    with pytest.raises(UserError, match=r"environment\._target_.*os\.system"):
        compose(["dataset=pendulum_state", "dataset.environment._target_=os.system"])
