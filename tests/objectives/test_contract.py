"""What every objective in ``configs/objective`` promises, and every part of a world model beside every other.

A new yaml file is tested without a line here.
"""

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model, tiny_spec, without_zeros

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


def choices(group: str) -> list[str]:
    """Every choice of a group, found by being there."""
    return sorted(path.stem for path in (FOLDER.parent / group).glob("*.yaml"))


GENERATIONS = [name for name in choices("world_model") if name != "from_registry"]  # which has no architecture
LATENT, CELL = "world_model/dynamics/latent", "world_model/dynamics/cell"
DIVERGENCE, REWARD_HEAD = "world_model/divergence", "world_model/reward_head"
WIDE = "network.depth=8"  # so many channels that not all units of a layer are dead at the start
PRODUCT = list(itertools.product(*map(choices, (LATENT, CELL, DIVERGENCE, REWARD_HEAD)), NAMES))


def part(group: str, name: str) -> dict[str, Any]:
    """One part's node as Hydra composes it. Free nats are taken away, as they would stop gradients."""
    node: Any = tiny_config(WIDE, f"{group}={name}")
    for key in group.split("/"):
        node = node[key]
    return {key: 0.0 if key in ("free_nats", "free_bits") else value for key, value in node.items()}


def assemble(latent: str, cell: str, divergence: str, reward_head: str, objective: str) -> tuple[WorldModel, Objective]:
    """Dreamer v1 with a discount model and four parts chosen freely."""
    config = tiny_config(WIDE, "world_model=dreamer_v1_continue")["world_model"]
    dynamics = config["dynamics"] | {"latent": part(LATENT, latent), "cell": part(CELL, cell)}
    parts = {"divergence": part(DIVERGENCE, divergence), "reward_head": part(REWARD_HEAD, reward_head)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: WorldModel = build_part(config | parts | {"dynamics": dynamics}, tiny_spec())
        without_zeros(model)
        built: Objective = build_part(tiny_config(WIDE, f"objective={objective}")["objective"], model)
    return model, built


def train_once(model: WorldModel, objective: Objective) -> tuple[dict[str, Loss], SequenceBatch]:
    """All losses of one batch and the gradients of their sum."""
    losses, rollout, seen = evaluate(model, objective, tiny_batch(3, 4))
    losses = model.losses(rollout, seen) | losses
    total(losses).backward()
    return losses, seen


def unreached(*modules: torch.nn.Module) -> list[str]:
    """Trained parameters without a gradient."""
    named = [item for module in modules for item in module.named_parameters()]
    return [name for name, value in named if value.requires_grad and (value.grad is None or not value.grad.any())]


@pytest.mark.parametrize(("latent", "cell", "divergence", "reward_head", "objective"), PRODUCT)
def test_every_part_works_with_every_other(
    latent: str, cell: str, divergence: str, reward_head: str, objective: str
) -> None:
    model, built = assemble(latent, cell, divergence, reward_head, objective)
    losses, seen = train_once(model, built)
    for name, loss in losses.items():
        assert loss.value.shape == seen.reward.shape, name
        assert torch.isfinite(loss.value).all(), name
    assert unreached(model, built) == []


@every_objective
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_serves_every_objective(generation: str, name: str) -> None:
    model, objective = build(name, WIDE, f"world_model={generation}")
    model.divergence = build_part(part(DIVERGENCE, "free_nats"))  # without free nats
    if model.ensemble is not None:
        model.ensemble.share = 1.0  # of so few rows a bootstrap sample may be empty
    losses, seen = train_once(model, objective)
    assert all(loss.value.shape == seen.reward.shape and torch.isfinite(loss.value).all() for loss in losses.values())
    assert unreached(model, objective) == []


def test_a_parameter_that_nothing_trains_would_be_found() -> None:
    model, objective = build("reward_only")
    model.idle = torch.nn.Linear(1, 1)
    train_once(model, objective)
    assert "idle.weight" in unreached(model, objective)
