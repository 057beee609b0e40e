"""Actor and critic: losses by hand, who is trained by which, and a problem whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.actor_critic.actors import TanhNormalActor
from dreamset.behaviors.actor_critic.critics import EMACritic
from dreamset.behaviors.actor_critic.learner import BehaviorLosses, ImaginationActorCritic, frozen, trajectory_weights
from dreamset.behaviors.base import Experience, Outcomes
from dreamset.behaviors.rewards.functions import PredictedReward
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


def test_a_step_changes_every_weight_of_actor_and_critic_and_nothing_of_the_world_model() -> None:
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


def test_the_actor_loss_trains_the_actor_alone_and_the_critic_loss_the_critic_alone() -> None:
    model = frozen_model()
    behavior = configured_behavior(model)
    losses = losses_of(behavior, model)
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(losses.actor, behavior.actor))
    assert all(g is None for g in gradients(losses.actor, behavior.critic))
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(losses.critic, behavior.critic))
    assert all(g is None for g in gradients(losses.critic, behavior.actor))


def test_the_actor_learns_through_the_dynamics_and_through_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen_model("world_model=dreamer_v1_continue")
    behavior = configured_behavior(model)
    connected = losses_of(behavior, model)
    assert connected.actor.requires_grad

    def cut(*arguments: object, **named: object) -> ImaginedTrajectory:
        trajectory = imagine(*arguments, **named)
        return replace(trajectory, features=trajectory.features.detach())

    monkeypatch.setattr("dreamset.behaviors.actor_critic.learner.imagine", cut)
    severed = losses_of(behavior, model)
    torch.testing.assert_close(severed.actor, connected.actor)  # the value is the same, only the path is gone
    assert not severed.actor.requires_grad


def test_the_critic_is_trainable_again_after_imagination() -> None:
    model = frozen_model()
    behavior = configured_behavior(model)
    losses_of(behavior, model)
    assert all(parameter.requires_grad for parameter in behavior.parameters())


def test_frozen_stops_parameters_but_not_inputs_and_restores_only_what_it_froze() -> None:
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)
    inputs = torch.ones(1, 2, requires_grad=True)
    with frozen(network):
        network(inputs).sum().backward()
    assert network.weight.grad is None
    torch.testing.assert_close(inputs.grad, network.weight.detach())
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_trajectory_weights_are_the_product_of_the_discounts_of_earlier_rows() -> None:
    discounts = torch.tensor([[0.5, 1.0], [0.8, 0.9], [0.0, 0.9], [0.7, 0.9]], requires_grad=True)  # [H + 1, N]
    weights = trajectory_weights(discounts)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.4, 0.9]]))
    assert not weights.requires_grad


class SecondFeature(nn.Module):
    """A critic that reads its value off the features."""

    def forward(self, features: Tensor) -> UnitNormal:
        return UnitNormal(features[..., 1])


def test_both_losses_equal_equations_7_and_8_written_out() -> None:
    horizon, count, discount, lambda_ = 3, 5, 0.9, 0.7
    random = np.random.default_rng(0)
    reward, value = random.normal(size=(2, horizon + 1, count))
    goes_on = random.uniform(size=(horizon + 1, count))
    goes_on[1, 0] = 0.0
    world = GivenTrajectory(torch.from_numpy(np.stack([reward, value, goes_on], axis=-1)))
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
        target[t] = reward[t] + discount * goes_on[t] * ahead
    weight = np.ones((horizon, count))
    for t in range(1, horizon):
        weight[t] = weight[t - 1] * discount * goes_on[t - 1]
    log_density = -0.5 * (value[:horizon] - target[:horizon]) ** 2 - 0.5 * np.log(2 * np.pi)
    assert losses.actor.item() == pytest.approx(-(weight * target[:horizon]).mean())
    assert losses.critic.item() == pytest.approx(-(weight * log_density).mean())
    assert losses.imagined_return.item() == pytest.approx(target[0].mean())
    assert losses.imagined_terms["reward"].item() == pytest.approx(reward.mean())


# ---- the critic on recorded rows

STARTED = [[True, False, False, True, False, False], [False, False, True, False, False, False]]
TERMINAL = [[False, False, True, False, False, False], [False, False, False, False, False, True]]


def crossing_batch() -> SequenceBatch:
    """Episodes end within both windows: truly in the first one, by a time limit in the second, which ends truly."""
    batch = tiny_batch(2, 6)
    return replace(batch, is_first=torch.tensor(STARTED), is_terminal=torch.tensor(TERMINAL))


def test_what_came_of_a_row_is_known_if_the_next_one_goes_on_or_nothing_does() -> None:
    outcomes = Outcomes.of(crossing_batch())
    assert outcomes.known.tolist() == [[True, True, True, True, True, False], [True, False, True, True, True, True]]
    assert torch.equal(outcomes.goes_on, ~torch.tensor(TERMINAL))
    assert torch.equal(outcomes.reward, crossing_batch().reward)


def test_the_critic_s_loss_on_recorded_rows_equals_the_equation_written_out() -> None:
    """With a penalty, a slow critic, episodes that end within the windows and rewards other than the predicted ones."""
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
        torch.tensor(STARTED),
        replace(Outcomes.of(crossing_batch()), reward=torch.from_numpy(recorded)),
    )

    def reward(trajectory: ImaginedTrajectory, _: object) -> dict[str, Tensor]:
        return {"reward": trajectory.features[..., 0], "penalty": -trajectory.features[..., 1].abs()}

    learned = behavior.losses_on(experience, world, reward, seeded())

    value = features[..., 1]
    returns = value[horizon]  # the imagined ones: V_H
    for t in reversed(range(horizon)):
        ahead = (1 - lambda_) * value[t + 1] + lambda_ * returns
        returns = features[t, :, 0] - np.abs(value[t]) + discount * features[t, :, 2] * ahead
    imagined, values = returns.reshape(2, rows), value[0].reshape(2, rows)

    def replayed(b: int, t: int) -> float:
        gained = recorded[b, t] - np.abs(values[b, t])  # the penalty of the recorded row stays
        if TERMINAL[b][t]:
            return gained
        if t + 1 == rows or STARTED[b][t + 1]:
            return imagined[b, t]
        return gained + discount * ((1 - lambda_) * imagined[b, t + 1] + lambda_ * replayed(b, t + 1))

    known = [(0, t) for t in range(5)] + [(1, t) for t in (0, 2, 3, 4, 5)]
    losses = [0.5 * (values[b, t] - replayed(b, t)) ** 2 + 3 * 0.5 * np.log(2 * np.pi) for b, t in known]
    assert learned.figures["replay/critic_loss"].item() == pytest.approx(np.mean(losses), rel=1e-12)
    alone = behavior.losses(world, experience.starts, reward, seeded()).critic
    assert learned.losses["critic"].item() == pytest.approx(alone.item() + weight * np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("replay", [0.0, 0.3])
def test_recorded_rows_teach_the_critic_alone_and_only_if_they_have_a_weight(replay: float) -> None:
    model = frozen_model("world_model=dreamer_v1_continue")
    behavior = configured_behavior(model, replay=replay)
    experience = Experience.of(model, crossing_batch(), seeded())
    alone = behavior.losses(model, experience.starts, PredictedReward(), seeded(1))
    features = experience.features.clone().requires_grad_()
    learned = behavior.losses_on(replace(experience, features=features), model, PredictedReward(), seeded(1))
    assert torch.equal(learned.losses["actor"], alone.actor)
    assert torch.equal(learned.losses["critic"], alone.critic) == (replay == 0)
    assert ("replay/critic_loss" in learned.figures) == (replay > 0)
    assert all(g is None for g in gradients(learned.losses["critic"], behavior.actor))
    into_states = torch.autograd.grad(learned.losses["critic"], [features], retain_graph=True, allow_unused=True)
    assert into_states == (None,)
    moved = gradients(learned.losses["critic"], behavior.critic)
    still = [
        torch.equal(one, other) for one, other in zip(moved, gradients(alone.critic, behavior.critic), strict=True)
    ]
    assert all(still) if replay == 0 else not any(still)


def test_rows_of_which_nothing_is_known_teach_nothing() -> None:
    model = frozen_model()
    behavior = configured_behavior(model, replay=0.3)
    batch = replace(tiny_batch(), is_first=torch.ones(3, 6, dtype=torch.bool), is_terminal=torch.zeros(3, 6).bool())
    learned = behavior.losses_on(Experience.of(model, batch, seeded()), model, PredictedReward(), seeded())
    assert learned.figures["replay/critic_loss"].item() == 0


def test_experience_without_outcomes_cannot_teach_a_critic_that_wants_them() -> None:
    model = frozen_model()
    experience = replace(Experience.of(model, tiny_batch(), seeded()), outcomes=None)
    configured_behavior(model).losses_on(experience, model, PredictedReward(), seeded())
    with pytest.raises(ValueError, match="replay_critic_weight"):
        configured_behavior(model, replay=0.3).losses_on(experience, model, PredictedReward(), seeded())


def test_a_reward_that_comes_two_steps_later_is_learned() -> None:
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
    # What remains is only what was in the delay line before: V(x, y) = -(y - goal)^2 - 0.9 (x - goal)^2.
    value = behavior.critic(torch.tensor([[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]])).mean.detach()
    np.testing.assert_allclose(value.numpy(), [0.0, -0.9, -1.0], atol=0.25)
