"""The contract of every objective in ``configs/objective``, and all combinations of a world model's parts.

These tests find a new yaml file by themselves.
"""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import (
    patched_batch,
    patched_spec,
    seeded,
    tiny_batch,
    tiny_config,
    tiny_model,
    tiny_spec,
    without_zeros,
)

FOLDER = Path(__file__).parents[2] / "configs" / "objective"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITHOUT_LOSS = {"reward_only"}
OF_PATCHES = {"frozen_features"}  # objectives that need patch features

every_objective = pytest.mark.parametrize("name", NAMES)
every_objective_with_a_loss = pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_LOSS))


def batch_for(name: str, *sizes: int) -> SequenceBatch:
    return patched_batch(*sizes) if name in OF_PATCHES else tiny_batch(*sizes)


def spec_for(name: str) -> DataSpec:
    return patched_spec() if name in OF_PATCHES else tiny_spec()


def build(name: str, *overrides: str, seed: int = 0) -> tuple[WorldModel, Objective]:
    model = tiny_model(f"objective={name}", *overrides, spec=spec_for(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective: Objective = build_part(tiny_config(f"objective={name}", *overrides)["objective"], model)
    return model, objective


def evaluate(
    model: WorldModel, objective: Objective, batch: SequenceBatch, *, seed: int = 0
) -> tuple[dict[str, Loss], Rollout, SequenceBatch]:
    view = objective.view(batch)
    rollout = model.observe(view, seeded(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective(rollout, view, model), rollout, view


def total(losses: Mapping[str, Loss]) -> Tensor:
    return torch.stack([loss.weight * loss.value.mean() for loss in losses.values()]).sum()


def test_configs_contain_the_published_objectives() -> None:
    assert {"reconstruction", "contrastive", "reward_only"} <= set(NAMES)


@every_objective
def test_losses_are_finite_for_every_row_of_the_batch(name: str) -> None:
    model, objective = build(name)
    losses, _, view = evaluate(model, objective, batch_for(name))
    assert (losses == {}) == (name in WITHOUT_LOSS)
    for key, loss in losses.items():
        assert loss.value.shape == view.reward.shape, key
        assert torch.isfinite(loss.value).all(), key
        assert loss.value.std() > 0, key  # different rows have different losses


@every_objective
def test_loss_names_differ_from_those_of_the_world_model(name: str) -> None:
    model, objective = build(name, "world_model=dreamer_v1_continue")
    losses, rollout, view = evaluate(model, objective, batch_for(name))
    assert not losses.keys() & model.losses(rollout, view).keys()


@every_objective
def test_objective_uses_episodes_without_actions_only_if_it_reads_none(name: str) -> None:
    model, objective = build(name)
    batch = batch_for(name)
    rollout = model.observe(batch, seeded())
    torch.manual_seed(0)
    losses = objective(rollout, batch, model)
    torch.manual_seed(0)
    others = objective(rollout, replace(batch, action=batch.action + 0.1), model)
    reads_actions = any(not torch.equal(loss.value, others[key].value) for key, loss in losses.items())
    assert objective.uses_unacted == (not reads_actions and name not in WITHOUT_LOSS)


@every_objective_with_a_loss
def test_gradient_reaches_every_weight_of_encoder_and_objective(name: str) -> None:
    model, objective = build(name)
    losses, _, _ = evaluate(model, objective, batch_for(name))
    total(losses).backward()
    trained = {
        **{f"encoder.{key}": value for key, value in model.encoder.named_parameters()},
        **{f"objective.{key}": value for key, value in objective.named_parameters() if value.requires_grad},
    }
    without_gradient = [key for key, value in trained.items() if value.grad is None or not value.grad.any()]
    assert without_gradient == []


@every_objective
def test_objective_changes_neither_batch_nor_rollout(name: str) -> None:
    model, objective = build(name)
    batch = batch_for(name)
    before = batch.map(torch.clone)
    _, rollout, _ = evaluate(model, objective, batch)
    again = model.observe(objective.view(batch), seeded())
    assert torch.equal(again.features, rollout.features)
    for left, right in ((batch.observations, before.observations), (batch.privileged, before.privileged)):
        assert all(torch.equal(left[key], right[key]) for key in left)


@every_objective
def test_state_dict_restores_the_losses_exactly(name: str) -> None:
    model, source = build(name, seed=1)
    _, target = build(name, seed=2)
    expected, _, _ = evaluate(model, source, batch_for(name))
    before, _, _ = evaluate(model, target, batch_for(name))
    if name not in WITHOUT_LOSS:
        assert any(not torch.equal(before[key].value, expected[key].value) for key in expected)
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    after, _, _ = evaluate(model, target, batch_for(name))
    assert after.keys() == expected.keys()
    assert all(torch.equal(after[key].value, expected[key].value) for key in expected)


@every_objective
def test_training_on_one_batch_lowers_its_losses(name: str) -> None:
    model, objective = build(name)
    batch = batch_for(name, 4, 8)

    def measure() -> list[float]:
        """The objective's losses for several posterior samples; the model's losses if the objective has none."""
        results = []
        for seed in range(4):
            losses, rollout, view = evaluate(model, objective, batch, seed=seed)
            results.append(total(losses or model.losses(rollout, view)).item())
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

    before = measure()
    learn()
    after = measure()
    spread = max(max(values) - min(values) for values in (before, after))  # variation between posterior samples
    assert min(before) - max(after) > spread


def choices(group: str) -> list[str]:
    """Every choice of a configuration group: its yaml files."""
    return sorted(path.stem for path in (FOLDER.parent / group).glob("*.yaml"))


WITHOUT_EMBEDDING = ("autoencoder", "dino_wm", "observations", "tdmpc")  # these have tests of their own
GENERATIONS = [  # from_registry has no architecture
    name for name in choices("world_model") if not name.startswith(("from_registry", *WITHOUT_EMBEDDING))
]
LATENT, CELL = "world_model/dynamics/latent", "world_model/dynamics/cell"
DIVERGENCE, REWARD_HEAD = "world_model/divergence", "world_model/reward_head"
WIDE = "network.depth=8"  # enough channels that no layer starts with only dead units


def pairwise(*options: list[str]) -> list[tuple[str, ...]]:
    """Few combinations in which each option meets each option of every other kind at least once, chosen greedily."""
    waiting = list(itertools.product(*options))
    unmet = {pair for combination in waiting for pair in pairs(combination)}
    selected = []
    while unmet:
        best = max(waiting, key=lambda combination: len(pairs(combination) & unmet))
        unmet -= pairs(best)
        selected.append(best)
    return selected


def pairs(combination: tuple[str, ...]) -> set[tuple[int, str, int, str]]:
    """Every two options of a combination, with their places."""
    placed = itertools.combinations(enumerate(combination), 2)
    return {(place, one, other_place, other) for (place, one), (other_place, other) in placed}


COMBINATIONS = pairwise(*map(choices, (LATENT, CELL, DIVERGENCE, REWARD_HEAD)), NAMES)


def part(group: str, name: str) -> dict[str, Any]:
    """One part's node as Hydra composes it, without free nats, because they would stop gradients."""
    node: Any = tiny_config(WIDE, f"{group}={name}")
    for key in group.split("/"):
        node = node[key]
    return {key: 0.0 if key in ("free_nats", "free_bits") else value for key, value in node.items()}


def assemble(latent: str, cell: str, divergence: str, reward_head: str, objective: str) -> tuple[WorldModel, Objective]:
    """Dreamer v1 with a discount model and the four given parts."""
    config = tiny_config(WIDE, "world_model=dreamer_v1_continue")["world_model"]
    dynamics = config["dynamics"] | {"latent": part(LATENT, latent), "cell": part(CELL, cell)}
    parts = {"divergence": part(DIVERGENCE, divergence), "reward_head": part(REWARD_HEAD, reward_head)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: WorldModel = build_part(config | parts | {"dynamics": dynamics}, spec_for(objective))
        without_zeros(model)
        built: Objective = build_part(tiny_config(WIDE, f"objective={objective}")["objective"], model)
    return model, built


def train_once(model: WorldModel, objective: Objective, name: str) -> tuple[dict[str, Loss], SequenceBatch]:
    """All losses of one batch; computes the gradients of their sum."""
    losses, rollout, view = evaluate(model, objective, batch_for(name, 3, 4))
    losses = model.losses(rollout, view) | losses
    total(losses).backward()
    return losses, view


def without_gradient(*modules: torch.nn.Module) -> list[str]:
    """Names of trained parameters without a gradient."""
    named = [item for module in modules for item in module.named_parameters()]
    return [name for name, value in named if value.requires_grad and (value.grad is None or not value.grad.any())]


@pytest.mark.parametrize(("latent", "cell", "divergence", "reward_head", "objective"), COMBINATIONS)
def test_every_part_works_with_every_other_part(
    latent: str, cell: str, divergence: str, reward_head: str, objective: str
) -> None:
    model, built = assemble(latent, cell, divergence, reward_head, objective)
    losses, view = train_once(model, built, objective)
    for name, loss in losses.items():
        assert loss.value.shape == view.reward.shape, name
        assert torch.isfinite(loss.value).all(), name
    assert without_gradient(model, built) == []


@every_objective
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_supports_every_objective(generation: str, name: str) -> None:
    model, objective = build(name, WIDE, f"world_model={generation}")
    model.divergence = build_part(part(DIVERGENCE, "free_nats"))  # without free nats
    if model.ensemble is not None:
        model.ensemble.share = 1.0  # a bootstrap sample of so few rows may be empty
    losses, view = train_once(model, objective, name)
    assert all(loss.value.shape == view.reward.shape and torch.isfinite(loss.value).all() for loss in losses.values())
    assert without_gradient(model, objective) == []


def test_without_gradient_lists_a_parameter_that_nothing_trains() -> None:
    model, objective = build("reward_only")
    model.idle = torch.nn.Linear(1, 1)
    train_once(model, objective, "reward_only")
    assert "idle.weight" in without_gradient(model, objective)


def test_pairwise_combinations_hold_every_pair_and_are_few() -> None:
    options = [["a", "b"], ["c", "d", "e"], ["f", "g"]]
    selected = pairwise(*options)
    every = {pair for combination in itertools.product(*options) for pair in pairs(combination)}
    assert {pair for combination in selected for pair in pairs(combination)} == every
    assert len(selected) < 12
