"""The actor-critic: losses computed by hand, which loss trains which network, and a problem with a known solution."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.actor_critic.actors import TanhNormalActor
from dreamset.behaviors.actor_critic.critics import EMACritic
from dreamset.behaviors.actor_critic.learner import BehaviorLosses, ImaginationActorCritic, trajectory_weights
from dreamset.behaviors.base import Experience, Outcomes, RewardFunction
from dreamset.behaviors.rewards.functions import PredictedReward
from dreamset.behaviors.rewards.sum import Sum
from dreamset.core.parameters import frozen_parameters
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import ActionSpec
from dreamset.core.states import map_state
from dreamset.models.distributions import UnitNormal
from dreamset.models.heads import NormalHead
from dreamset.models.imagination import imagine
from dreamset.models.recurrent.rssm import RecurrentState
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from tests.behaviors.worlds import DelayLine, GivenTrajectory, Line, Row, nowhere
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model

ONE = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))


def frozen_model(*overrides: str) -> WorldModel:
    return tiny_model(*overrides).requires_grad_(False)


def configured_behavior(model: WorldModel, *, replay: float = 0.0) -> ImaginationActorCritic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = tiny_config()["behavior"] | {"replay_critic_weight": replay}
        behavior: ImaginationActorCritic = build_part(config, model.feature_size, model.spec.action)
    return behavior


def starts(model: WorldModel) -> RecurrentState:
    return map_state(lambda value: value.detach().flatten(0, 1), model.observe(tiny_batch(), seeded()).states)


def losses_of(behavior: ImaginationActorCritic, model: WorldModel) -> BehaviorLosses:
    return behavior.losses(model, starts(model), PredictedReward(), seeded())


def gradients(loss: Tensor, network: object) -> list[Tensor | None]:
    assert isinstance(network, nn.Module)
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_a_step_trains_actor_and_critic_but_not_the_world_model() -> None:
    model = frozen_model()
    behavior = configured_behavior(model)
    settings = tiny_config()["behavior_training"]
    trainer = BehaviorTrainer(
        model,
        behavior,
        PredictedReward(),
        optimizers={name: build_part(node) for name, node in settings["optimizers"].items()},
        clip_norm=settings["clip_norm"],
        generator=seeded(),
    )
    world, learner = snapshot(model), snapshot(behavior)
    metrics = trainer.step(tiny_batch())
    assert changed(model, world) == set()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert changed(behavior, learner) == set(learner)
    assert metrics["gradient_norm/actor"] > 0
    assert metrics["gradient_norm/critic"] > 0


def test_actor_loss_and_critic_loss_each_train_one_network() -> None:
    model = frozen_model()
    behavior = configured_behavior(model)
    losses = losses_of(behavior, model)
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(losses.actor, behavior.actor))
    assert all(g is None for g in gradients(losses.actor, behavior.critic))
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(losses.critic, behavior.critic))
    assert all(g is None for g in gradients(losses.critic, behavior.actor))


def test_actor_gradient_passes_only_through_the_dynamics(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen_model("world_model=dreamer_v1_continue")
    behavior = configured_behavior(model)
    connected = losses_of(behavior, model)
    assert connected.actor.requires_grad

    def cut(*arguments: object, **named: object) -> ImaginedTrajectory:
        trajectory = imagine(*arguments, **named)
        return replace(trajectory, features=trajectory.features.detach())

    monkeypatch.setattr("dreamset.behaviors.actor_critic.learner.imagine", cut)
    disconnected = losses_of(behavior, model)
    torch.testing.assert_close(disconnected.actor, connected.actor)  # the same value without a gradient path
    assert not disconnected.actor.requires_grad


def test_critic_is_trainable_again_after_imagination() -> None:
    model = frozen_model()
    behavior = configured_behavior(model)
    losses_of(behavior, model)
    assert all(parameter.requires_grad for parameter in behavior.parameters())


def test_frozen_blocks_parameter_gradients_and_restores_previous_flags() -> None:
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)
    inputs = torch.ones(1, 2, requires_grad=True)
    with frozen_parameters(network):
        network(inputs).sum().backward()
    assert network.weight.grad is None
    torch.testing.assert_close(inputs.grad, network.weight.detach())
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_trajectory_weights_are_products_of_earlier_discounts() -> None:
    discounts = torch.tensor([[0.5, 1.0], [0.8, 0.9], [0.0, 0.9], [0.7, 0.9]], requires_grad=True)  # [H + 1, N]
    weights = trajectory_weights(discounts)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.4, 0.9]]))
    assert not weights.requires_grad


class SecondFeature(nn.Module):
    """A critic whose value is the second feature."""

    def forward(self, features: Tensor) -> UnitNormal:
        return UnitNormal(features[..., 1])


def test_actor_and_critic_losses_equal_equations_7_and_8() -> None:
    horizon, count, discount, lambda_ = 3, 5, 0.9, 0.7
    random = np.random.default_rng(0)
    reward, value = random.normal(size=(2, horizon + 1, count))
    continuation = random.uniform(size=(horizon + 1, count))
    continuation[1, 0] = 0.0
    world = GivenTrajectory(torch.from_numpy(np.stack([reward, value, continuation], axis=-1)))
    behavior = ImaginationActorCritic(
        3,
        ONE,
        actor=lambda features, action: TanhNormalActor(features, action, hidden=4, layers=1).double(),
        critic=lambda features: SecondFeature(),  # noqa: ARG005
        horizon=horizon,
        discount=discount,
        lambda_=lambda_,
    )
    losses = behavior.losses(
        world, nowhere(count), lambda trajectory, _: {"reward": trajectory.features[..., 0]}, seeded()
    )

    target = np.zeros((horizon + 1, count))
    target[horizon] = value[horizon]
    for t in reversed(range(horizon)):
        ahead = (1 - lambda_) * value[t + 1] + lambda_ * target[t + 1]
        target[t] = reward[t] + discount * continuation[t] * ahead
    weight = np.ones((horizon, count))
    for t in range(1, horizon):
        weight[t] = weight[t - 1] * discount * continuation[t - 1]
    log_density = -0.5 * (value[:horizon] - target[:horizon]) ** 2 - 0.5 * np.log(2 * np.pi)
    assert losses.actor.item() == pytest.approx(-(weight * target[:horizon]).mean())
    assert losses.critic.item() == pytest.approx(-(weight * log_density).mean())
    assert losses.imagined_return.item() == pytest.approx(target[0].mean())
    assert losses.imagined_terms["reward"].item() == pytest.approx(reward.mean())


# ---- the critic on recorded rows

IS_FIRST = [[True, False, False, True, False, False], [False, False, True, False, False, False]]
TERMINAL = [[False, False, True, False, False, False], [False, False, False, False, False, True]]


def crossing_batch() -> SequenceBatch:
    """An episode ends within each window: at a true end in the first, at a time limit in the second."""
    batch = tiny_batch(2, 6)
    return replace(batch, is_first=torch.tensor(IS_FIRST), is_terminal=torch.tensor(TERMINAL))


def test_outcome_is_known_at_true_ends_and_before_following_rows() -> None:
    outcomes = Outcomes.of(crossing_batch())
    assert outcomes.known.tolist() == [[True, True, True, True, True, False], [True, False, True, True, True, True]]
    assert torch.equal(outcomes.goes_on, ~torch.tensor(TERMINAL))
    assert torch.equal(outcomes.reward, crossing_batch().reward)


class RewardAndPenalty(RewardFunction):
    """Two terms of the row alone."""

    def forward(self, trajectory: ImaginedTrajectory, model: object) -> dict[str, Tensor]:  # noqa: ARG002
        return {"reward": trajectory.features[..., 0], "penalty": -trajectory.features[..., 1].abs()}


class Step(RewardFunction):
    """A term of the step that leads to a row, zero in row 0."""

    def forward(self, trajectory: ImaginedTrajectory, model: object) -> dict[str, Tensor]:  # noqa: ARG002
        value = trajectory.features[..., 1]
        return {"step": torch.cat([torch.zeros_like(value[:1]), value.diff(dim=0)])}


def test_replay_critic_loss_equals_its_equation() -> None:
    """With weighted terms of rows and steps, a slow critic, ends within windows and rewards unlike the predictions."""
    horizon, rows, discount, lambda_, weight = 2, 6, 0.9, 0.7, 0.3
    random = np.random.default_rng(1)
    features = random.normal(size=(horizon + 1, 2 * rows, 3))
    features[..., 2] = random.uniform(size=(horizon + 1, 2 * rows))
    world = GivenTrajectory(torch.from_numpy(features))
    behavior = ImaginationActorCritic(
        3,
        ONE,
        actor=lambda features, action: TanhNormalActor(features, action, hidden=4, layers=1).double(),
        critic=lambda features: SecondFeature(),  # noqa: ARG005
        slow_critic=lambda critic: EMACritic(critic, regularise=2.0),
        horizon=horizon,
        discount=discount,
        lambda_=lambda_,
        replay_critic_weight=weight,
    )
    recorded = random.normal(size=(2, rows))
    experience = Experience(
        Row(torch.zeros(2, rows, dtype=torch.long)),
        torch.from_numpy(features[0]).unflatten(0, (2, rows)),
        torch.zeros(2, rows, 1),
        torch.tensor(IS_FIRST),
        replace(Outcomes.of(crossing_batch()), reward=torch.from_numpy(recorded)),
    )

    reward = Sum(rewards={"both": RewardAndPenalty(), "step": Step()}, weights={"both": 0.5})
    result = behavior.losses_on(experience, world, reward, seeded())

    value = features[..., 1]
    returns = value[horizon]  # V_H of the imagined returns
    for t in reversed(range(horizon)):
        ahead = (1 - lambda_) * value[t + 1] + lambda_ * returns
        step = value[t] - value[t - 1] if t else 0.0  # nothing leads to the first imagined row
        returns = 0.5 * (features[t, :, 0] - np.abs(value[t])) + step + discount * features[t, :, 2] * ahead
    imagined, values = returns.reshape(2, rows), value[0].reshape(2, rows)

    def replayed(b: int, t: int) -> float:
        step = values[b, t] - values[b, t - 1] if t else 0.0  # but a recorded row has one before it
        penalized = 0.5 * (recorded[b, t] - np.abs(values[b, t])) + step
        if TERMINAL[b][t]:
            return penalized
        if t + 1 == rows or IS_FIRST[b][t + 1]:
            return imagined[b, t]
        return penalized + discount * ((1 - lambda_) * imagined[b, t + 1] + lambda_ * replayed(b, t + 1))

    known_rows = [(0, t) for t in range(5)] + [(1, t) for t in (0, 2, 3, 4, 5)]
    losses = [0.5 * (values[b, t] - replayed(b, t)) ** 2 + 3 * 0.5 * np.log(2 * np.pi) for b, t in known_rows]
    assert result.figures["replay/critic_loss"].item() == pytest.approx(np.mean(losses), rel=1e-12)
    alone = behavior.losses(world, experience.starts, reward, seeded()).critic
    assert result.losses["critic"].item() == pytest.approx(alone.item() + weight * np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("replay", [0.0, 0.3])
def test_recorded_rows_train_only_the_critic_if_weighted(replay: float) -> None:
    model = frozen_model("world_model=dreamer_v1_continue")
    behavior = configured_behavior(model, replay=replay)
    experience = Experience.of(model, crossing_batch(), seeded())
    alone = behavior.losses(model, experience.starts, PredictedReward(), seeded(1))
    features = experience.features.clone().requires_grad_()
    result = behavior.losses_on(replace(experience, features=features), model, PredictedReward(), seeded(1))
    assert torch.equal(result.losses["actor"], alone.actor)
    assert torch.equal(result.losses["critic"], alone.critic) == (replay == 0)
    assert ("replay/critic_loss" in result.figures) == (replay > 0)
    assert all(g is None for g in gradients(result.losses["critic"], behavior.actor))
    into_states = torch.autograd.grad(result.losses["critic"], [features], retain_graph=True, allow_unused=True)
    assert into_states == (None,)
    with_replay = gradients(result.losses["critic"], behavior.critic)
    equal = [
        torch.equal(one, other)
        for one, other in zip(with_replay, gradients(alone.critic, behavior.critic), strict=True)
    ]
    assert all(equal) if replay == 0 else not any(equal)


def test_replay_critic_loss_is_zero_without_known_outcomes() -> None:
    model = frozen_model()
    behavior = configured_behavior(model, replay=0.3)
    batch = replace(tiny_batch(), is_first=torch.ones(3, 6, dtype=torch.bool), is_terminal=torch.zeros(3, 6).bool())
    result = behavior.losses_on(Experience.of(model, batch, seeded()), model, PredictedReward(), seeded())
    assert result.figures["replay/critic_loss"].item() == 0


def test_replay_critic_refuses_experience_without_outcomes() -> None:
    model = frozen_model()
    experience = replace(Experience.of(model, tiny_batch(), seeded()), outcomes=None)
    configured_behavior(model).losses_on(experience, model, PredictedReward(), seeded())
    with pytest.raises(ValueError, match="needs experience with outcomes"):
        configured_behavior(model, replay=0.3).losses_on(experience, model, PredictedReward(), seeded())


def test_actor_critic_learns_a_reward_delayed_by_two_steps() -> None:
    torch.manual_seed(0)
    behavior = ImaginationActorCritic(
        2,
        ONE,
        actor=lambda features, action: TanhNormalActor(features, action, hidden=16, layers=1, initial_std=0.5),
        critic=lambda features: NormalHead(features, hidden=16, layers=1),
        horizon=4,
        discount=0.9,
        lambda_=0.95,
    )
    world, generator, goal = DelayLine(), seeded(), 0.5
    optimizer = torch.optim.Adam(behavior.parameters(), lr=1e-2)
    corners = torch.tensor([[-0.8, 0.1], [0.0, 0.0], [0.7, -0.6]])

    def near_goal(trajectory: ImaginedTrajectory, _: object) -> dict[str, Tensor]:
        return {"reward": -(trajectory.features[..., 1] - goal).square()}

    def distance() -> float:
        return float((behavior.actor(corners).mode - goal).abs().max().detach())

    assert distance() > 0.3
    for _ in range(300):
        x, y = torch.rand(2, 32, 1, generator=generator) * 2 - 1
        losses = behavior.losses(world, Line(x, y), near_goal, generator)
        optimizer.zero_grad()
        (losses.actor + losses.critic).backward()
        optimizer.step()
    assert distance() < 0.1
    # Only the initial content of the delay line differs from the goal: V(x, y) = -(y - goal)^2 - 0.9 (x - goal)^2.
    value = behavior.critic(torch.tensor([[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]])).mean.detach()
    np.testing.assert_allclose(value.numpy(), [0.0, -0.9, -1.0], atol=0.25)
