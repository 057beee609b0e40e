"""Stages and the registry: models that stages register, and training that starts from registered models."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.saved_models import load_world_model, model_digest
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.registry import catalog, retrieval
from dreamset.pipeline.registry.exchange import import_model
from dreamset.pipeline.registry.ranking import POLICY_RETURN
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.stages import evaluate, learn_behavior, resolve, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.tracking import delivery, embedded, reporting
from tests.pipeline.conftest import TINY
from tests.pipeline.registered import rewrite, world_model

MODEL = Path("runs/world_model/reconstruction-0/model")
POLICY = Path("runs/behavior/reconstruction-0/model")
FAMILY = "pendulum_state.world_model"
FROM = "world_model=from_registry"
REUSED = "world_model_training.updates=0"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder after the stages from training to evaluation, delivered to its embedded store."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DREAMSET_TRACKING", "foreground")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        config = compose(TINY)
        train_world_model.run(stages.train_world_model(config))
        learn_behavior.run(stages.learn_behavior(config))
        evaluate.run(stages.evaluate(config))
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """A copy to work in. Its store refers to the artifacts of the original."""
    return Path(shutil.copytree(trained, tmp_path, dirs_exist_ok=True))


@pytest.fixture
def client(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ARG001 - the working folder
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    return delivery.client_of(embedded.uri())


def train(*overrides: str) -> dict[str, Any]:
    """Trains a world model; its description."""
    config = stages.train_world_model(compose([*TINY, *overrides]))
    train_world_model.run(config)
    description: dict[str, Any] = json.loads(Path(config["output"], "model/model.json").read_text())
    return description


def test_stages_register_models_with_lineage_back_to_the_data(client: Any) -> None:
    assert catalog.families(client) == ["pendulum_state.policy", FAMILY]
    policy = catalog.version(client, "pendulum_state.policy", alias="champion")
    assert policy.digest == model_digest(POLICY)
    assert "evaluation/return_iqm" in catalog.figures(client, policy)
    settings = catalog.settings(client, policy)
    assert settings["reward_function"] == "dreamset.behaviors.rewards.PredictedReward"
    assert (settings["horizon"], settings["behavior_seed"]) == ("5", "0")
    # by id, as another program would: tags and runs only
    tags = client.get_model_version(policy.name, str(policy.number)).tags
    run = client.get_run(tags["world_model_run"])
    (row,) = client.search_runs([client.get_experiment_by_name(reporting.ROWS).experiment_id])
    assert run.info.run_id == policy.run == row.info.run_id
    name, number = tags["world_model"].split("/")
    tags = client.get_model_version(name, number).tags
    assert tags["digest"] == model_digest(MODEL)
    store = Store.open("data/stores/pendulum_state")
    assert tags["dataset_digest"] == store.digest
    assert run.inputs.dataset_inputs[0].dataset.digest == store.digest[:36]
    figures = catalog.figures(client, catalog.version(client, name, number=int(number)))
    assert {"validation/reward_error_h5", "validation/kl", "cost/updates"} <= figures.keys()
    assert tags["ranked_by"] == f"{POLICY_RETURN} = {figures[POLICY_RETURN]:.6g}"
    assert figures[POLICY_RETURN] == catalog.figures(client, policy)["evaluation/return_iqm"]
    assert tags["evaluated_under"] == policy.tags["evaluated_under"]
    assert catalog.version(client, FAMILY, alias="champion").number == 1


def test_repeated_stages_with_equal_results_add_no_versions(client: Any) -> None:
    config = compose(TINY)
    train_world_model.run(stages.train_world_model(config))
    learn_behavior.run(stages.learn_behavior(config))
    evaluate.run(stages.evaluate(config))
    assert [len(catalog.versions(client, name)) for name in catalog.families(client)] == [1, 1]


def test_zero_updates_reuse_a_registered_model_unchanged(client: Any) -> None:
    original, weights = json.loads((MODEL / "model.json").read_text()), load_file(MODEL / "model.safetensors")
    digest = model_digest(MODEL)
    reused = train(FROM, REUSED, "network.hidden=24", "objective=reward_only", "seed=3")
    again = load_file("runs/world_model/reward_only-3/model/model.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in again.items())
    assert again.keys() == weights.keys()
    assert reused["architecture"] == original["architecture"]
    assert reused["spec"] == original["spec"]
    first = catalog.version(client, FAMILY, number=1)
    assert reused["lineage"]["parent"] == {"digest": digest, "name": FAMILY, "version": 1, "run": first.run}
    assert reused["lineage"]["generation"] == "dreamer_v1"
    assert (reused["lineage"]["seed"], reused["lineage"]["objective"]) == (3, "reward_only")
    second = catalog.version(client, FAMILY, alias="latest")
    assert second.tags["parent"] == f"{FAMILY}/1"
    assert catalog.version(client, FAMILY, alias="champion").number == 1  # no better than itself
    learn_behavior.run(stages.learn_behavior(compose([*TINY, "objective=reward_only", "seed=3"])))
    policy = catalog.version(client, "pendulum_state.policy", alias="latest")
    assert "parent" not in policy.tags
    assert policy.tags["world_model"] == f"{FAMILY}/2"
    roles = [(origin.role, origin.digest) for origin in catalog.origins(client, policy)]
    assert roles == [("learned in", second.digest), ("started from", digest)]


def test_registered_model_is_trained_further(client: Any) -> None:  # noqa: ARG001 - stages deliver
    weights = load_file(MODEL / "model.safetensors")
    original = MODEL.rename("original")
    trained_on = train(FROM, "world_model_training.updates=1", "world_model_training.optimizer.lr=1.0e-5")
    again = load_file(MODEL / "model.safetensors")
    moved = [float((again[key] - value).abs().max()) for key, value in weights.items()]
    assert 0 < max(moved) < 1e-4  # one small step from there
    load_world_model(MODEL, CPU)
    assert trained_on["lineage"]["parent"]["digest"] == model_digest(original)


def test_alias_version_run_and_folder_refer_to_the_same_model(client: Any) -> None:
    run = catalog.version(client, FAMILY, number=1).run
    references = [
        "world_model.alias=latest",
        "world_model.version=1",
        f"world_model.run={run}",
        f"world_model.folder={MODEL}",
    ]
    resolved = [stages.train_world_model(compose([*TINY, FROM, override])) for override in references]
    assert {config["start"]["digest"] for config in resolved} == {model_digest(MODEL)}
    own = stages.train_world_model(compose(TINY))
    for config in resolved:
        assert (config["world_model"], config["generation"]) == (own["world_model"], "dreamer_v1")
        model, _ = train_world_model.build_networks(TrainWorldModel.of(**config), Store.open(config["store"]), CPU)
        weights = load_file(MODEL / "model.safetensors")
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_resolved_model_stays_when_the_champion_moves(client: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(root / "configs", "configs")
    params = "preset: tiny\ndataset: pendulum_state\nobjectives: [reconstruction]\nseeds: [0]\nfinetune: []\n"
    Path("params.yaml").write_text(f"{params}overrides: [{FROM}, {REUSED}]\n")
    resolve.run(Path("params.yaml"), Path("resolved"))
    stage = Path("resolved/train_world_model/reconstruction-0.yaml")
    before = stage.read_text()
    train("seed=1")
    client.set_registered_model_alias(FAMILY, "champion", "2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    digest = model_digest(MODEL)
    assert resolve.run(Path("params.yaml"), Path("resolved"), if_changed=True) == []  # as `dvc repro` does
    assert stage.read_text() == before
    train_world_model.run(resolve.read_resolved(stage))
    assert json.loads((MODEL / "model.json").read_text())["lineage"]["parent"]["digest"] == digest
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    resolve.run(Path("params.yaml"), Path("resolved"))
    assert stage.read_text() != before
    assert resolve.read_resolved(stage)["start"]["version"] == 2


def test_removed_copy_is_downloaded_again(client: Any) -> None:  # noqa: ARG001
    config = stages.train_world_model(compose([*TINY, FROM, REUSED]))
    shutil.rmtree(retrieval.CACHE)
    train_world_model.run(config)
    assert model_digest(retrieval.CACHE / config["start"]["digest"]) == config["start"]["digest"]


def test_resolved_files_contain_no_absolute_paths(client: Any, project: Path) -> None:  # noqa: ARG001
    config = stages.train_world_model(compose([*TINY, FROM]))
    assert str(project) not in json.dumps(config)


def test_model_of_other_data_is_refused_or_loaded_partially(
    project: Path,  # noqa: ARG001 - the working folder
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = f"world_model.folder={world_model(Path('model'), size=5)}"
    with pytest.raises(UserError, match=r"(?s)model was trained on other data.*observation state  float32 \[5\]"):
        train(FROM, REUSED, folder)
    partial = train(FROM, REUSED, folder, "world_model.strict=false")
    assert partial["spec"]["observations"]["state"]["shape"] == [3]
    assert "encoders.state.layers.0.weight" in caplog.text
    saved, loaded = load_file("model/model.safetensors"), load_file(MODEL / "model.safetensors")
    same = {key for key, value in loaded.items() if saved[key].shape == value.shape and torch.equal(saved[key], value)}
    assert {key for key in loaded if key not in same} <= {key for key in loaded if key.startswith("encoder.")}
    load_world_model(MODEL, CPU)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["world_model.name=x"], "no model named 'x' is registered; registered: "),
        (["world_model.alias=best"], f"{FAMILY} has no 'best'; versions: 1; aliases: latest, champion"),
        (["world_model.version=7"], f"{FAMILY} has no version 7"),
        (["world_model.name=pendulum_state.policy"], "holds a policy, but a world_model is needed"),
        (["+world_model.reward_weight=2"], r"world_model\.reward_weight is unknown; allowed: alias, folder, name"),
        (["world_model.run=a", "world_model.folder=b"], "name two models; set only one of them"),
        (["world_model.folder=nowhere"], "nowhere holds no model"),
    ],
)
def test_reference_to_no_model_is_a_one_line_error(
    project: Path,  # noqa: ARG001 - the working folder
    overrides: list[str],
    expected: str,
) -> None:
    with pytest.raises(UserError, match=expected) as error:
        stages.train_world_model(compose([*TINY, FROM, *overrides]))
    assert "\n" not in str(error.value)


def test_architecture_of_a_file_is_checked_when_resolved() -> None:
    folder = world_model(Path("model"))
    architecture = json.loads((folder / "model.json").read_text())["architecture"]
    architecture["dynamics"]["_target_"] = "os.system"
    rewrite(folder, architecture=architecture)
    with pytest.raises(UserError, match=r"names os\.system"):
        stages.train_world_model(compose([*TINY, FROM, f"world_model.folder={folder}"]))


def test_registry_includes_reports_that_are_not_sent_yet(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_send", lambda _: None)  # reports stay in the outbox
    train("seed=1")
    assert len(catalog.versions(client, FAMILY)) == 1
    config = stages.train_world_model(compose([*TINY, FROM, "world_model.alias=latest"]))
    assert config["start"]["version"] == 2


def test_registration_is_sent_once_the_registry_is_reachable(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as broken:
        broken.setattr(type(client), "create_model_version", fail)
        broken.setattr(type(client), "search_experiments", fail)
        train("seed=1")
        assert (reporting.OUTBOX / "failure.txt").read_text() == "away"
    assert len(catalog.versions(client, FAMILY)) == 1
    shutil.rmtree("runs/world_model/reconstruction-1")  # the outbox keeps the files
    delivery.deliver_all(reporting.OUTBOX)
    assert len(catalog.versions(client, FAMILY)) == 2
    rows = client.get_experiment_by_name(reporting.ROWS).experiment_id
    logged = client.search_logged_models([rows], "name LIKE 'world model%'")
    assert len({model.model_id for model in logged}) == len(logged) == 2  # the second is not logged again
    retrieval.from_registry(FAMILY, version=2)


def test_outbox_file_of_an_earlier_release_has_the_model_among_the_artifacts(client: Any) -> None:
    folder = world_model(Path("model"), seed=7)
    values = asdict(registration(folder, {"validation/reward_error_h5": 0.5}, name="old.world_model"))
    reporting.OUTBOX.mkdir(exist_ok=True)
    opening = {"kind": "open", "at": 1000, "stage": "train_world_model", "experiment": "dreamset-stages", "uri": None}
    lines = [
        opening,
        {"kind": "artifact", "at": 2000, "path": str(folder.absolute()), "folder": "model"},
        {"kind": "model", "at": 2000, "values": {name: value for name, value in values.items() if name != "details"}},
        {"kind": "finish", "at": 3000, "status": "FINISHED"},
    ]
    (reporting.OUTBOX / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    delivery.deliver_all(reporting.OUTBOX)
    assert model_digest(retrieval.from_registry("old.world_model")) == model_digest(folder)
    assert catalog.version(client, "old.world_model").score == "validation/mean_reward_error_to_h5 = 0.5"


def test_imported_policy_is_loaded_as_a_check(client: Any) -> None:
    shutil.copytree(POLICY, "imported")
    assert import_model(Path("imported"), "mine.policy").digest == model_digest(POLICY)
    (chain,) = catalog.origins(client, catalog.version(client, "mine.policy"))
    assert chain.digest == model_digest(MODEL)
    weights = Path("imported/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"imported/model\.safetensors is damaged"):
        import_model(Path("imported"), "mine.policy")
