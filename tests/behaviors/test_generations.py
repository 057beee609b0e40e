"""The actor-critics of Dreamer v2 and v3: losses compared with NumPy, and problems with known solutions."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import BoundedNormal
from dreamset.behaviors.actor_critic.actor_loss import ActorLoss
from dreamset.behaviors.actor_critic.actors import ActorFactory, BoundedNormalActor, OneHotActor, TruncatedNormalActor
from dreamset.behaviors.actor_critic.critics import EMACritic, HardUpdate, NoSlowCritic
from dreamset.behaviors.actor_critic.gradients import DynamicsBackpropagation, Mixture, Reinforce
from dreamset.behaviors.actor_critic.learner import BehaviorLosses, ImaginationActorCritic
from dreamset.behaviors.actor_critic.normalizers import PercentileEMA
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import OneHotCategorical, SymexpTwoHot, UnitNormal, symexp_bins
from dreamset.models.heads import NormalHead, SymexpTwoHotHead
from tests.behaviors.worlds import CHOICE, ONE, DelayLine, GivenTrajectory, Line, Row, nowhere
from tests.builders import seeded

Array = NDArray[np.float64]
HORIZON, COUNT, DISCOUNT, LAMBDA = 4, 6, 0.9, 0.7
BINS = symexp_bins(41, limit=4.0).double()


class LinearCritic(nn.Module):
    """A unit normal around w x, or logits W x over bins, with weights given by a seed."""

    def __init__(self, outputs: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, 3, dtype=torch.float64, generator=seeded(seed)))

    def forward(self, features: Tensor) -> UnitNormal | SymexpTwoHot:
        outputs = features @ self.weight.t()
        return UnitNormal(outputs[..., 0]) if outputs.shape[-1] == 1 else SymexpTwoHot(outputs, BINS)


class LinearChoice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.float64, generator=seeded(9)))

    def forward(self, features: Tensor) -> OneHotCategorical:
        return OneHotCategorical(features @ self.weight.t(), unimix=0.1)


class World(GivenTrajectory):
    """Given features (reward, free, continuation); records the actions."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.data = random.normal(size=(HORIZON + 1, COUNT, 3))
        self.data[..., 2] = random.uniform(size=(HORIZON + 1, COUNT))
        self.data[1, 0, 2] = 0.0
        self.data[0, 1, 2] = 0.0  # starts after the end of its episode
        super().__init__(torch.from_numpy(self.data))
        self.actions: list[Array] = []

    def step(self, state: Row, action: Tensor, noise: Tensor) -> Row:
        self.actions.append(action.detach().numpy())
        return super().step(state, action, noise)

    @property
    def action(self) -> Array:
        """The actions of the last imagination, [H, N, A]."""
        return np.stack(self.actions[-HORIZON:])


def returns_of(features: Array, value: Array) -> tuple[Array, Array]:
    """V_t and w_t of rows 0 to H - 1."""
    discount = DISCOUNT * features[..., 2]
    target = np.concatenate([np.zeros((HORIZON, COUNT)), value[-1:]])
    for t in reversed(range(HORIZON)):
        target[t] = features[t, :, 0] + discount[t] * ((1 - LAMBDA) * value[t + 1] + LAMBDA * target[t + 1])
    weight = np.ones((HORIZON, COUNT))
    for t in range(1, HORIZON):
        weight[t] = weight[t - 1] * discount[t - 1]
    return target[:HORIZON], weight


def choices(features: Array, weight: Array) -> Array:
    """Probabilities of ``LinearChoice``."""
    powers = np.exp(features[:HORIZON] @ weight.T)
    return 0.9 * powers / powers.sum(-1, keepdims=True) + 0.1 / 3


def two_hot_score(logits: Array, target: Array) -> Array:
    """sum_k w_k ln softmax(logits)_k with the two-hot weights of ``target``, by linear interpolation of ln p."""
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    flat = zip(log_probs.reshape(-1, len(BINS)), target.ravel(), strict=True)
    return np.array([np.interp(value, BINS.numpy(), row) for row, value in flat]).reshape(target.shape)


def learner_of(
    critic: nn.Module, actor_loss: ActorLoss, slow_critic: Callable[..., nn.Module]
) -> ImaginationActorCritic:
    return ImaginationActorCritic(
        3,
        CHOICE,
        actor=lambda features, action: LinearChoice(),  # noqa: ARG005
        critic=lambda features: critic,  # noqa: ARG005
        horizon=HORIZON,
        discount=DISCOUNT,
        lambda_=LAMBDA,
        actor_loss=actor_loss,
        slow_critic=slow_critic,
    )


def imagined(learner: ImaginationActorCritic, world: World) -> BehaviorLosses:
    return learner.losses(
        world, nowhere(world.given.shape[1]), lambda trajectory, _: {"reward": trajectory.features[..., 0]}, seeded()
    )


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_dreamer_v2_losses_match_numpy(rho: float) -> None:
    world, critic = World(), LinearCritic(1, seed=1)
    learner = learner_of(critic, ActorLoss(gradient=Mixture(rho), entropy_weight=0.05), HardUpdate)
    critic.load_state_dict(LinearCritic(1, seed=2).state_dict())  # the copy keeps the old weights
    losses = imagined(learner, world)
    slow, fast = ((world.data @ LinearCritic(1, seed=seed).weight.detach().numpy().T)[..., 0] for seed in (1, 2))
    target, weight = returns_of(world.data, slow)
    probs = choices(world.data, learner.actor.weight.detach().numpy())
    log_pi = np.log((probs * world.action).sum(-1))
    entropy = -(probs * np.log(probs)).sum(-1)
    objective = rho * log_pi * (target - slow[:HORIZON]) + (1 - rho) * target + 0.05 * entropy
    log_density = -0.5 * (fast[:HORIZON] - target) ** 2 - 0.5 * np.log(2 * np.pi)
    assert losses.actor.item() == pytest.approx(-(weight * objective).mean())
    assert losses.critic.item() == pytest.approx(-(weight * log_density).mean())
    assert losses.action_entropy.item() == pytest.approx(-log_pi.mean())


def test_dreamer_v3_losses_match_numpy_over_two_updates() -> None:
    world, critic = World(), LinearCritic(len(BINS), seed=1)
    actor_loss = ActorLoss(
        gradient=Reinforce(), normalizer=PercentileEMA(decay=0.6, floor=0.5), entropy_weight=0.05
    ).double()
    learner = learner_of(critic, actor_loss, partial(EMACritic, regularise=0.7))
    critic.load_state_dict(LinearCritic(len(BINS), seed=2).state_dict())  # the copy keeps the old weights
    bins, spread = BINS.numpy(), 0.0
    slow, fast = (world.data @ LinearCritic(len(BINS), seed=seed).weight.detach().numpy().T for seed in (1, 2))
    slow_value, value = (np.exp(x) @ bins / np.exp(x).sum(-1) for x in (slow, fast))
    target, weight = returns_of(world.data, value)
    probs = choices(world.data, learner.actor.weight.detach().numpy())
    entropy = -(probs * np.log(probs)).sum(-1)
    for _ in range(2):
        losses = imagined(learner, world)
        spread = 0.6 * spread + 0.4 * (np.percentile(target, 95) - np.percentile(target, 5))
        log_pi = np.log((probs * world.action).sum(-1))
        objective = log_pi * (target - value[:HORIZON]) / max(0.5, spread) + 0.05 * entropy
        score = two_hot_score(fast[:HORIZON], target) + 0.7 * two_hot_score(fast[:HORIZON], slow_value[:HORIZON])
        assert losses.actor.item() == pytest.approx(-(weight * objective).mean())
        assert losses.critic.item() == pytest.approx(-(weight * score).mean())
        assert losses.return_scale.item() == pytest.approx(max(0.5, spread))
    assert spread > 0.5


def test_start_after_an_episode_end_gives_the_actor_no_gradient() -> None:
    """Its discount is zero, so its return and its value are both the reward on arrival."""
    world, critic = World(), LinearCritic(1, seed=1)
    critic.weight = nn.Parameter(torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))  # v(s) = r
    learner = learner_of(critic, ActorLoss(gradient=Reinforce()), HardUpdate)
    world.given = world.given[:, 1:2]
    (gradient,) = torch.autograd.grad(imagined(learner, world).actor, learner.actor.weight)
    assert gradient.abs().max() < 1e-12
    world.given = torch.from_numpy(world.data[:, 2:3])
    (gradient,) = torch.autograd.grad(imagined(learner, world).actor, learner.actor.weight)
    assert gradient.abs().max() > 1e-3


class Wide(nn.Module):
    """N(0.5, 2) for all features: most samples lie outside [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.tensor([0.5]))

    def forward(self, features: Tensor) -> BoundedNormal:
        location = self.location.expand(*features.shape[:-1], 1)
        return BoundedNormal(location, torch.full_like(location, 2.0))


def test_actions_are_clipped_but_log_prob_uses_the_unclipped_sample() -> None:
    actions: list[Tensor] = []

    class RecordingLine(DelayLine):
        def step(self, state: Line, action: Tensor, noise: Tensor) -> Line:
            actions.append(action)
            return super().step(state, action, noise)

    learner = ImaginationActorCritic(
        2,
        ONE,
        actor=lambda features, action: Wide(),  # noqa: ARG005
        critic=lambda features: NormalHead(features, hidden=4, layers=1),
        horizon=2,
        discount=0.9,
        lambda_=0.95,
        actor_loss=ActorLoss(gradient=Reinforce()),
    )
    start = Line(torch.zeros(4000, 1), torch.zeros(4000, 1))
    losses = learner.losses(
        RecordingLine(), start, lambda trajectory, _: {"reward": trajectory.features[..., 1]}, seeded()
    )
    action = torch.stack(actions)
    assert action.abs().max() == 1
    assert (action.abs() == 1).float().mean() > 0.5
    # -ln pi of clipped actions would be far below the entropy, because they lie nearer to the mean
    assert losses.action_entropy.item() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 4), abs=0.05)


@pytest.mark.parametrize("gradient", [Reinforce(), Mixture(1.0), Mixture(0.5), DynamicsBackpropagation()])
def test_imagination_keeps_a_graph_only_if_the_estimator_needs_it(gradient: Reinforce) -> None:
    graphs: list[bool] = []

    class RecordingLine(DelayLine):
        def step(self, state: Line, action: Tensor, noise: Tensor) -> Line:
            after = super().step(state, action, noise)
            graphs.append(after.features.requires_grad)
            return after

    learner = generation("v2", ONE, gradient=gradient)
    start = Line(torch.zeros(5, 1), torch.zeros(5, 1))
    losses = learner.losses(
        RecordingLine(), start, lambda trajectory, _: {"reward": trajectory.features[..., 1]}, seeded()
    )
    assert set(graphs) == {gradient.through_dynamics}
    assert losses.actor.requires_grad
    assert losses.critic.requires_grad


SMALL = {"hidden": 24, "layers": 1}
ACTORS: dict[tuple[str, bool], ActorFactory] = {
    ("v1", True): partial(OneHotActor, **SMALL),
    ("v2", False): partial(TruncatedNormalActor, **SMALL),
    ("v2", True): partial(OneHotActor, **SMALL),
    ("v3", False): partial(BoundedNormalActor, output_scale=0.01, **SMALL),
    ("v3", True): partial(OneHotActor, unimix=0.01, output_scale=0.01, **SMALL),
}


def generation(name: str, action: ActionSpec, **actor_loss: object) -> ImaginationActorCritic:
    """A small learner with the parts of a generation."""
    defaults: dict[str, dict[str, object]] = {
        "v1": {"gradient": DynamicsBackpropagation()},
        "v2": {"gradient": Mixture(1.0 if action.discrete else 0.0), "entropy_weight": 1e-4},
        "v3": {"gradient": Reinforce(), "normalizer": PercentileEMA(), "entropy_weight": 3e-4},
    }
    critics = {
        "v1": (partial(NormalHead, **SMALL), NoSlowCritic),
        "v2": (partial(NormalHead, **SMALL), partial(HardUpdate, every=20)),
        "v3": (partial(SymexpTwoHotHead, **SMALL), EMACritic),
    }
    critic, slow_critic = critics[name]
    return ImaginationActorCritic(
        2 * action.size,
        action,
        actor=ACTORS[name, action.discrete],
        critic=critic,
        horizon=4,
        discount=0.9,
        lambda_=0.95,
        actor_loss=ActorLoss(**(defaults[name] | actor_loss)),
        slow_critic=slow_critic,
    )


GOAL, PAYOFF = 0.5, torch.tensor([0.0, 1.0, 0.3])


def reward(trajectory: ImaginedTrajectory, _: object) -> dict[str, Tensor]:
    """The reward of the action that leaves the delay line: closeness to the goal, or the action's payoff."""
    size = trajectory.features.shape[-1] // 2
    output = trajectory.features[..., size:]
    return {"reward": -(output[..., 0] - GOAL).square() if size == 1 else output @ PAYOFF}


def random_starts(action: ActionSpec, generator: torch.Generator) -> Line:
    if action.discrete:
        index = torch.randint(action.size, (2, 48), generator=generator)
        x, y = nn.functional.one_hot(index, action.size).float()
    else:
        x, y = torch.rand(2, 48, 1, generator=generator) * 2 - 1
    return Line(x, y)


@pytest.mark.parametrize(
    ("name", "action"),  # v1 with continuous actions: test_actor_critic.py
    [("v1", CHOICE), ("v2", ONE), ("v2", CHOICE), ("v3", ONE), ("v3", CHOICE)],
    ids=["v1-discrete", "v2-continuous", "v2-discrete", "v3-continuous", "v3-discrete"],
)
def test_every_generation_learns_a_reward_delayed_by_two_steps(name: str, action: ActionSpec) -> None:
    torch.manual_seed(0)
    learner, generator = generation(name, action), seeded()
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    first = None
    for _ in range(400):
        losses = learner.losses(DelayLine(), random_starts(action, generator), reward, generator)
        first = losses.imagined_terms["reward"].item() if first is None else first
        optimizer.zero_grad()
        (losses.actor + losses.critic).backward()
        optimizer.step()
        learner.after_update()
    corners = random_starts(action, seeded(1)).features
    mode = learner.actor(corners).mode.detach()
    if action.discrete:
        assert (mode.argmax(-1) == 1).all()
        # The two payoffs in the delay line, then 1 in every step: V(x, y) = p_y + 0.9 p_x + 0.81 / (1 - 0.9).
        x, y = corners[:, :3] @ PAYOFF, corners[:, 3:] @ PAYOFF
        expected = y + 0.9 * x + 8.1
    else:
        assert (mode - GOAL).abs().max() < 0.15
        expected = -(corners[:, 1] - GOAL).square() - 0.9 * (corners[:, 0] - GOAL).square()
    assert losses.imagined_terms["reward"].item() > first
    value = learner.critic(corners).mean.detach()
    assert torch.corrcoef(torch.stack([value, expected]))[0, 1] > 0.9
