"""From one task to another: relabelled data, a world model that stays, and what is refused."""

import json
import logging
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
from dreamset.pipeline.training.parameter_groups import factor_of
from tests.pipeline.conftest import TINY
from tests.pipeline.killing import Killed, kill_after
from tests.pipeline.registered import architecture, lineage, spec

MODEL = Path("runs/world_model/reconstruction-0/model")
SPIN = ["preset=tiny", "dataset=pendulum_spin"]
CAMERA = ArraySpec((8, 8, 3), "uint8")


@pytest.fixture
def source(workspace: Path) -> str:
    """Where a world model of pendulum_state lies, as an override; the relabelled store is there, too."""
    cli.main(["train-world-model", *TINY])
    MODEL.rename(workspace / "source")
    cli.main(["ingest", *SPIN])
    return "world_model.folder=source"


def saved(folder: str, data: DataSpec) -> dict[str, Any]:
    """A world model that never learned, as the start of another training."""
    torch.manual_seed(0)
    node = architecture()
    model: WorldModel = build(node, data, allowed=WORLD_MODEL_PARTS)
    save_model(Path(folder), model, SavedModel(node, data, lineage(), WORLD_MODEL))
    return {"digest": model_digest(Path(folder)), "name": None, "version": None, "run": None, "folder": folder}


def adaptation(name: str) -> dict[str, float]:
    factors: dict[str, float] = compose(["world_model=from_registry", f"adaptation={name}"])["adaptation"]
    return factors


def test_the_same_rows_are_rewarded_for_spinning_fast(workspace: Path) -> None:  # noqa: ARG001 - the working folder
    settings = stages.ingest(compose(SPIN))
    reached = ImportPath().reachable(starting_points("ingest", settings, compose(SPIN)))
    assert "dreamset.environments.pendulum" in reached  # an edit of the reward relabels
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


def test_a_model_is_carried_to_another_reward_without_a_step_in_the_environment(
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
    assert (episodes["return"] == 50).all()  # a hundred steps, each by the function
    scores = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    assert "evaluation/normalized_iqm" not in scores  # references of the other reward would not hold


def test_other_factors_are_chosen_by_name_and_by_part(source: str) -> None:
    chosen = ["adaptation=slow_dynamics", "adaptation.encoder=0.0", "world_model_training.updates=1"]
    cli.main(["adapt", *SPIN, source, *chosen])
    before, after = load_file("source/model.safetensors"), load_file(MODEL / "model.safetensors")
    step = {name: float((after[name] - value).abs().max()) for name, value in before.items()}
    assert all(value == 0 for name, value in step.items() if name.startswith("encoder."))
    # one step of Adam is the rate, whatever the gradient
    assert max(v for n, v in step.items() if n.startswith("dynamics.")) == pytest.approx(1e-4, rel=0.01)
    assert max(v for n, v in step.items() if n.startswith("reward_head.")) == pytest.approx(1e-3, rel=0.01)


def test_a_killed_adaptation_ends_where_an_unbroken_one_would(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamset.pipeline.training.checkpoint.SECONDS", 0.0)
    arguments = ["adapt", *SPIN, source, "adaptation=slow_dynamics", "adaptation.encoder=0.0"]
    cli.main(arguments)
    unbroken = (MODEL / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        cli.main(arguments)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)  # six updates in all: the first four are not repeated
        cli.main(arguments)
    assert (MODEL / "model.safetensors").read_bytes() == unbroken


def test_an_observation_more_gives_a_new_encoder_for_the_dynamics_that_stay(caplog: pytest.LogCaptureFixture) -> None:
    data = spec(camera=CAMERA)
    vectors = {"state": spec().statistics["state"]}
    data = replace(data, statistics=vectors)
    start = saved("model", spec()) | {"strict": False, "adaptation": adaptation("new_encoder")}
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
def test_a_camera_instead_of_the_state_keeps_the_dynamics_and_goes_all_the_way(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From pendulum_state to pendulum_pixels, every stage."""
    cli.main(["train-world-model", *TINY])
    MODEL.rename(workspace / "source")
    pixels = ["preset=tiny", "dataset=pendulum_pixels"]
    for stage in ("collect", "ingest"):
        cli.main([stage, *pixels])
    with caplog.at_level(logging.WARNING):
        chosen = ["world_model.folder=source", "world_model.strict=false", "adaptation=new_encoder"]
        cli.main(["adapt", *pixels, *chosen])
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


def test_an_observation_less_trains_what_reads_the_rest(workspace: Path) -> None:  # noqa: ARG001 - the working folder
    camera = {"state": spec().statistics["state"]}
    saved("both", replace(spec(camera=CAMERA), statistics=camera))
    chosen = ["world_model.folder=both", "world_model.strict=false", "adaptation=new_encoder"]
    cli.main(["adapt", *TINY, *chosen])
    before, after = load_file("both/model.safetensors"), load_file(MODEL / "model.safetensors")
    kept = {name for name, value in after.items() if name in before and torch.equal(value, before[name])}
    assert {name for name in after if name.startswith("dynamics.")} - kept == {
        "dynamics.from_embedding.weight",
        "dynamics.from_embedding.bias",
    }
    assert not any(name.startswith(("encoder.encoders.state.layers", "reward_head")) for name in kept)


def test_what_begins_anew_must_not_stay_random() -> None:
    start = saved("model", spec(size=5)) | {"strict": False, "adaptation": adaptation("heads_only")}
    with pytest.raises(UserError, match=r"would stay random: encoder\.encoders\.state\.layers\.0\.weight; let it lear"):
        pretrained.continued(start, spec(size=3))
    pretrained.continued(start | {"adaptation": {}}, spec(size=3))


@pytest.mark.parametrize("changed", [{"action": 2}, {"discrete": True}])
@pytest.mark.parametrize("strict", ["true", "false"])
def test_other_actions_are_refused_with_the_reason(
    workspace: Path,  # noqa: ARG001 - the working folder
    changed: dict[str, Any],
    strict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved("model", spec(**changed))
    with pytest.raises(SystemExit):
        cli.main(["adapt", *TINY, "world_model.folder=model", f"world_model.strict={strict}"])
    assert "what the model knows is what its own actions do" in capsys.readouterr().err


def test_without_an_adaptation_a_resolved_stage_is_what_it_was(workspace: Path) -> None:  # noqa: ARG001
    saved("model", spec())
    own = stages.train_world_model(compose(TINY))
    assert own["start"] is None
    again = stages.train_world_model(compose([*TINY, "world_model=from_registry", "world_model.folder=model"]))
    assert again["start"]["adaptation"] == {}
    training = train_world_model.start(again, Store.open(again["store"]), torch.device("cpu"))
    assert all(parameter.requires_grad for parameter in training.trainer.model.parameters())
