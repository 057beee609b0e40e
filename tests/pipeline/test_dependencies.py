"""Code dependencies: an edit changes the digests of exactly the stages that can reach the edited module."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import pytest
import yaml

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import Config, compose
from dreamset.pipeline.config.dependencies import SETTINGS, ImportPath, is_left_out, starting_points, with_code
from dreamset.pipeline.config.imports import parse_module
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages import table as stages

PACKAGES = ("behaviors", "configs", "core", "datasets", "environments", "models", "objectives", "pipeline")
TINY = ("preset=tiny", "dataset=pendulum_state")


class Copy:
    """Finds the package's modules in a copy, as the import system would if the copy were installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "dreamset":
            return None
        return PathFinder.find_spec(name, [str(self.folder)] if path is None else path)

    def edit(self, module: str, change: Callable[[str], str]) -> None:
        path = self.folder / f"{module.replace('.', '/')}.py"
        path.write_text(change(path.read_text()))


@pytest.fixture
def copy(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    shutil.copytree(root / "src/dreamset", tmp_path / "site/dreamset")
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, tmp_path / "site/dreamset" / name, ignore=ignored)
    finder = Copy(tmp_path / "site")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    return finder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder on the import path."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    importlib.invalidate_caches()


def settings_of(stage: str, config: Config) -> Config:
    return stages.compare(config, ["reconstruction"], [0]) if stage == "compare" else stages.STAGES[stage](config)


@cache
def composed(*overrides: str) -> Config:
    return compose([*TINY, *overrides])


def codes(*overrides: str) -> dict[str, str]:
    """The digest of each stage's code."""
    config, modules = composed(*overrides), ImportPath()
    return {
        stage: modules.digest(starting_points(stage, settings_of(stage, config), config))
        for stage in (*stages.STAGES, "compare")
    }


def changed(edit: Callable[[], object], *overrides: str) -> set[str]:
    before = codes(*overrides)
    edit()
    importlib.invalidate_caches()
    after = codes(*overrides)
    return {stage for stage in before if before[stage] != after[stage]}


def add_code(text: str) -> str:
    return f"{text}\nADDED = 1\n"


def module_of_class(root: Path, name: str) -> str:
    (path,) = [path for path in (root / "pipeline").rglob("*.py") if f"\nclass {name}" in path.read_text()]
    return ".".join(("dreamset", *path.relative_to(root).with_suffix("").parts))


def test_behavior_trainer_edit_changes_behavior_learning(root: Path, copy: Copy) -> None:
    module = module_of_class(root, "BehaviorTrainer")
    assert {"learn_behavior", "finetune"} <= changed(lambda: copy.edit(module, add_code))


def test_behavior_trainer_edit_retrains_no_world_model(root: Path, copy: Copy) -> None:
    module = module_of_class(root, "BehaviorTrainer")
    assert "train_world_model" not in changed(lambda: copy.edit(module, add_code))


def test_video_code_edit_changes_the_stages_that_write_videos(copy: Copy) -> None:
    edited = changed(lambda: copy.edit("dreamset.pipeline.report.videos", add_code))
    assert edited == {"train_world_model", "evaluate", "finetune"}


def test_tracking_code_edit_changes_no_stage(copy: Copy) -> None:
    def edit() -> None:
        for module in ("dreamset.pipeline.tracking.reporting", "dreamset.pipeline.progress", "dreamset.__init__"):
            copy.edit(module, add_code)

    assert changed(edit) == set()


def test_objective_edit_changes_only_stages_that_use_the_objective(copy: Copy) -> None:
    assert changed(lambda: copy.edit("dreamset.objectives.contrastive", add_code)) == set()
    edited = changed(lambda: copy.edit("dreamset.objectives.contrastive", add_code), "objective=contrastive")
    assert edited == {"train_world_model", "finetune"}


def test_world_model_part_edit_changes_all_stages_that_rebuild_the_model(own: Path) -> None:
    head = "class Mine:\n    def __init__(self, *_, **__): ...\n"
    (own / "my_encoder.py").write_text(head)
    edited = changed(
        lambda: (own / "my_encoder.py").write_text(f"{head}    x = 1\n"),
        "world_model.encoder._target_=my_encoder.Mine",
    )
    assert edited == {"train_world_model", "learn_behavior", "evaluate", "finetune"}


def test_existing_world_model_depends_on_all_possible_parts() -> None:
    config = compose([*TINY]) | {"world_model": {"name": None}}
    modules = ImportPath().reachable(starting_points("evaluate", {}, config))
    assert {"dreamset.models.recurrent.cells", "dreamset.models.encoders", "dreamset.models.layers"} <= modules.keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: f"# a comment\n{text}# another\n",
        lambda text: text.replace('"""', '"""In other words: ', 1),
        lambda text: text.replace("    ", "        "),
        lambda text: f"{text}\nif TYPE_CHECKING:\n    from dreamset.pipeline import cli\n",
    ],
    ids=["comment", "docstring", "formatting", "type checking"],
)
def test_comments_docstrings_and_formatting_change_nothing(copy: Copy, change: Callable[[str], str]) -> None:
    assert changed(lambda: copy.edit("dreamset.models.layers", change)) == set()
    assert changed(lambda: copy.edit("dreamset.models.layers", add_code)) >= {"train_world_model", "evaluate"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = '1'", "x = 1"),
        ("x = 1", "x += 1"),
        ("x < y", "x > y"),
        ("x.y", "x.z"),
        ("(x, y), z", "x, (y, z)"),
        ("{**x, x: x}", "{x: x, **x}"),
        ("f(x, y)", "f(x, *y)"),
        ("def f(*, x, y=1): ...", "def f(*, x=1, y): ..."),
        ("def f():\n    global x\n    x = y", "def f():\n    global y\n    x = y"),
        ("if x:\n    y\nz", "if x:\n    y\n    z"),
        ("try:\n    x\nfinally:\n    y", "try:\n    x\nexcept z:\n    y"),
        ("if x.TYPE_CHECKING:\n    import y\nelse:\n    z", "if x.TYPE_CHECKING:\n    z\nelse:\n    import y"),
    ],
)
def test_code_with_another_syntax_tree_has_another_digest(one: str, other: str) -> None:
    assert parse_module(one.encode(), "").digest != parse_module(other.encode(), "").digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f( x,y )", "f(x, y)"),
        ("x = u'a' 'b'", 'x = "ab"'),
        ("try:\n    'text'\n    x\nexcept y:\n    'text'\n    z", "try:\n    x\nexcept y:\n    z"),
        ("match x:\n    case y:\n        'text'\n        z", "match x:\n    case y:\n        z"),
        ("if TYPE_CHECKING:\n    x\nelif y.TYPE_CHECKING:\n    z\nelse:\n    'text'\n    w", "w"),
    ],
)
def test_code_with_an_equal_syntax_tree_has_an_equal_digest(one: str, other: str) -> None:
    assert parse_module(one.encode(), "").digest == parse_module(other.encode(), "").digest


def test_users_objective_counts_with_its_imports(own: Path) -> None:
    code = "def build():\n    from my_helper import weight\n\nclass Mine:\n    def __init__(self, *_, **__): ...\n"
    (own / "my_objective.py").write_text(code)
    (own / "my_helper.py").write_text("weight = 1\n")
    overrides = ("objective=reward_only", "++objective._target_=my_objective.Mine")
    edited = changed(lambda: (own / "my_helper.py").write_text("weight = 2\n"), *overrides)
    assert edited == {"train_world_model", "finetune"}


def test_function_of_a_transform_counts(own: Path) -> None:
    (own / "my_rewards.py").write_text("def fast(): ...\n")
    transform = "{_target_: dreamset.datasets.transforms.RelabelReward, function: 'my_rewards:fast'}"
    edited = changed(
        lambda: (own / "my_rewards.py").write_text("def fast(): return 1\n"), f"dataset.transforms=[{transform}]"
    )
    assert edited == {"ingest"}


def reached(own: Path, **sources: str) -> set[str]:
    """The user's modules that ``start`` reaches."""
    for name, source in sources.items():
        path = own / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    importlib.invalidate_caches()
    return {name for name in ImportPath().reachable(["start.Thing"]) if not name.startswith("dreamset")} - {"start"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import mine.inner", {"mine", "mine.inner"}),
        ("import mine\nmine.inner.work()", {"mine", "mine.inner"}),
        ("import mine as other\nother.inner.work()", {"mine", "mine.inner"}),
        ("from mine import inner", {"mine", "mine.inner"}),
        ("from mine.inner import work", {"mine", "mine.inner"}),
        ("def f():\n    import mine", {"mine"}),
        ("import importlib\nimportlib.import_module('mine.inner')", {"mine", "mine.inner"}),
        ("from mine.relative import x", {"mine", "mine.relative", "mine.inner"}),
        ("from mine import Lazy", {"mine", "mine.lazy"}),
        ("import mine\nmine.Lazy()", {"mine", "mine.lazy"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mine.inner\nelse:\n    import mine",
            {"mine"},
        ),
        ("import torch, yaml, json, sys", set()),
    ],
)
def test_imports_are_detected_in_every_form(own: Path, source: str, expected: set[str]) -> None:
    package = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mine.lazy import Lazy\ndef __getattr__(n): ...\n"
    )
    (own / "mine").mkdir()
    (own / "mine/__init__.py").write_text(package)
    for name in ("inner", "lazy"):
        (own / f"mine/{name}.py").write_text("")
    (own / "mine/relative.py").write_text("from . import inner\nx = 1\n")
    assert reached(own, start=f"{source}\nclass Thing: ...\n") == expected


def test_old_names_lead_to_present_modules(own: Path) -> None:
    (own / "start.py").write_text("from dreamset.models.world_model import WorldModel\nclass Thing: ...\n")
    assert "dreamset.models.recurrent.world_model" in ImportPath().reachable(["start.Thing"])
    old, new = ("dreamset.behaviors.actor_critic.ImaginationActorCritic", "dreamset.behaviors.actor_critic.learner.X")
    assert ImportPath().digest([old]) == ImportPath().digest([new])


def test_public_names_lead_to_their_modules(own: Path) -> None:
    (own / "start.py").write_text("import dreamset\nclass Thing(dreamset.Objective): ...\n")
    modules = ImportPath().reachable(["start.Thing"])
    assert "dreamset.objectives.base" in modules
    assert "dreamset.behaviors.base" not in modules


def test_location_of_files_does_not_count(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = codes()
    monkeypatch.setattr(copy, "folder", Path(shutil.copytree(copy.folder, tmp_path / "elsewhere")))
    assert codes() == before


def test_target_in_no_module_is_a_one_line_error() -> None:
    for target in ("nowhere.Mine", "dreamset.objectives.nope.Mine"):
        with pytest.raises(UserError, match=rf"^_target_ is {target}, but no module .*exists; check the spelling$"):
            ImportPath().digest([target])
    ImportPath().digest(["dreamset.datasets.Store.open", "torch.optim.Adam"])  # a method of a class; a library's


def test_invalid_python_module_is_a_one_line_error(own: Path) -> None:
    (own / "broken.py").write_text("def f(:\n")
    with pytest.raises(UserError, match=r"broken\.py is not valid Python \(.*line 1\).*; fix it$") as error:
        ImportPath().digest(["broken.Mine"])
    assert "\n" not in str(error.value)


def test_modules_are_parsed_once_for_all_stages() -> None:
    parse_module.cache_clear()
    codes()
    parsed = parse_module.cache_info().misses
    codes()
    assert parsed > 100
    assert parse_module.cache_info().misses == parsed


def test_stage_by_hand_gets_the_settings_of_dvc(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text()) | {
        "preset": "tiny",
        "dataset": "pendulum_state",
        "objectives": ["reward_only"],
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    resolve.run(Path("params.yaml"), tmp_path / "resolved")
    received: list[Config] = []
    for stage in stages.PER_OBJECTIVE:
        module = importlib.import_module(f"dreamset.pipeline.stages.{stage}")
        monkeypatch.setattr(module, "run", received.append)
        cli.main([stage.replace("_", "-"), *TINY, "objective=reward_only"])
        assert received[-1] == resolve.read_resolved(tmp_path / f"resolved/{stage}/reward_only-0.yaml")
        assert len(received[-1]["code"]) == 64


TRACE = """\
import importlib, json, sys, yaml
stage, path = sys.argv[1:]
importlib.import_module(f"dreamset.pipeline.stages.{stage}").run(yaml.safe_load(open(path)))
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "dreamset")))
"""
TRACKED = ("files", *(f"registry{name}" for name in ("", ".cards", ".catalog", ".logged", ".ranking")))
DESCRIBED = ("artifacts", "artifacts.description", "artifacts.migrations")
WORDS = ("report", "report.exploitation", "report.metrics")
TRACKING = {
    f"dreamset.pipeline.{name}" for name in (*TRACKED, *DESCRIBED, *WORDS)
}  # modules that tracking imports, which changes no output


@pytest.mark.slow
def test_modules_imported_by_a_run_are_in_the_computed_set(tmp_path: Path, warm: Path) -> None:
    config = compose([*TINY, "objective=contrastive"])
    checks = ImportPath().reachable(SETTINGS).keys()  # they check the settings and change no output
    for stage in (*stages.STAGES, "compare"):
        settings = settings_of(stage, config)
        if stage == "compare":
            settings |= {"objectives": ["contrastive"]}
        path = tmp_path / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(with_code(stage, settings, config)))
        command = [warm / "python", "-c", TRACE, stage, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        imported = {name for name in json.loads(done.stdout.splitlines()[-1]) if not is_left_out(name)}
        computed = ImportPath().reachable(starting_points(stage, settings, config))
        assert imported - computed.keys() <= TRACKING | checks, stage
        assert len(imported) > 10
