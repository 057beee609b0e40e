"""From demonstrations and recordings without actions to a world model: ``dreamset data label-actions``."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import Store
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.evaluation.labelling import checked_episodes, difference, label_store
from dreamset.pipeline.stages import ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import TrainWorldModel
from dreamset.pipeline.training.loop import build_sampler, sampled_for

EFFECT = np.array([[0.8, 0.3], [-0.4, 0.6]], np.float32)  # of an action on the state
STEPS = 20
MAPPED = "{_target_:dreamset.datasets.sources.mapped.MappedSource,observations:{state:x},reward:null,terminal:null"
PARTS = (
    "dataset.source.parts={"
    f"expert:{{source:{MAPPED},path:expert,action:act}}}},"
    f"novice:{{source:{MAPPED},path:novice,action:act}},demonstration:false}},"
    f"videos:{{source:{MAPPED},path:videos,action:null}}}}}}"
)
RAW = ("preset=tiny", "world_model=observations", "objective=reward_only", "network.hidden=64")
LABELS = (
    "behavior=inverse_dynamics",
    "behavior_training=inverse_dynamics",
    "behavior_training.updates=600",
    "behavior_training.batch={size: 16, length: 16}",
    "behavior_training.optimizers.inverse_dynamics.lr=3.0e-3",
)
WORLD_MODEL, POLICY = Path("runs/world_model/reward_only-0/model"), Path("runs/behavior/reward_only-0/model")

Call = Callable[..., dict[str, Any]]


def walk(number: int) -> tuple[np.ndarray, np.ndarray]:
    """States [STEPS + 1, 2] and actions [STEPS, 2] in [-1, 1] of a linear walk."""
    generator = np.random.default_rng(number)
    actions = generator.uniform(-1, 1, (STEPS, 2)).astype(np.float32)
    start = generator.normal(size=(1, 2)).astype(np.float32)
    return np.concatenate([start, start + (actions @ EFFECT).cumsum(0)]).astype(np.float32), actions


def record(folder: str, numbers: range, *, acted: bool) -> None:
    Path(folder).mkdir()
    for number in numbers:
        states, actions = walk(number)
        np.savez(Path(folder) / f"{number:02d}.npz", x=states, **({"act": actions} if acted else {}))


def stage(name: str, *overrides: str) -> dict[str, Any]:
    return stages.STAGES[name](compose([*RAW, *overrides]))


@pytest.fixture
def parts() -> Store:
    """Four demonstrations and twelve other episodes with actions, and four recordings without."""
    record("expert", range(4), acted=True)
    record("novice", range(4, 16), acted=True)
    record("videos", range(16, 20), acted=False)
    ingest.run(stage("ingest", "dataset=parts", PARTS))
    return Store.open("data/stores/parts")


@pytest.mark.slow
def test_world_model_trains_on_actions_that_inverse_dynamics_labelled(
    parts: Store, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert parts.acted.tolist() == [True] * 16 + [False] * 4
    assert parts.demonstration.tolist() == [True] * 4 + [False] * 12 + [True] * 4
    with caplog.at_level(logging.INFO):
        train_world_model.run(stage("train_world_model", "dataset=parts", PARTS))
    assert "4 of 20 episodes have no actions and are left out of the training" in caplog.text
    learn_behavior.run(stage("learn_behavior", "dataset=parts", PARTS, *LABELS))
    capsys.readouterr()
    folders = ["--policy", str(POLICY), "--world-model", str(WORLD_MODEL)]
    cli.main(["data", "label-actions", str(parts.path), *folders, "--output", "labelled"])
    printed = capsys.readouterr().out
    assert "labelled 80 transitions of 4 episodes" in printed
    assert "mean distance as a share of the allowed range, on 40 held-out transitions" in printed

    labelled = Store.open("labelled")
    assert labelled.acted.all()
    np.testing.assert_array_equal(labelled.demonstration, parts.demonstration)
    for split in ("train", "validation"):
        np.testing.assert_array_equal(labelled.split(split), parts.split(split, acted=None))
    for number in range(20):
        states, actions = walk(number)
        rows = labelled.read(number)
        np.testing.assert_array_equal(rows["state"], states)
        assert not rows["action"][0].any()
        distance = np.abs(rows["action"][1:] - actions).mean()
        assert distance < (1e-6 if number < 16 else 0.1)  # recorded actions stay; a constant action has 0.5
    facts = labelled.info["source"]["labelled"]
    assert facts["of"] == parts.digest
    assert facts["held_out"]["error"] < 0.05 < 0.2 < facts["held_out"]["baseline"] < 0.3
    checked = [np.abs(labelled_actions(parts, number) - walk(number)[1]) / 2 for number in checked_episodes(parts)]
    np.testing.assert_allclose(np.mean(checked), facts["held_out"]["error"], rtol=1e-6)

    again = ("dataset=store", "dataset.source.path=labelled", "objective=reconstruction", "world_model=dreamer_v1")
    ingest.run(stage("ingest", *again))
    train_world_model.run(stage("train_world_model", *again))
    assert Store.open("data/stores/store").acted.all()
    assert json.loads(Path("runs/world_model/reconstruction-0/metrics.json").read_text())["cost/updates"] == 6


def labelled_actions(store: Store, number: int) -> np.ndarray:
    from dreamset.pipeline.evaluation.labelling import load_labeller

    return load_labeller(store, WORLD_MODEL, POLICY, seed=0).actions(store, number)


def test_labels_are_the_same_for_the_same_seed(parts: Store) -> None:
    train_world_model.run(stage("train_world_model", "dataset=parts", PARTS))
    learn_behavior.run(stage("learn_behavior", "dataset=parts", PARTS, *LABELS, "behavior_training.updates=2"))
    stores = [label_store(parts, Path(name), world_model=WORLD_MODEL, policy=POLICY)[0] for name in ("first", "second")]
    assert stores[0].digest == stores[1].digest
    with pytest.raises(UserError, match="all 20 episodes have actions; there is nothing to label"):
        label_store(stores[0], Path("third"), world_model=WORLD_MODEL, policy=POLICY)


@pytest.mark.slow
def test_models_that_cannot_label_are_refused_in_one_line(parts: Store, capsys: pytest.CaptureFixture[str]) -> None:
    train_world_model.run(stage("train_world_model", "dataset=parts", PARTS))
    learn_behavior.run(stage("learn_behavior", "dataset=parts", PARTS, "behavior=cloning"))
    folders = ["--policy", str(POLICY), "--world-model", str(WORLD_MODEL)]
    with pytest.raises(SystemExit):
        cli.main(["data", "label-actions", str(parts.path), *folders, "--output", "labelled"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "BehaviorCloning does not label actions; choose a policy of behavior=inverse_dynamics" in error
    assert not Path("labelled").exists()
    recurrent = ("objective=reconstruction", "world_model=dreamer_v1")
    train_world_model.run(stage("train_world_model", "dataset=parts", PARTS, *recurrent))
    with pytest.raises(UserError, match="lacks \\(ActionFree: Has states that do not depend on actions"):
        learn_behavior.run(stage("learn_behavior", "dataset=parts", PARTS, *recurrent, *LABELS))


def test_training_without_any_action_is_refused_with_the_remedy() -> None:
    record("videos", range(4), acted=False)
    source = f"dataset.source.parts={{videos:{{source:{MAPPED},path:videos,action:null,action_size:2}}}}}}"
    ingest.run(stage("ingest", "dataset=parts", source))
    with pytest.raises(UserError, match=r"none of the . episodes of the split 'train' has actions.*label-actions"):
        train_world_model.run(stage("train_world_model", "dataset=parts", source))  # nothing to learn but rewards


def test_model_that_needs_no_actions_trains_and_is_validated_without_any() -> None:
    record("videos", range(4), acted=False)
    source = f"dataset.source.parts={{videos:{{source:{MAPPED},path:videos,action:null,action_size:2}}}}}}"
    ingest.run(stage("ingest", "dataset=parts", source))
    train_world_model.run(stage("train_world_model", "dataset=parts", source, "objective=reconstruction"))
    figures = json.loads(Path("runs/world_model/reconstruction-0/metrics.json").read_text())
    assert figures["cost/updates"] == 6


class Without:
    uses_unacted = True


def test_episodes_without_actions_are_sampled_only_if_every_trained_part_can_use_them(parts: Store) -> None:
    assert sampled_for(parts, Without(), Without()) is None
    assert sampled_for(parts, Without(), object()) is True
    config = stage("train_world_model", "dataset=parts", PARTS, "world_model_training.batch.size=32")
    batch = TrainWorldModel.of(**config).training.batch
    drawn = build_sampler(batch, parts, seed=0, acted=sampled_for(parts, Without())).sample()
    assert drawn.acted is not None
    assert 0 < drawn.acted[:, 0].sum() < 32
    assert build_sampler(batch, parts, seed=0, acted=sampled_for(parts, object())).sample().acted is None


def test_difference_is_a_share_of_the_range_or_of_the_choices() -> None:
    bounded = ActionSpec(2, False, (-1.0, 0.0), (1.0, 8.0))
    labels, truth = np.array([[0.5, 4.0], [0.0, 1.0]]), np.array([[0.0, 4.0], [0.0, 5.0]])
    assert difference(bounded, labels, truth) == pytest.approx((0.25 + 0 + 0 + 0.5) / 4)
    choice = ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3)
    assert difference(choice, np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 2, 2, 1]]) == 0.5
