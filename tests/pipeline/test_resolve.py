"""The resolved files: a setting changes the files of the stages that read it and no other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dreamset.core.errors import UserError
from dreamset.pipeline.stages import resolve

Change = Callable[[Path], None]


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A folder with the configuration of a clone."""
    shutil.copytree(root / "configs", tmp_path / "configs")
    shutil.copy(root / "params.yaml", tmp_path)
    return tmp_path


def resolved(project: Path) -> dict[str, str]:
    resolve.run(project / "params.yaml", project / "resolved")
    return {str(p.relative_to(project / "resolved")): p.read_text() for p in (project / "resolved").rglob("*.yaml")}


def changed(project: Path, change: Change) -> set[str]:
    before = resolved(project)
    change(project)
    after = resolved(project)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def edit(name: str, old: str, new: str) -> Change:
    def change(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))

    return change


def test_resolving_again_changes_no_files(project: Path) -> None:
    assert changed(project, lambda _: None) == set()


def test_setting_of_an_objective_changes_its_world_model_and_the_comparison_only(project: Path) -> None:
    change = edit("configs/objective/predictive_contrastive.yaml", "weight: 3.0", "weight: 2.0")
    assert changed(project, change) == {"train_world_model/predictive_contrastive-0.yaml", "compare.yaml"}


def test_setting_of_a_behavior_changes_behavior_learning_only(project: Path) -> None:
    files = changed(project, edit("configs/behavior/dreamer_v1.yaml", "horizon: 15", "horizon: 10"))
    assert files == {f"learn_behavior/{o}-0.yaml" for o in ("reconstruction", "predictive_contrastive", "reward_only")}


def test_evaluation_setting_changes_evaluation_and_comparison_only(project: Path) -> None:
    files = changed(project, edit("configs/config.yaml", "confidence: 0.95", "confidence: 0.9"))
    assert {name.split("/")[0] for name in files} == {"evaluate", "compare.yaml"}


def test_new_objective_adds_its_own_files_only(project: Path) -> None:
    def change(project: Path) -> None:
        text = (project / "configs/objective/contrastive.yaml").read_text()
        (project / "configs/objective/sharper.yaml").write_text(text.replace("0.1", "0.01"))
        edit("params.yaml", "  - reward_only", "  - reward_only\n  - sharper")(project)

    files = changed(project, change)
    assert files == {f"{stage}/sharper-0.yaml" for stage in resolve.stages.PER_OBJECTIVE} | {"compare.yaml"}


def test_new_seed_adds_files_and_changes_none(project: Path) -> None:
    files = changed(project, edit("params.yaml", "seeds: [0]", "seeds: [0, 1]"))
    assert all(name.endswith("-1.yaml") for name in files - {"compare.yaml"})


def test_code_of_an_objective_changes_its_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = project / "elsewhere.py"
    module.write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(project))
    (project / "configs/objective/mine.yaml").write_text("_target_: elsewhere.Mine\n")
    edit("params.yaml", "  - reward_only", "  - mine")(project)
    files = changed(project, lambda _: module.write_text("class Mine:\n    sharper = True\n") and None)
    assert files == {"train_world_model/mine-0.yaml"}


def test_resolve_lists_changed_files_and_their_changed_keys(project: Path) -> None:
    params, output = project / "params.yaml", project / "resolved"
    assert "train_world_model/predictive_contrastive-0.yaml: added" in resolve.run(params, output, if_changed=True)
    written = output.stat().st_ino
    assert resolve.run(params, output, if_changed=True) == []
    assert output.stat().st_ino == written  # not replaced
    edit("configs/objective/predictive_contrastive.yaml", "weight: 3.0", "weight: 2.0")(project)
    assert resolve.run(params, output, if_changed=True) == [
        "compare.yaml: different_settings",
        "train_world_model/predictive_contrastive-0.yaml: objective",
    ]


def test_code_edit_changes_the_digest_without_composition(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = project / "elsewhere.py"
    module.write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(project))
    (project / "configs/objective/mine.yaml").write_text("_target_: elsewhere.Mine\n")
    edit("params.yaml", "  - reward_only", "  - mine")(project)
    params, output = project / "params.yaml", project / "resolved"
    resolve.run(params, output)
    monkeypatch.setattr(resolve, "composed", None)  # would fail
    module.write_text("class Mine:\n    sharper = True\n")
    assert resolve.run(params, output, if_changed=True) == ["train_world_model/mine-0.yaml: code"]
    assert resolve.run(params, output, if_changed=True) == []


def test_manually_edited_resolved_file_is_composed_again(project: Path) -> None:
    params, output = project / "params.yaml", project / "resolved"
    resolve.run(params, output)
    right = (output / "ingest.yaml").read_text()
    (output / "ingest.yaml").write_text(right.replace("on_invalid: error", "on_invalid: quarantine"))
    resolve.run(params, output, if_changed=True)
    assert (output / "ingest.yaml").read_text() == right


def test_finetune_list_adds_files_for_its_objectives_only(project: Path) -> None:
    files = changed(project, edit("params.yaml", "finetune: []", "finetune: [predictive_contrastive]"))
    assert files == {"finetune/predictive_contrastive-0.yaml"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("finetune: []", "finetune: [other]", "add other to objectives"),
        ("  - reward_only", "  - nope", "nope"),
        ("seeds: [0]", "seeds: [zero]", "seeds[0] is 'zero'; allowed: a whole number"),
        ("seeds: [0]", "seeds: []", "seeds is []; allowed: a list of 1 or more entries"),
        (
            "  - reward_only",
            "  - predictive_contrastive",
            "'predictive_contrastive', 'predictive_contrastive']; allowed: each at most once",
        ),
        ("preset: small", "preset: huge", "huge"),
        ("overrides:", "overrides: [behaviour.horizon=3]", "behaviour"),
        (
            "overrides:",
            "overrides: {behaviour: {horizon: 3}}",
            "behaviour.horizon is unknown; did you mean behavior.horiz",
        ),
        ("overrides:", "overrides: {behavior.horizon: three}", "behavior.horizon is 'three'; allowed: a whole number"),
        (
            "overrides:",
            "overrides: {world_model: v4, network: {depth: 2}}",
            "world_model is 'v4'; allowed: autoencoder",
        ),
        ("overrides:", "overrides: {two words: 3}", "'two words=3' is not KEY=VALUE"),
        ("overrides:", "overrides: 3", "overrides is 3; allowed: a mapping such as {behavior.horizon: 10}, or a list"),
        ("dataset: pendulum_pixels", "datasett: pendulum_pixels", "datasett is unknown; did you mean dataset?"),
        ("overrides:", "overrides: [", "not valid yaml"),
    ],
)
def test_mistake_in_params_is_one_line_and_changes_no_files(project: Path, old: str, new: str, expected: str) -> None:
    before = resolved(project)
    edit("params.yaml", old, new)(project)
    with pytest.raises(UserError) as error:
        resolve.run(project / "params.yaml", project / "resolved")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    after = {str(p.relative_to(project / "resolved")): p.read_text() for p in (project / "resolved").rglob("*.yaml")}
    assert after == before


@pytest.mark.parametrize(
    ("mapping", "listed"),
    [
        ("{behavior.horizon: 10}", "[behavior.horizon=10]"),
        ("{behavior: {horizon: 10}, network.hidden: 24}", "[behavior.horizon=10, network.hidden=24]"),
        ("{world_model: dreamer_v3, network: {depth: 2}}", "[world_model=dreamer_v3, network.depth=2]"),
        ("{world_model_training: {optimizer: {lr: 1e-05}}}", "[world_model_training.optimizer.lr=1e-05]"),
        ("{dataset: {split: {seed: 1}}}", "[dataset.split.seed=1]"),
        (
            "{+behavior_training.optimizers.actor.weight_decay: 0.1}",
            "[+behavior_training.optimizers.actor.weight_decay=0.1]",
        ),
    ],
)
def test_overrides_as_a_mapping_resolve_to_the_files_of_the_list(project: Path, mapping: str, listed: str) -> None:
    plain = resolved(project)
    edit("params.yaml", "overrides:", f"overrides: {listed}")(project)
    expected, manifest = resolved(project), (project / "resolved/manifest.json").read_bytes()
    assert expected != plain
    edit("params.yaml", listed, mapping)(project)
    assert resolved(project) == expected
    assert (project / "resolved/manifest.json").read_bytes() == manifest  # labels and inputs, too


def test_empty_overrides_are_an_empty_list(project: Path) -> None:
    expected = resolved(project)
    for empty in ("{}", "[]"):
        edit("params.yaml", "overrides:", f"overrides: {empty} #")(project)
        assert resolved(project) == expected


def test_mapping_is_a_value_where_the_setting_holds_none(project: Path) -> None:
    source = "{path: '/my data/[1].npz', observations: {image: rgb, state: [a, b]}}"
    edit("params.yaml", "dataset: pendulum_pixels", "dataset: npz_folder")(project)
    edit("params.yaml", "overrides:", f"overrides: {{dataset: {{source: {source}}}}}")(project)
    assert resolve.read_params(project / "params.yaml").overrides == [
        'dataset.source.path="/my data/[1].npz"',
        "dataset.source.observations={image: rgb, state: [a, b]}",
    ]


def test_resolved_files_contain_values_instead_of_interpolations(project: Path) -> None:
    text = resolved(project)["train_world_model/reconstruction-0.yaml"]
    assert "${" not in text
    assert yaml.safe_load(text)["world_model"]["dynamics"]["latent"]["size"] == 30


def test_settings_that_differ_between_objectives_are_listed_without_plumbing() -> None:
    shared = {"seed": 0, "choices": {"objective": "any"}}
    settings = {
        "one": {**shared, "objective": {"_target_": "my.One", "_partial_": True, "weight": 1.0}},
        "two": {**shared, "objective": {"_target_": "my.Two", "weight": 1.0, "size": 3, "names": None, "x": [True]}},
    }
    assert resolve.different_settings(settings) == {
        "objective": {"one": "One", "two": "Two"},
        "objective.names": {"two": "null"},
        "objective.size": {"two": "3"},
        "objective.x": {"two": "[true]"},
    }
