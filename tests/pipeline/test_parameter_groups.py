"""Parameter groups: frozen parts keep every bit, factors scale learning rates, frozen dynamics need no gradient."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CyclicLR, LinearLR, OneCycleLR

from dreamset.core.errors import UserError
from dreamset.core.parameters import OptimizerFactory
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import WorldModelTraining
from dreamset.pipeline.training.gradients import apply_gradients
from dreamset.pipeline.training.optimizers import AdaptiveClipping, Clipping, GlobalNorm, LaProp
from dreamset.pipeline.training.parameter_groups import factor_of, learns
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model, tiny_spec

GENERATION = (
    *("world_model=dreamer_v2", "world_model/ensemble=priors", "decoder=dreamer_v2"),
    *("world_model.ensemble.block=1", "world_model.divergence.free_nats=0.0"),  # so that every parameter has a gradient
)
HEADS_ONLY = {"encoder": 0.0, "dynamics": 0.0, "ensemble": 0.0, "objective": 0.0}
PARTS = ("encoder", "dynamics", "reward_head", "continue_head", "ensemble", "objective")
UNBOUNDED = GlobalNorm(1e9)
OPTIMIZERS: dict[str, OptimizerFactory] = {
    "sgd": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "adam": partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    "laprop": partial(LaProp, lr=1e-2, warmup=0),
}


def networks() -> tuple[WorldModel, Objective]:
    """A world model with all parts, and its objective."""
    model = tiny_model(*GENERATION)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return model, build_part(tiny_config(*GENERATION)["objective"], model)


def trainer(factors: dict[str, float] | None, **settings: Any) -> WorldModelTrainer:
    model, objective = networks()
    arguments = {"optimizer": OPTIMIZERS["adam"], "clipping": UNBOUNDED, "objective": objective} | settings
    return WorldModelTrainer(model, generator=seeded(), factors=factors, **arguments)


def weights(learner: WorldModelTrainer) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    state = learner.model.state_dict() | {f"objective.{k}": v for k, v in learner.objective.state_dict().items()}
    return {name: value.clone() for name, value in state.items()}


def parameters(learner: WorldModelTrainer) -> dict[str, nn.Parameter]:
    return dict(learner.model.named_parameters()) | {
        f"objective.{name}": value for name, value in learner.objective.named_parameters()
    }


@pytest.mark.parametrize("generation", ["dreamer_v1_continue", "dreamer_v2", "dreamer_v3"])
def test_parts_contain_all_parameters_of_a_model(generation: str) -> None:
    model = tiny_model(f"world_model={generation}", "world_model/ensemble=priors")
    assert {name.split(".")[0] for name in model.state_dict()} == set(PARTS) - {"objective"} == set(model.parts())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clipping", [GlobalNorm(1.0), AdaptiveClipping()])
@pytest.mark.parametrize("frozen", [tuple(HEADS_ONLY), ("dynamics", "reward_head"), ("encoder.encoders.image",)])
def test_frozen_parts_keep_every_bit_and_all_others_change(
    optimizer: str, clipping: Clipping, frozen: tuple[str, ...]
) -> None:
    learner = trainer(dict.fromkeys(frozen, 0.0), optimizer=OPTIMIZERS[optimizer], clipping=clipping)
    before = weights(learner)
    for seed in range(3):
        learner.step(tiny_batch(seed=seed))
    after, named = weights(learner), parameters(learner)
    unchanged = {name for name in named if torch.equal(before[name], after[name])}
    assert unchanged == {name for name in named if name.startswith(tuple(f"{part}." for part in frozen))}
    assert all(named[name].grad is None and named[name] not in learner.optimizer.state for name in unchanged)


def observed(learner: WorldModelTrainer, batch: SequenceBatch) -> tuple[dict[str, Loss], Rollout]:
    losses, rollout = learner.module(batch, seeded())
    return losses, rollout


def test_frozen_dynamics_need_no_gradient() -> None:
    batch = tiny_batch()
    heads = observed(trainer(HEADS_ONLY), batch)
    assert not heads[1].features.requires_grad
    assert {name for name, loss in heads[0].items() if loss.value.requires_grad} == {"reward", "continue"}
    _, rollout = observed(trainer({"encoder": 0.0}), batch)
    assert not rollout.embedding.requires_grad
    assert rollout.features.requires_grad
    _, rollout = observed(trainer({"dynamics": 0.0}), batch)
    assert rollout.embedding.requires_grad  # the encoder learns through the frozen dynamics


def test_a_step_of_sgd_is_the_rate_times_the_factor_times_the_gradient() -> None:
    factors = {"encoder": 0.5, "dynamics": 0.25, "dynamics.cell": 2.0, "objective": 3.0}
    expected_factor = {"encoder": 0.5, "dynamics": 0.25, "objective": 3.0}
    learner = trainer(factors, optimizer=partial(torch.optim.SGD, lr=0.01))
    model, objective, batch = deepcopy(learner.model), deepcopy(learner.objective), tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = model.losses(rollout, batch) | objective(rollout, batch, model)
    torch.stack([loss.weight * loss.value.mean() for loss in losses.values()]).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    gradients |= {f"objective.{name}": p.grad for name, p in objective.named_parameters()}
    before = weights(learner)
    learner.step(batch)
    for name, value in parameters(learner).items():
        factor = 2.0 if name.startswith("dynamics.cell.") else expected_factor.get(name.split(".")[0], 1.0)
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.any()
        torch.testing.assert_close(value.detach(), before[name] - 0.01 * factor * gradient, rtol=1e-5, atol=1e-7)


def test_a_schedule_multiplies_the_learning_rate_of_every_part() -> None:
    schedule = partial(LinearLR, start_factor=1.0, end_factor=0.1, total_iters=2)
    learner = trainer({"dynamics": 0.5, "reward_head": 0.0}, scheduler=schedule)
    rates = [sorted(group["lr"] for group in learner.optimizer.param_groups)]
    for _ in range(2):
        learner.step(tiny_batch())
        rates.append(sorted(group["lr"] for group in learner.optimizer.param_groups))
    for of_parts, left in zip(rates, (1.0, 0.55, 0.1), strict=True):
        assert of_parts == pytest.approx([0.005 * left, 0.01 * left])


def test_optimizer_clipping_and_schedule_come_from_the_settings() -> None:
    settings = WorldModelTraining.model_validate(tiny_config(*GENERATION)["world_model_training"])
    model, objective = networks()
    learner = WorldModelTrainer.configured(
        settings,
        model,
        objective,
        scheduler=settings.scheduler,
        generator=seeded(),
        factors={"dynamics": 0.5, "reward_head": 0.0},
    )
    rate = settings.optimizer["lr"]
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([rate, rate / 2])
    before = weights(learner)
    for _ in range(6):
        learner.step(tiny_batch())
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([rate / 10, rate / 20])
    after = weights(learner)
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == set(PARTS) - {"reward_head"}
    assert isinstance(learner.clipping, GlobalNorm)
    assert learner.clipping.limit == settings.clip_norm


@pytest.mark.parametrize(
    "schedule",
    [partial(OneCycleLR, max_lr=0.1, total_steps=9), partial(CyclicLR, base_lr=0.1, max_lr=0.2, cycle_momentum=False)],
)
def test_a_schedule_that_would_undo_the_factors_is_refused(schedule: Callable[..., Any]) -> None:
    trainer(None, scheduler=schedule)
    trainer(HEADS_ONLY, scheduler=schedule)  # all trained parts have the same rate
    for factors in ({"dynamics": 0.5}, dict.fromkeys(PARTS, 0.5)):
        with pytest.raises(UserError, match="sets learning rates of its own"):
            trainer(factors, scheduler=schedule)


def test_training_only_the_heads_equals_training_them_on_stored_features() -> None:
    learner = trainer(HEADS_ONLY, clipping=GlobalNorm(0.1))
    model, batches = deepcopy(learner.model), [tiny_batch(seed=seed) for seed in range(4)]
    generator = seeded()
    with torch.no_grad():
        stored = [model.observe(batch, generator).features for batch in batches]
    assert model.continue_head is not None
    heads = nn.ModuleList([model.reward_head, model.continue_head])
    optimizer = OPTIMIZERS["adam"](heads.parameters())
    for batch, features in zip(batches, stored, strict=True):
        reward = -model.reward_head(features).log_prob(batch.reward).mean() * model.reward_weight
        continuation = -model.continue_head(features).log_prob(0.99 * (~batch.is_terminal)).mean()
        optimizer.zero_grad()
        (reward + continuation).backward()
        clip_grad_norm_(heads.parameters(), 0.1)
        optimizer.step()
        metrics = learner.step(batch)
        assert metrics["loss/total"] == reward + continuation  # the total leaves out constants
        assert "loss/kl" in metrics
    changed = learner.model.state_dict()
    assert all(torch.equal(value, changed[name]) for name, value in model.state_dict().items())
    assert not torch.equal(changed["reward_head.layers.0.weight"], networks()[0].reward_head.layers[0].weight)


class TargetObjective(Objective):
    """Copies a network to its target network after every update."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.online = nn.Linear(model.feature_size, 1)
        self.target = nn.Linear(model.feature_size, 1).requires_grad_(False)

    def forward(self, rollout: Rollout, batch: SequenceBatch, model: WorldModel) -> dict[str, Loss]:  # noqa: ARG002
        return {"distance": Loss((self.online(rollout.features) - self.target(rollout.features)).square().squeeze(-1))}

    def after_update(self, model: WorldModel) -> None:  # noqa: ARG002
        self.target.load_state_dict(self.online.state_dict())


@pytest.mark.parametrize(("factors", "follows"), [({"objective": 0.0}, False), ({"objective.target": 0.0}, True)])
def test_a_frozen_objective_keeps_its_target_network(factors: dict[str, float], follows: bool) -> None:
    objective = TargetObjective(networks()[0])
    learner = trainer(factors, objective=objective)
    before = weights(learner)
    learner.step(tiny_batch())
    changed = {name for name, value in weights(learner).items() if not torch.equal(value, before[name])}
    names = {"objective.online.weight", "objective.online.bias", "objective.target.weight", "objective.target.bias"}
    assert changed & names == (names if follows else set())


def test_without_factors_all_parameters_are_one_group_in_their_order() -> None:
    learner = trainer(None)
    (group,) = learner.optimizer.param_groups
    every = [*learner.model.parameters(), *learner.objective.parameters()]
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in every]
    assert group["lr"] == 1e-2


def test_the_factor_of_the_innermost_module_counts() -> None:
    factors = {"dynamics": 0.0, "dynamics.cell": 0.5, "dynamics.cell.kernel": 0.0}
    assert factor_of("dynamics.cell_norm.weight", factors) == 0.0
    assert factor_of("dynamics.cell.bias", factors) == 0.5
    assert factor_of("dynamics.cell.kernel.weight", factors) == 0.0
    assert factor_of("encoder.weight", factors) == 1.0
    assert learns("dynamics", factors)
    assert not learns("dynamics.cell.kernel", factors)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        (
            {"decoder": 0.0},
            r"name decoder, which .*; allowed: encoder, dynamics, .*, objective, and modules",
        ),
        ({"dynamics.cel": 0.0}, r"name dynamics\.cel, which"),
        ({"dynamics": -0.1}, r"have the values \{'dynamics': -0.1\}; allowed: numbers of 0 or more"),
        ({"dynamics": float("nan")}, "allowed: numbers of 0 or more"),
        ({"dynamics": float("inf")}, "allowed: numbers of 0 or more"),
        ({"dynamics": {"cell": 0.0}}, "allowed: numbers of 0 or more"),
        ({"dynamics": None}, "allowed: numbers of 0 or more"),
        ({"objective": None}, "allowed: numbers of 0 or more"),
        (dict.fromkeys(PARTS, 0.0), "freeze every part"),
    ],
)
def test_a_wrong_part_or_factor_is_refused_in_one_line(factors: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        trainer(factors)
    assert "\n" not in str(error.value)


def test_factors_of_optional_parts_that_a_model_lacks_are_allowed() -> None:
    model = tiny_model()
    assert model.continue_head is None
    objective = build_part(tiny_config()["objective"], model)
    factors = {"continue_head": 0.0, "ensemble": 0.0, "dynamics": 0.0}
    settings = {"optimizer": OPTIMIZERS["adam"], "clip_norm": 1.0, "generator": seeded()}
    WorldModelTrainer(model, objective, factors=factors, **settings).step(tiny_batch())


@pytest.mark.parametrize("name", ["heads_only", "slow_dynamics", "new_encoder", "everything"])
def test_every_adaptation_names_all_parts(name: str) -> None:
    factors = compose(["preset=tiny", "world_model=from_registry", f"adaptation={name}"])["adaptation"]
    assert set(PARTS) <= factors.keys()
    trainer(factors).step(tiny_batch())
    assert learns("dynamics", factors) == (name != "heads_only")


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
def test_an_ensemble_changes_neither_initial_weights_nor_training_of_the_other_parts(generation: str) -> None:
    spec = tiny_spec()

    def learned(*overrides: str) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        config = tiny_config(f"world_model={generation}", *overrides)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build_part(config["world_model"], spec)
            objective = build_part(config["objective"], model)
        learner = WorldModelTrainer(
            model, objective, optimizer=OPTIMIZERS["adam"], clipping=GlobalNorm(1e-3), generator=seeded()
        )
        figures = [learner.step(tiny_batch(seed=seed)) for seed in range(3)]
        return weights(learner), figures

    plain, without = learned()
    with_ensemble, others_figures = learned("world_model/ensemble=priors")
    assert plain.keys() == {name for name in with_ensemble if not name.startswith("ensemble.")}
    for name, value in plain.items():
        assert torch.equal(value, with_ensemble[name]), name
    for figures, others in zip(without, others_figures, strict=True):
        assert figures.keys() == others.keys() - {"loss/ensemble", "gradient_norm/ensemble"}
        assert figures["gradient_norm/world_model"] == others["gradient_norm/world_model"] > 1e-3
        assert others["gradient_norm/ensemble"] > 0


@pytest.mark.parametrize("broken", ["world_model", "ensemble"])
def test_a_gradient_that_is_not_finite_changes_no_parameter(broken: str) -> None:
    networks = {name: [nn.Parameter(torch.ones(2))] for name in ("world_model", "ensemble")}
    optimizer = torch.optim.SGD([value for values in networks.values() for value in values], lr=0.1)
    factors = {name: float("nan") if name == broken else 1.0 for name in networks}
    loss = torch.stack([factors[name] * values[0].sum() for name, values in networks.items()]).sum()
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        apply_gradients(
            optimizer, networks, loss, clipping=UNBOUNDED, figures={}, remedy=lambda: "lower the learning rate"
        )
    assert all(torch.equal(values[0].detach(), torch.ones(2)) for values in networks.values())
