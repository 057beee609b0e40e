"""Adapting a world model to another task: relabelled data, frozen and re-initialised parts, refusals."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.datasets import Store
from dreamset.datasets.layout import REWARD
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts import pretrained
from dreamset.pipeline.artifacts.saved_models import (
    WORLD_MODEL,
    WORLD_MODEL_PARTS,
    SavedModel,
    build,
    model_digest,
    save_model,
)
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.dependencies import ImportPath, starting_points
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages import train_world_model
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.training.parameter_groups import factor_of
from tests.pipeline.conftest import TINY
from tests.pipeline.killing import Killed, kill_after
from tests.pipeline.registered import architecture, lineage, spec

MODEL = Path("runs/world_model/reconstruction-0/model")
SPIN = ["preset=tiny", "dataset=pendulum_spin"]
CAMERA = ArraySpec((8, 8, 3), "uint8")


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world model of pendulum_state in ``source``, its data and the relabelled store."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        cli.main(["train-world-model", *TINY])
        MODEL.rename("source")
        cli.main(["ingest", *SPIN])
    return folder


@pytest.fixture
def source(trained: Path, tmp_path: Path) -> str:
    """The override that selects a world model of pendulum_state; the relabelled store exists."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return "world_model.folder=source"


def save_untrained(folder: str, data: DataSpec) -> dict[str, Any]:
    """Saves an untrained world model; returns its reference as the start of another training."""
    torch.manual_seed(0)
    node = architecture()
    model: WorldModel = build(node, data, allowed=WORLD_MODEL_PARTS)
    save_model(Path(folder), model, SavedModel(node, data, lineage(), WORLD_MODEL))
    return {"digest": model_digest(Path(folder)), "name": None, "version": None, "run": None, "folder": folder}


def adaptation(name: str) -> dict[str, float]:
    factors: dict[str, float] = compose(["world_model=from_registry", f"adaptation={name}"])["adaptation"]
    return factors


def test_relabelling_changes_the_rewards_and_nothing_else(workspace: Path) -> None:  # noqa: ARG001 - the working folder
    settings = stages.ingest(compose(SPIN))
    reached = ImportPath().reachable(starting_points("ingest", settings, compose(SPIN)))
    assert "dreamset.environments.pendulum" in reached  # so an edit of the reward reruns ingest
    cli.main(["collect", *SPIN])
    cli.main(["ingest", *SPIN])
    original, relabelled = Store.open("data/stores/pendulum_state"), Store.open("data/stores/pendulum_spin")
    assert relabelled.digest != original.digest
    for number in range(len(original.lengths)):
        before, after = original.read(number), relabelled.read(number)
        states = np.asarray(before["state"], np.float64)
        expected = np.concatenate([[0.0], np.abs(states[1:, 2]) / 8])  # row 0 has no transition
        np.testing.assert_allclose(after[REWARD], expected, rtol=1e-6)
        assert all(np.array_equal(after[name], before[name]) for name in before.keys() - {REWARD})
    for split in ("train", "validation"):
        assert np.array_equal(original.split(split), relabelled.split(split))
    assert not {"ref_min_score", "ref_max_score"} & relabelled.info["source"].keys()


def test_a_model_is_adapted_to_another_reward_without_an_environment(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        offline.setattr("dreamset.environments.pendulum.make", lambda **_: pytest.fail("an environment was made"))
        cli.main(["adapt", *SPIN, source])
        cli.main(["learn-behavior", *SPIN])
    before, after = load_file("source/model.safetensors"), load_file(MODEL / "model.safetensors")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in after if name.startswith("reward_head.")}
    description = json.loads((MODEL / "model.json").read_text())
    assert description["lineage"]["parent"]["digest"] == model_digest(Path("source"))
    assert description["lineage"]["dataset"] == "pendulum_spin"
    with monkeypatch.context() as paid:
        paid.setattr("dreamset.environments.pendulum.spinning", lambda **_: np.array([0.5]))
        cli.main(["evaluate", *SPIN])
    episodes = pd.read_csv("runs/evaluation/reconstruction-0/episodes.csv")
    assert (episodes["return"] == 50).all()  # a hundred steps with a reward of 0.5
    scores = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    assert "evaluation/normalized_mean" not in scores  # reference scores of the other reward are not valid


def test_adaptation_is_selected_by_name_and_overridden_by_part(source: str) -> None:
    overrides = ["adaptation=slow_dynamics", "adaptation.encoder=0.0", "world_model_training.updates=1"]
    cli.main(["adapt", *SPIN, source, *overrides])
    before, after = load_file("source/model.safetensors"), load_file(MODEL / "model.safetensors")
    step = {name: float((after[name] - value).abs().max()) for name, value in before.items()}
    assert all(value == 0 for name, value in step.items() if name.startswith("encoder."))
    # one step of Adam has the size of the learning rate
    assert max(v for n, v in step.items() if n.startswith("dynamics.")) == pytest.approx(1e-4, rel=0.01)
    assert max(v for n, v in step.items() if n.startswith("reward_head.")) == pytest.approx(1e-3, rel=0.01)


def test_a_killed_adaptation_resumes_to_the_same_bytes(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamset.pipeline.training.checkpoint.SECONDS", 0.0)
    arguments = ["adapt", *SPIN, source, "adaptation=slow_dynamics", "adaptation.encoder=0.0"]
    cli.main(arguments)
    uninterrupted = (MODEL / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        cli.main(arguments)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)  # 4 of 6 updates are done
        cli.main(arguments)
    assert (MODEL / "model.safetensors").read_bytes() == uninterrupted


def test_an_additional_observation_re_initialises_its_encoder_and_keeps_the_dynamics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = spec(camera=CAMERA)
    vectors = {"state": spec().statistics["state"]}
    data = replace(data, statistics=vectors)
    start = save_untrained("model", spec()) | {"strict": False, "adaptation": adaptation("new_encoder")}
    with caplog.at_level(logging.WARNING):
        model = pretrained.continued(start, data)
    before, after = load_file("model/model.safetensors"), model.state_dict()
    new = {name for name in after if name not in before or not torch.equal(after[name], before[name])}
    assert {name.rpartition(".layers.")[0] or name for name in new} == {
        "encoder.encoders.camera",
        "dynamics.from_embedding.weight",
    }
    assert all(name in caplog.text for name in new)
    learning = {name for name, _ in model.named_parameters() if factor_of(name, start["adaptation"]) > 0}
    assert new <= learning
    assert {name for name in learning if name.startswith("dynamics.")} == {
        "dynamics.from_embedding.weight",
        "dynamics.from_embedding.bias",
    }


@pytest.mark.slow
def test_images_instead_of_vectors_keep_the_dynamics_through_every_stage(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All stages, from pendulum_state to pendulum_pixels."""
    pixels = ["preset=tiny", "dataset=pendulum_pixels"]
    for stage in ("collect", "ingest"):
        cli.main([stage, *pixels])
    with caplog.at_level(logging.WARNING):
        overrides = [source, "world_model.strict=false", "adaptation=new_encoder"]
        cli.main(["adapt", *pixels, *overrides])
    assert "encoder.encoders.image" in caplog.text
    before, after = load_file("source/model.safetensors"), load_file(MODEL / "model.safetensors")
    kept = {name for name, value in after.items() if name in before and torch.equal(value, before[name])}
    assert {name for name in after if name.startswith("dynamics.")} - kept == {
        "dynamics.from_embedding.weight",
        "dynamics.from_embedding.bias",
    }
    for stage in ("learn-behavior", "evaluate"):
        cli.main([stage, *pixels])
    assert len(pd.read_csv("runs/evaluation/reconstruction-0/episodes.csv")) == 4


def test_a_missing_observation_re_initialises_only_the_layers_that_depend_on_it(workspace: Path) -> None:  # noqa: ARG001 - the working folder
    camera = {"state": spec().statistics["state"]}
    save_untrained("both", replace(spec(camera=CAMERA), statistics=camera))
    overrides = ["world_model.folder=both", "world_model.strict=false", "adaptation=new_encoder"]
    cli.main(["adapt", *TINY, *overrides])
    before, after = load_file("both/model.safetensors"), load_file(MODEL / "model.safetensors")
    kept = {name for name, value in after.items() if name in before and torch.equal(value, before[name])}
    assert {name for name in after if name.startswith("dynamics.")} - kept == {
        "dynamics.from_embedding.weight",
        "dynamics.from_embedding.bias",
    }
    assert not any(name.startswith(("encoder.encoders.state.layers", "reward_head")) for name in kept)


def test_re_initialised_layers_must_not_be_frozen() -> None:
    start = save_untrained("model", spec(size=5)) | {"strict": False, "adaptation": adaptation("heads_only")}
    with pytest.raises(UserError, match=r"would stay random: encoder\.encoders\.state\.layers\.0\.weight; train them"):
        pretrained.continued(start, spec(size=3))
    pretrained.continued(start | {"adaptation": {}}, spec(size=3))


@pytest.mark.parametrize("changed", [{"action": 2}, {"discrete": True}])
@pytest.mark.parametrize("strict", ["true", "false"])
def test_a_model_of_other_actions_is_refused_with_the_reason(
    workspace: Path,  # noqa: ARG001 - the working folder
    changed: dict[str, Any],
    strict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_untrained("model", spec(**changed))
    with pytest.raises(SystemExit):
        cli.main(["adapt", *TINY, "world_model.folder=model", f"world_model.strict={strict}"])
    assert "the learned dynamics would be invalid" in capsys.readouterr().err


def test_a_reused_model_without_adaptation_trains_all_parameters(workspace: Path) -> None:  # noqa: ARG001
    save_untrained("model", spec())
    own = stages.train_world_model(compose(TINY))
    assert own["start"] is None
    again = stages.train_world_model(compose([*TINY, "world_model=from_registry", "world_model.folder=model"]))
    assert again["start"]["adaptation"] == {}
    training = train_world_model.start(TrainWorldModel.of(**again), Store.open(again["store"]), torch.device("cpu"))
    assert all(parameter.requires_grad for parameter in training.trainer.model.parameters())
