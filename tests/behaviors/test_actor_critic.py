"""Actor and critic: losses by hand, who is trained by which, and a problem whose answer is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.actor import TanhNormalActor
from dreamset.behaviors.actor_critic import BehaviorLosses, ImaginationActorCritic, frozen, trajectory_weights
from dreamset.behaviors.rewards import PredictedReward
from dreamset.core.records import ImaginedTrajectory, LatentState
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import UnitNormal
from dreamset.models.heads import NormalHead
from dreamset.models.rssm import Policy
from dreamset.models.world_model import WorldModel
from dreamset.pipeline.runtime import build_part
from dreamset.pipeline.trainers import BehaviorTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model

ONE = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))


def frozen_model(*overrides: str) -> WorldModel:
    return tiny_model(*overrides).requires_grad_(False)


def configured_behavior(model: WorldModel) -> ImaginationActorCritic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        behavior: ImaginationActorCritic = build_part(tiny_config()["behavior"], model.feature_size, model.spec.action)
    return behavior


def starts(model: WorldModel) -> LatentState:
    return model.observe(tiny_batch(), seeded()).posterior.map(lambda value: value.detach().flatten(0, 1))


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
        actor_optimizer=build_part(settings["actor_optimizer"]),
        critic_optimizer=build_part(settings["critic_optimizer"]),
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
    imagine = model.imagine

    def cut(start: LatentState, policy: Policy, *, horizon: int, generator: torch.Generator) -> ImaginedTrajectory:
        trajectory = imagine(start, policy, horizon=horizon, generator=generator)
        return replace(trajectory, features=trajectory.features.detach())

    monkeypatch.setattr(model, "imagine", cut)
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


@dataclass(frozen=True)
class GivenTrajectory:
    """A world that always unrolls the same features [H + 1, N, 3]: (reward, value, probability of going on)."""

    features: Tensor

    def imagine(
        self,
        start: LatentState,  # noqa: ARG002
        policy: Policy,
        *,
        horizon: int,
        generator: torch.Generator,  # noqa: ARG002
    ) -> ImaginedTrajectory:
        assert len(self.features) == horizon + 1
        actions = [policy(self.features[row]) for row in range(horizon)]
        return ImaginedTrajectory(self.features, torch.stack(actions))

    def continuation(self, features: Tensor) -> Tensor:
        return features[..., 2]


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
    nowhere = LatentState(torch.zeros(count, 1), torch.zeros(count, 1))
    losses = behavior.losses(world, nowhere, lambda trajectory, _: {"reward": trajectory.features[..., 0]}, seeded())

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


class DelayLine:
    """A world of features (x, y): x' = action, y' = x. Its reward looks at y, so an action pays two steps later."""

    goal = 0.5

    def imagine(
        self,
        start: LatentState,
        policy: Policy,
        *,
        horizon: int,
        generator: torch.Generator,  # noqa: ARG002
    ) -> ImaginedTrajectory:
        features, actions = [start.features], []
        for _ in range(horizon):
            actions.append(policy(features[-1]))
            features.append(torch.cat([actions[-1], features[-1][:, :1]], dim=-1))
        return ImaginedTrajectory(torch.stack(features), torch.stack(actions))

    def continuation(self, features: Tensor) -> Tensor:
        return torch.ones_like(features[..., 0])

    def reward(self, trajectory: ImaginedTrajectory, _: object) -> dict[str, Tensor]:
        return {"reward": -(trajectory.features[..., 1] - self.goal).square()}


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
    world, generator = DelayLine(), seeded()
    optimizer = torch.optim.Adam(behavior.parameters(), lr=1e-2)
    corners = torch.tensor([[-0.8, 0.1], [0.0, 0.0], [0.7, -0.6]])

    def distance() -> float:
        return float((behavior.actor(corners).mode - world.goal).abs().max().detach())

    assert distance() > 0.3
    for _ in range(300):
        x, y = torch.rand(2, 32, 1, generator=generator) * 2 - 1
        losses = behavior.losses(world, LatentState(x, y), world.reward, generator)
        optimizer.zero_grad()
        (losses.actor + losses.critic).backward()
        optimizer.step()
    assert distance() < 0.1
    # What remains is only what was in the delay line before: V(x, y) = -(y - goal)^2 - 0.9 (x - goal)^2.
    value = behavior.critic(torch.tensor([[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]])).mean.detach()
    np.testing.assert_allclose(value.numpy(), [0.0, -0.9, -1.0], atol=0.25)
