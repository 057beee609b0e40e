"""Inverse dynamics: which rows its loss pairs, what it learns, and that it cannot act."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import BoundedNormal
from dreamset.behaviors.base import Experience
from dreamset.behaviors.inverse_dynamics import InverseDynamics
from dreamset.core.capabilities import LabelsActions, require, uses_unacted
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.observations import Observations
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.behaviors.worlds import CHOICE, ONE, Line
from tests.builders import seeded, tiny_batch, tiny_model, tiny_spec

UNBOUNDED = ActionSpec(1, discrete=False, low=(-float("inf"),), high=(float("inf"),))


class Difference(nn.Module):
    """Predicts that the action is the difference of the two rows."""

    def forward(self, pair: Tensor) -> BoundedNormal:
        before, after = pair.chunk(2, dim=-1)
        return BoundedNormal(after - before, torch.ones_like(after))


def experience(features: Tensor, action: Tensor, is_first: Tensor) -> Experience:
    return Experience(Line(features, features), features, action, is_first)


def test_loss_pairs_each_action_with_the_rows_around_it_and_crosses_no_episode() -> None:
    learner = InverseDynamics(1, ONE, network=lambda _features, _action: Difference())
    rows = torch.tensor([[0.0, 1.0, 3.0, 7.0], [5.0, 5.5, -2.0, -2.0]])[..., None]
    action = torch.tensor([[9.0, 1.0, 2.0, 4.0], [9.0, 0.5, 9.0, 0.0]])[..., None]  # 9: row of a reset
    is_first = torch.tensor([[True, False, False, False], [False, False, True, False]])
    exact = 0.5 * torch.log(torch.tensor(2 * torch.pi))  # -ln N(0; 0, 1): every known action is the difference
    loss = learner.losses_on(experience(rows, action, is_first), None, None, seeded()).losses["inverse_dynamics"]
    torch.testing.assert_close(loss, exact)
    wrong = action.clone()
    wrong[0, 2] += 2.0
    shifted = learner.losses_on(experience(rows, wrong, is_first), None, None, seeded()).losses["inverse_dynamics"]
    torch.testing.assert_close(shifted, exact + 0.5 * 2.0**2 / 5)


@pytest.mark.parametrize("discrete", [False, True])
def test_configured_model_labels_the_actions_of_a_linear_walk(discrete: bool) -> None:
    action = CHOICE if discrete else ONE
    config = compose(["behavior=inverse_dynamics", "behavior_training=inverse_dynamics", "network.hidden=32"])
    torch.manual_seed(0)
    learner: InverseDynamics = build_part(config["behavior"], 1, action)
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3)
    generator = seeded(1)

    def walk(count: int) -> tuple[Tensor, Tensor]:
        if discrete:
            steps = torch.nn.functional.one_hot(torch.randint(action.size, (count, 6), generator=generator)).float()
            moves = steps @ torch.linspace(-1, 1, action.size)[:, None]
        else:
            steps = moves = torch.rand(count, 6, 1, generator=generator) * 2 - 1
        start = torch.randn(count, 1, 1, generator=generator)
        return torch.cat([start, start + moves[:, 1:].cumsum(1)], dim=1), steps

    for _ in range(300):
        features, steps = walk(32)
        never = torch.zeros(32, 6, dtype=torch.bool)
        optimizer.zero_grad()
        learner.losses_on(experience(features, steps, never), None, None, generator).losses[
            "inverse_dynamics"
        ].backward()
        optimizer.step()
    features, steps = walk(50)
    labels = learner.label(features[:, :-1].flatten(0, 1), features[:, 1:].flatten(0, 1), generator)
    truth = steps[:, 1:].flatten(0, 1)
    if discrete:
        assert (labels.argmax(-1) == truth.argmax(-1)).float().mean() > 0.97
    else:
        assert (labels - truth).abs().mean() < 0.06  # a constant has 0.5


def test_it_labels_but_does_not_act() -> None:
    learner = InverseDynamics(1, ONE, network=lambda _features, _action: Difference())
    assert isinstance(learner, LabelsActions)
    with pytest.raises(UserError, match="labels recorded rows and cannot act; use it with `dreamset data label-act"):
        learner.controller(None)
    with pytest.raises(UserError, match="no bounds"):
        InverseDynamics(1, UNBOUNDED, network=lambda _features, _action: Difference())


def test_states_that_hold_the_action_are_refused() -> None:
    learner = InverseDynamics(1, ONE, network=lambda _features, _action: Difference())
    observations = Observations(tiny_spec(), reward_head=lambda size: nn.Linear(size, 1))
    require(observations, *learner.needs, by="InverseDynamics")
    assert uses_unacted(observations)
    with pytest.raises(UserError, match=r"capabilities that WorldModel lacks \(ActionFree: Has states that do not"):
        require(tiny_model(), *learner.needs, by="InverseDynamics")


def test_states_of_a_model_that_uses_unacted_rows_do_not_depend_on_actions() -> None:
    model: Observations = build_part(compose(["world_model=observations"])["world_model"], tiny_spec())
    batch = tiny_batch()
    other = replace(batch, action=torch.zeros_like(batch.action))
    torch.testing.assert_close(model.observe(batch, seeded()).features, model.observe(other, seeded()).features)


def test_reward_loss_of_observations_leaves_out_episodes_without_actions() -> None:
    model: Observations = build_part(compose(["world_model=observations"])["world_model"], tiny_spec())
    batch = tiny_batch(size=2)
    acted = torch.tensor([[True], [False]]).expand(2, 6)
    rollout = model.observe(batch, seeded())
    every, some = model.losses(rollout, batch), model.losses(rollout, replace(batch, acted=acted))
    torch.testing.assert_close(some["reward"].value[0], every["reward"].value[0])
    assert not some["reward"].value[1].any()
    assert every["reward"].value[1].any()
