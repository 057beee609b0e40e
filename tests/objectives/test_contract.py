"""What every objective in ``configs/objective`` promises; a new yaml file is tested without a line here."""

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.runtime import build_part
from dreamset.pipeline.trainers import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model

FOLDER = Path(__file__).parents[2] / "configs" / "objective"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITHOUT_LOSS = {"reward_only"}

every_objective = pytest.mark.parametrize("name", NAMES)
every_objective_with_a_loss = pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_LOSS))


def build(name: str, *overrides: str, seed: int = 0) -> tuple[WorldModel, Objective]:
    model = tiny_model(f"objective={name}", *overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective: Objective = build_part(tiny_config(f"objective={name}", *overrides)["objective"], model)
    return model, objective


def evaluate(
    model: WorldModel, objective: Objective, batch: SequenceBatch, *, seed: int = 0
) -> tuple[dict[str, Loss], Rollout, SequenceBatch]:
    seen = objective.view(batch)
    rollout = model.observe(seen, seeded(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective(rollout, seen, model), rollout, seen


def total(losses: Mapping[str, Loss]) -> Tensor:
    return torch.stack([loss.weight * loss.value.mean() for loss in losses.values()]).sum()


def test_the_folder_of_objectives_is_found() -> None:
    assert {"reconstruction", "contrastive", "reward_only"} <= set(NAMES)


@every_objective
def test_losses_are_finite_numbers_for_every_row_of_the_batch(name: str) -> None:
    model, objective = build(name)
    losses, _, seen = evaluate(model, objective, tiny_batch())
    assert (losses == {}) == (name in WITHOUT_LOSS)
    for key, loss in losses.items():
        assert loss.value.shape == seen.reward.shape, key
        assert torch.isfinite(loss.value).all(), key
        assert loss.value.std() > 0, key  # rows differ, so their losses do


@every_objective
def test_names_do_not_clash_with_those_of_the_world_model(name: str) -> None:
    model, objective = build(name, "world_model=dreamer_v1_continue")
    losses, rollout, seen = evaluate(model, objective, tiny_batch())
    assert not losses.keys() & model.losses(rollout, seen).keys()


@every_objective_with_a_loss
def test_the_gradient_reaches_every_weight_of_the_encoder_and_of_the_objective(name: str) -> None:
    model, objective = build(name)
    losses, _, _ = evaluate(model, objective, tiny_batch())
    total(losses).backward()
    trained = {
        **{f"encoder.{key}": value for key, value in model.encoder.named_parameters()},
        **{f"objective.{key}": value for key, value in objective.named_parameters() if value.requires_grad},
    }
    unreached = [key for key, value in trained.items() if value.grad is None or not value.grad.any()]
    assert unreached == []


@every_objective
def test_the_batch_and_the_rollout_are_left_as_they_were(name: str) -> None:
    model, objective = build(name)
    batch = tiny_batch()
    before = batch.map(torch.clone)
    _, rollout, _ = evaluate(model, objective, batch)
    again = model.observe(objective.view(batch), seeded())
    assert torch.equal(again.features, rollout.features)
    for left, right in ((batch.observations, before.observations), (batch.privileged, before.privileged)):
        assert all(torch.equal(left[key], right[key]) for key in left)


@every_objective
def test_the_state_dict_holds_all_that_the_losses_depend_on(name: str) -> None:
    model, source = build(name, seed=1)
    _, target = build(name, seed=2)
    expected, _, _ = evaluate(model, source, tiny_batch())
    before, _, _ = evaluate(model, target, tiny_batch())
    if name not in WITHOUT_LOSS:
        assert any(not torch.equal(before[key].value, expected[key].value) for key in expected)
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    after, _, _ = evaluate(model, target, tiny_batch())
    assert after.keys() == expected.keys()
    assert all(torch.equal(after[key].value, expected[key].value) for key in expected)


@every_objective
def test_training_on_one_batch_lowers_its_losses(name: str) -> None:
    model, objective = build(name)
    batch = tiny_batch(4, 8)

    def measured() -> list[float]:
        """The objective's losses under several draws of the posterior; all losses where it has none of its own."""
        results = []
        for seed in range(4):
            losses, rollout, seen = evaluate(model, objective, batch, seed=seed)
            results.append(total(losses or model.losses(rollout, seen)).item())
        return results

    def learn() -> None:
        trainer = WorldModelTrainer(
            model,
            objective,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
            clip_norm=100.0,
            generator=seeded(),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for _ in range(60):
                trainer.step(batch)

    before = measured()
    learn()
    after = measured()
    spread = max(max(values) - min(values) for values in (before, after))  # what the draws alone make of it
    assert min(before) - max(after) > spread
