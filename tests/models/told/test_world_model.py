"""TD-MPC as a world model: one whole update against NumPy, borders, ends, targets, capabilities."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.core.capabilities import Dynamics, Proposing, RewardModel, Staged, Trainable, Valued, require
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.heads import BernoulliHead, SquaredErrorHead, SquaredErrorOutput
from dreamset.models.imagination import predict
from dreamset.models.layers import elu
from dreamset.models.told.critics import QEnsemble, TargetCopy
from dreamset.models.told.policy import RunningScale, SquashedGaussianPolicy
from dreamset.models.told.state import LatentState
from dreamset.models.told.world_model import TOLD, details
from dreamset.objectives.base import Objective
from dreamset.pipeline.training.optimizers import GlobalNorm
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, without_zeros
from tests.models.told.updates import Array, Data, Numbers, Weights, updated

BOX = ActionSpec(2, discrete=False, low=(-2.0, 1.0), high=(2.0, 5.0))
SPEC = DataSpec({"state": ArraySpec((3,), "float32")}, BOX, {}, {"state": VectorStatistics((0.0,) * 3, (1.0,) * 3)})
DRAWN = 1  # seed of an update whose two steps draw different pairs of critics
NUMBERS = Numbers(
    discount=0.9,
    rho=0.7,
    consistency=2.0,
    reward=0.5,
    value=0.3,
    continuation=0.8,
    entropy=0.05,
    members=3,
    low=-3.0,
    high=1.0,
    rate=0.05,
    target_rate=0.25,
    scale_rate=0.01,
)


class Code(nn.Module):
    """tanh(W o + b)."""

    def __init__(self, spec: DataSpec, *, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.last = nn.Linear(spec.observations["state"].size, size)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        return torch.tanh(self.last(observations["state"]))


class Step(nn.Module):
    """tanh(W [z, a] + b)."""

    def __init__(self, size: int, action: int) -> None:
        super().__init__()
        self.last = nn.Linear(size + action, size)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.cat([latent, action], dim=-1)))


class WindowConsistency(Objective):
    """The published consistency of the window that the model predicted itself."""

    def __init__(self, *, weight: float, rho: float) -> None:
        super().__init__()
        self.weight, self.rho = weight, rho

    def forward(self, rollout: Rollout[LatentState], batch: SequenceBatch, model: Any) -> dict[str, Loss]:  # noqa: ARG002
        window, rows = details(rollout), batch.reward.shape[1]
        error = (window.latents - rollout.features.detach()).square().mean(-1) * window.known
        powers = torch.tensor([0.0, *(self.rho**t for t in range(rows - 1))])
        return {"consistency": Loss(error * powers * rows / (rows - 1), self.weight)}


def told(spec: DataSpec = SPEC, **settings: Any) -> TOLD:
    """A tiny model without constant parameters, in float64."""
    n = NUMBERS
    parts: dict[str, Any] = {
        "encoder": Code,
        "dynamics": Step,
        "reward_head": partial(SquaredErrorHead, hidden=1, layers=0),
        "continue_head": partial(BernoulliHead, hidden=1, layers=0),
        "critics": partial(QEnsemble, members=n.members, hidden=3, layers=1, style=elu(), output=SquaredErrorOutput()),
        "policy": partial(SquashedGaussianPolicy, hidden=1, layers=0, low=n.low, high=n.high),
        "scale": RunningScale(rate=n.scale_rate),
        "target": partial(TargetCopy, rate=n.target_rate),
        "discount": n.discount,
        "rho": n.rho,
        "reward_weight": n.reward,
        "value_weight": n.value,
        "continue_weight": n.continuation,
        "entropy_weight": n.entropy,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TOLD(spec, **parts | settings)
        without_zeros(model)
    return model.double()


def windows(size: int = 4, rows: int = 4, *, seed: int = 0) -> SequenceBatch:
    """Windows of one episode each; the last row of every second window is a true end."""
    generator = seeded(seed)
    number = torch.arange(rows).expand(size, rows)
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    return SequenceBatch(
        observations={"state": torch.randn(size, rows, 3, generator=generator, dtype=torch.float64)},
        action=(low + torch.rand(size, rows, 2, generator=generator) * (high - low)).double(),
        reward=torch.randn(size, rows, generator=generator, dtype=torch.float64),
        is_first=number == 0,
        is_last=number == rows - 1,
        is_terminal=(number == rows - 1) & (torch.arange(size)[:, None] % 2 == 0),
        privileged={},
        row=number,
    )


def crossing(batch: SequenceBatch, window: int, row: int, *, ends: bool) -> SequenceBatch:
    """Another episode begins in ``row`` of ``window``; the one before ends with a true end or by a time limit."""
    is_first, is_terminal = batch.is_first.clone(), batch.is_terminal.clone()
    is_first[window, row], is_terminal[window, row - 1] = True, ends
    return replace(batch, is_first=is_first, is_terminal=is_terminal)


def trainer(model: TOLD) -> WorldModelTrainer:
    objective = WindowConsistency(weight=NUMBERS.consistency, rho=NUMBERS.rho)
    sgd = partial(torch.optim.SGD, lr=NUMBERS.rate)
    return WorldModelTrainer(model, objective, optimizer=sgd, generator=seeded(DRAWN), clipping=GlobalNorm(1e9))


def weights_of(model: TOLD) -> Weights:
    named = {**dict(model.named_parameters())}
    return {name: value.detach().numpy().copy() for name, value in named.items()}


def data_of(model: TOLD, batch: SequenceBatch) -> Data:
    """The batch with the random numbers that an update of ``trainer`` draws."""
    draws = details(model.observe(batch, seeded(DRAWN))).draws
    return Data(
        batch.observations["state"].numpy(),
        model.spec.action.normalize(batch.action).numpy(),
        batch.reward.numpy(),
        batch.is_first.numpy(),
        batch.is_terminal.numpy(),
        draws.target_action.double().numpy(),
        draws.policy_action.double().numpy(),
        draws.target_members.tolist(),
        draws.policy_members.tolist(),
    )


def test_an_update_equals_the_reference_in_the_published_order() -> None:
    model, batch = told(), crossing(crossing(windows(), 1, 2, ends=True), 3, 3, ends=False)
    assert model.scale is not None
    model.scale.scale.fill_(3.0)
    data = data_of(model, batch)
    assert set(data.target_members) != set(data.policy_members)
    expected, scale = updated(weights_of(model), NUMBERS, data, scale=3.0)
    before = weights_of(model)
    trainer(model).step(batch)
    after = weights_of(model)
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=0, atol=2e-8, err_msg=name)
        assert np.abs(after[name] - before[name]).max() > 1e-5, name
    assert model.scale.scale.item() == pytest.approx(scale)


def losses(model: TOLD, batch: SequenceBatch) -> dict[str, Loss]:
    rollout = model.observe(batch, seeded(7))
    return model.losses(rollout, batch) | model.later_losses(rollout)


def test_rows_behind_a_border_change_no_loss() -> None:
    model, batch = told(), crossing(windows(), 0, 2, ends=True)
    state, action = batch.observations["state"].clone(), batch.action.clone()
    reward, terminal = batch.reward.clone(), batch.is_terminal.clone()
    state[0, 2:], action[0, 2:], reward[0, 2:], terminal[0, 2:] = 50.0, 2.0, 50.0, True
    other = replace(batch, observations={"state": state}, action=action, reward=reward, is_terminal=terminal)
    model.scale = None  # a range over the batch
    first, second = losses(model, batch), losses(model, other)
    assert set(first) == {"reward", "value", "continue", "policy"}
    for name, loss in first.items():
        torch.testing.assert_close(loss.value, second[name].value, msg=name)
        assert not loss.value[0, 2:].any(), name
        assert loss.value[0, 1].abs() > 0, name
        assert (loss.value[1:, 1:].abs() > 0).all(), name


def test_the_target_of_a_true_end_is_its_reward_and_a_time_limit_has_a_future() -> None:
    model, batch = told(), windows()
    y = model.target(model.observe(batch, seeded()), batch)
    ends = batch.is_terminal
    assert torch.equal(y[ends], batch.reward[ends])
    assert (y[~ends] != batch.reward[~ends]).all()


def test_no_gradient_flows_into_targets_and_the_policy_changes_no_other_part() -> None:
    model, batch = told(), windows()
    rollout = model.observe(batch, seeded())
    assert not model.target(rollout, batch).requires_grad
    total = torch.stack([loss.value.sum() for loss in model.losses(rollout, batch).values()]).sum()
    total.backward()
    without = {name for name, value in model.named_parameters() if value.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith(("policy.", "target_critics."))}
    model.zero_grad(set_to_none=True)
    model.later_losses(rollout)["policy"].value.sum().backward()
    changed = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert changed == {"policy", "critics"}  # the trainer takes the gradient of the policy alone


def test_slow_copies_move_every_nth_update() -> None:
    model = told(target=partial(TargetCopy, rate=0.5, every=2))
    learner, before = trainer(model), weights_of(model)
    name = "target_critics.copy.networks.0.0.weight"
    learner.step(windows())
    assert np.array_equal(weights_of(model)[name], before[name])
    learner.step(windows(seed=1))
    expected = 0.5 * (before[name] + weights_of(model)["critics.networks.0.0.weight"])
    np.testing.assert_allclose(weights_of(model)[name], expected)


def test_a_resumed_training_continues_to_the_same_bits() -> None:
    whole, first = trainer(told()), trainer(told())
    for seed in range(3):
        whole.step(windows(seed=seed))
    first.step(windows(seed=0))
    resumed = trainer(told(discount=0.9))
    resumed.load_state_dict(first.state_dict())
    for seed in (1, 2):
        resumed.step(windows(seed=seed))
    expected = whole.model.state_dict()
    assert {"scale.scale", "target_critics.updates"} <= expected.keys()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_model_has_the_capabilities_of_planning_and_training() -> None:
    require(told(), Dynamics, RewardModel, Valued, Proposing, Trainable, Staged, by="this test")


def trajectory(model: TOLD, steps: int = 3) -> ImaginedTrajectory[LatentState]:
    start = LatentState(torch.randn(5, 4, generator=seeded(), dtype=torch.float64))
    action = torch.rand(5, steps, 2, generator=seeded(1), dtype=torch.float64) * 2 - 1
    return predict(model, start, action)


def test_rewards_are_in_the_row_of_arrival() -> None:
    model = told()
    imagined = trajectory(model)
    rewards = model.reward(imagined)
    assert not rewards[0].any()
    for h in range(3):
        pair = torch.cat([imagined.features[h], imagined.action[h]], dim=-1)
        torch.testing.assert_close(rewards[h + 1], model.reward_head(pair).mean)


def q_by_hand(weights: Weights, member: int, latent: Array, action: Array) -> Array:
    name = f"critics.networks.{member}"
    hidden = np.concatenate([latent, action], -1) @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"]
    hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
    return (hidden @ weights[f"{name}.2.weight"].T + weights[f"{name}.2.bias"])[:, 0]


def test_values_are_those_of_every_critic_after_the_reward_on_arrival() -> None:
    model = told()
    imagined, reward = trajectory(model), torch.randn(5, generator=seeded(2), dtype=torch.float64)
    weights, last = weights_of(model), imagined.features[-1].detach().numpy()
    raw = last @ weights["policy.layers.0.weight"].T + weights["policy.layers.0.bias"]
    logit = last @ weights["continue_head.layers.0.weight"].T + weights["continue_head.layers.0.bias"]
    goes_on = 1 / (1 + np.exp(-logit[:, 0]))
    expected = [
        reward.numpy() + NUMBERS.discount * goes_on * q_by_hand(weights, member, last, np.tanh(raw[:, :2]))
        for member in range(NUMBERS.members)
    ]
    np.testing.assert_allclose(model.values(imagined, reward).detach().numpy(), expected, rtol=1e-6)


def test_without_a_continue_head_every_episode_goes_on() -> None:
    model = told(continue_head=None)
    assert not model.predicts_ends
    assert torch.equal(model.continuation(trajectory(model)), torch.ones(4, 5, dtype=torch.float64))
    assert "continue" not in model.losses(model.observe(windows(), seeded()), windows())


def test_proposals_without_noise_are_the_mode_and_stay_in_the_box() -> None:
    model = told()
    features = torch.randn(6, 4, generator=seeded(), dtype=torch.float64)
    mode = model.propose(features, torch.zeros(6, 2, dtype=torch.float64))
    torch.testing.assert_close(mode, model.policy(features).mode)
    sampled = model.propose(features, torch.full((6, 2), 9.0, dtype=torch.float64))
    assert (sampled > mode).all()
    assert sampled.abs().max() <= 1


def test_a_row_is_encoded_by_itself() -> None:
    model, batch = told(), windows()
    rollout = model.observe(batch, seeded())
    seen = {name: value[:, 2] for name, value in batch.observations.items()}
    noise = model.noise((4,), seeded())
    assert noise.shape == (4, 0)
    state = model.filter(model.initial(4), batch.action[:, 2], seen, batch.is_first[:, 2], noise)
    torch.testing.assert_close(state.latent, rollout.states.latent[:, 2])


@pytest.mark.parametrize(
    ("action", "found"),
    [
        (ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3), "discrete"),
        (ActionSpec(1, discrete=False, low=(-float("inf"),), high=(1.0,)), "without bounds"),
    ],
)
def test_actions_that_cannot_be_planned_are_refused(action: ActionSpec, found: str) -> None:
    with pytest.raises(UserError, match=f"{found}.*TD-MPC supports only continuous ones with bounds"):
        told(replace(SPEC, action=action))


def test_windows_without_a_transition_are_refused_by_key() -> None:
    with pytest.raises(UserError, match=r"world_model_training\.batch\.length is 1"):
        losses(told(), windows(rows=1))


def test_collapsed_latents_are_reported() -> None:
    model, batch = told(), windows()
    model.requires_grad_(False)
    figures = model.figures(model.observe(batch, seeded()), batch)
    assert not model.warnings({name: float(value) for name, value in figures.items()})
    model.encoder.last.weight.zero_()
    figures = model.figures(model.observe(batch, seeded()), batch)
    (line,) = model.warnings({name: float(value) for name, value in figures.items()})
    assert "validation/latent_std" in line


def test_dropout_depends_on_the_generator_alone() -> None:
    critics = partial(QEnsemble, members=3, hidden=8, layers=1, style=elu(), output=SquaredErrorOutput(), dropout=0.5)
    model, batch = told(critics=critics), windows()

    def value(seed: int) -> Tensor:
        return model.losses(model.observe(batch, seeded(seed)), batch)["value"].value

    assert torch.equal(value(0), value(0))
    draws = details(model.observe(batch, seeded())).draws
    assert draws.critic_dropout.shape == (3, 4, 3, 8)
    assert draws.policy_dropout.shape == (3, 4, 4, 8)
    first = model.values(trajectory(model), torch.zeros(5, dtype=torch.float64))
    assert torch.equal(first, model.values(trajectory(model), torch.zeros(5, dtype=torch.float64)))  # drops nothing
