"""The learner: which rows teach which network, bounds, held-out errors and what it learns."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor

from dreamset.behaviors.base import Experience
from dreamset.behaviors.diffusion.learner import LatentDiffusionPlanning
from dreamset.behaviors.diffusion.plans import Actions
from dreamset.behaviors.diffusion.ranges import ChangeRange, LatentRange, PlanRange
from dreamset.behaviors.planning.draws import Generated
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from tests.behaviors.diffusion.toys import CHOICE, ONE, learner, trained, walk
from tests.builders import seeded


def rows(*values: bool, length: int = 8) -> Tensor:
    """A mark of whole windows, [B, T]."""
    return torch.tensor(values)[:, None].expand(-1, length)


def losses(policy: LatentDiffusionPlanning, experience: Experience) -> dict[str, float]:
    """Losses with fixed bounds, so that only the rows themselves count."""
    policy.ranges.widen(torch.tensor([[-9.0], [9.0]]), 20 * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1).expand(2, 4, 1))
    return {
        name: float(loss.detach()) for name, loss in policy.losses_on(experience, None, None, seeded()).losses.items()
    }


def changed(experience: Experience, window: int, *, action: bool) -> Experience:
    """Other actions, or other features, in one window."""
    where = torch.zeros_like(experience.features)
    where[window] = 0.3
    if action:
        return replace(experience, action=experience.action + where)
    return replace(experience, features=experience.features + where)


def test_planner_learns_from_demonstrations_only_with_or_without_actions() -> None:
    policy = learner()
    experience = walk(size=3, acted=rows(True, False, True), demonstration=rows(True, True, False))
    before = losses(policy, experience)["planner"]
    affected = [losses(policy, changed(experience, window, action=False))["planner"] != before for window in range(3)]
    assert affected == [True, True, False]
    assert losses(policy, changed(experience, 0, action=True))["planner"] == before


def test_inverse_dynamics_learns_from_every_row_with_an_action() -> None:
    policy = learner()
    experience = walk(size=3, acted=rows(True, False, True), demonstration=rows(True, True, False))
    before = losses(policy, experience)["inverse_dynamics"]
    for action in (True, False):
        affected = [
            losses(policy, changed(experience, window, action=action))["inverse_dynamics"] != before
            for window in range(3)
        ]
        assert affected == [True, False, True]


def test_no_pair_and_no_plan_crosses_the_border_of_episodes() -> None:
    policy, experience = learner(), walk(size=1)
    border = experience.is_first.clone()
    border[0, 4] = True
    crossing = replace(experience, is_first=border, batch=replace(experience.batch, is_first=border))
    jump = crossing.action.clone()
    jump[0, 4] += 0.5  # the action of a first row led from nowhere
    assert losses(policy, replace(crossing, action=jump)) == losses(policy, crossing)
    assert losses(policy, crossing)["planner"] != losses(policy, experience)["planner"]


def test_a_batch_without_marks_is_all_demonstrations_with_actions() -> None:
    policy, everything = learner(), rows(*[True] * 8)
    unmarked = losses(policy, walk())
    assert unmarked == losses(policy, walk(acted=everything, demonstration=everything))
    none = losses(policy, walk(acted=~everything, demonstration=~everything))
    assert none == {"planner": 0.0, "inverse_dynamics": 0.0}


@pytest.mark.parametrize("ranges", [LatentRange, ChangeRange])
def test_ranges_include_every_plan_that_a_network_has_seen(ranges: type[PlanRange]) -> None:
    policy = learner(ranges=ranges)
    batches = [walk(seed=1), walk(seed=2)]
    batches[1] = replace(batches[1], features=10 * batches[1].features)
    for batch in batches:
        policy.losses_on(batch, None, None, seeded())
    for batch in batches:
        futures = batch.features.unfold(1, 5, 1).movedim(-1, 2)  # [B, T - 4, 5, 1]
        plan = policy.ranges.to_plan(futures[:, :, 0], futures[:, :, 1:])
        assert float(plan.abs().max()) <= 1 + 1e-5
    assert float(policy.ranges.latents.high) == max(float(batch.features.max()) for batch in batches)


def test_calibration_happens_once() -> None:
    policy = learner()
    policy.calibrate((walk(seed=seed) for seed in range(3)), None)
    highest = policy.ranges.latents.high.clone()
    assert torch.equal(highest, torch.cat([walk(seed=seed).features for seed in range(3)]).amax((0, 1)))
    policy.calibrate((walk(seed=seed) for seed in range(100, 200)), None)
    assert torch.equal(policy.ranges.latents.high, highest)


@pytest.mark.parametrize("action", [ONE, CHOICE], ids=["continuous", "discrete"])
def test_it_learns_plans_and_the_actions_between_latents(action: ActionSpec) -> None:
    new = learner(action)
    recorded = (walk(seed=seed, action=action) for seed in count(10_000))
    new.calibrate(recorded, None)
    before = new.held_out(recorded, None, seeded())
    policy = trained(learner(action), action)
    after = policy.held_out(recorded, None, seeded())
    assert set(after) == {"held_out/action_error", "held_out/plan_error"}
    assert float(after["held_out/action_error"]) < 0.3 < 0.6 < float(before["held_out/action_error"])
    assert float(after["held_out/plan_error"]) < 0.55 < 0.8 < float(before["held_out/plan_error"])
    experience = walk(seed=5, action=action)
    label = policy.label(experience.features[:, 0], experience.features[:, 1], seeded())
    wrong = (label - experience.action[:, 1]).abs().amax(-1)
    assert float((wrong < 0.4).float().mean()) > 0.8
    plan = policy.plans().plan(torch.tensor([[-1.8], [1.8]]), Generated(2, label, seeded()))
    assert plan.shape == (2, 2, action.size)
    direction = plan @ torch.tensor([[-1.0], [0.0], [1.0]]) if action.discrete else plan
    assert (direction[0] > 0.5).all()  # towards zero
    assert (direction[1] < -0.5).all()


def test_slow_copies_act_and_follow_the_networks() -> None:
    policy = learner(ema=0.9)
    assert policy.plans().planner is policy.slow["planner"].copy
    before = [parameter.clone() for parameter in policy.slow["planner"].copy.parameters()]
    with torch.no_grad():
        for parameter in policy.planner.parameters():
            parameter.add_(1.0)
    policy.after_update()
    for old, new in zip(before, policy.slow["planner"].copy.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
    assert learner().plans().planner is not None
    assert len(learner().slow) == 0


def test_latent_leaves_out_the_leading_features() -> None:
    assert learner(features=3, skip=2).plans().latent(torch.tensor([[7.0, 8.0, 3.0]])).tolist() == [[3.0]]


def test_actions_survive_encoding() -> None:
    one_hot = torch.eye(3)
    assert torch.equal(Actions(CHOICE).encode(one_hot), 2 * one_hot - 1)
    assert torch.equal(Actions(CHOICE).decode(Actions(CHOICE).encode(one_hot) * 0.4), one_hot)
    assert Actions(ONE).decode(torch.tensor([[1.5]])).tolist() == [[1.0]]
    assert torch.equal(Actions(ONE).encode(torch.tensor([[0.5]])), torch.tensor([[0.5]]))


def test_windows_without_room_for_a_plan_are_refused() -> None:
    with pytest.raises(UserError, match=r"batch.length is 4; .*horizon=4 .*at least 5; raise"):
        learner().losses_on(walk(length=4), None, None, seeded())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"execute": 5}, "behavior.execute is 5; allowed: 1 to imagination.horizon=4"),
        ({"skip": 1}, "behavior.skip is 1; allowed: 0 to 0"),
        ({"action": ActionSpec(1, discrete=False, low=(-float("inf"),), high=(1.0,))}, "no bounds"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        learner(**wrong)


def test_useless_networks_are_named() -> None:
    policy = learner()
    assert policy.warnings({"held_out/action_error": 0.4, "held_out/plan_error": 0.9}) == []
    lines = policy.warnings({"held_out/action_error": 1.2, "held_out/plan_error": 1.0})
    assert ["inverse dynamics" in line for line in lines] == [True, False]
    assert all("behavior_training.updates" in line for line in lines)
