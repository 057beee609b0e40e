"""The reward term of irreversible steps: its formula, its gradients, its networks, and sums that contain it."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dreamset.behaviors.reversibility.pairs import draw_pairs
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility, Precedence
from dreamset.behaviors.rewards import GoalDistance, Irreversibility, PredictedReward, Sum
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.imagination import imagine
from dreamset.pipeline.artifacts.rewards import sharing_networks
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from tests.behaviors.reversibility.walks import CELLS, corridor, experience
from tests.behaviors.worlds import ONE
from tests.builders import seeded, tiny_batch, tiny_model
from tests.foreign.behaviors import PlannedActions

ONE_OF_TWO = ActionSpec(2, discrete=True, low=(0.0,) * 2, high=(1.0,) * 2)


def irreversibility(
    features: int = CELLS, *, action: ActionSpec = ONE, filters: bool = True, **settings: Any
) -> Irreversibility:
    """The reward with small networks."""
    torch.manual_seed(0)
    reward = Irreversibility(
        precedence=partial(Precedence, hidden=16, layers=1),
        action_irreversibility=partial(ActionIrreversibility, hidden=16, layers=1) if filters else None,
        lr=1e-2,
        **{"forgetting": 0.0, **settings},
    )
    reward.set_up(features, action)
    return reward


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_term_is_the_excess_of_psi_over_the_threshold_on_arrival(steps: int) -> None:
    reward = irreversibility(4, threshold=0.5, weight=2.5, steps=steps).double()
    features = 3 * torch.randn(5, 6, 4, generator=seeded()).double()  # H = 4
    term = reward(ImaginedTrajectory([], features, torch.zeros(4, 6, 1)), None)["irreversibility"]
    assert reward.precedence is not None
    expected = np.zeros((5, 6))
    for h in range(1, 5):
        for n in range(6):
            before = features[max(h - steps, 0), n]
            psi = reward.precedence.irreversibility(before, features[h, n]).item()
            expected[h, n] = -2.5 * max(psi - 0.5, 0)
    np.testing.assert_allclose(term.detach(), expected, rtol=1e-9)
    assert (expected[1:] < 0).any()
    assert (expected[1:] == 0).any()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_recorded_row_is_compared_with_one_of_its_own_episode(steps: int) -> None:
    reward, walk = irreversibility(threshold=0.0, steps=steps), experience(corridor, seed=3)
    walk.is_first[:, 5] = True
    assert reward.precedence is not None
    term = reward.recorded(walk, None)["irreversibility"].detach()
    for t in range(16):
        before = max(t - steps, 5 if t >= 5 else 0)
        psi = reward.precedence.irreversibility(walk.features[:, before], walk.features[:, t]).detach()
        torch.testing.assert_close(term[:, t], torch.zeros(16) if t in (0, 5) else -psi)


def test_term_has_a_gradient_through_the_dynamics_of_a_recurrent_model() -> None:
    model = tiny_model().requires_grad_(False)
    reward = irreversibility(model.feature_size, threshold=0.0)
    action = torch.zeros(2, 2, requires_grad=True)
    trajectory = imagine(model, model.initial(2), lambda _: action, horizon=2)
    reward(trajectory, model)["irreversibility"].sum().backward()
    assert action.grad is not None
    assert action.grad.abs().sum() > 0


def test_phi_learns_from_the_state_in_which_a_recorded_action_was_taken() -> None:
    reward, walk = irreversibility(action=ONE_OF_TWO), experience(corridor, seed=3)
    walk.is_first[:, 5] = True
    assert reward.precedence is not None
    assert reward.action_irreversibility is not None
    losses = []
    for b in range(len(walk.features)):
        for t in range(1, walk.features.shape[1]):  # the action of row t was taken in row t - 1
            if not walk.is_first[b, t]:
                before, after = walk.features[b, t - 1], walk.features[b, t]
                psi = reward.precedence.irreversibility(before, after).item()
                phi = reward.action_irreversibility.irreversibility(before, walk.action[b, t]).item()
                losses.append(-psi * np.log(phi) - (1 - psi) * np.log(1 - phi))
    learned = reward.losses_on(walk, None, seeded(7)).losses["action_irreversibility"]
    assert learned.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_losses_are_those_of_recorded_pairs_and_transitions_and_leave_the_target_alone() -> None:
    reward, walk = irreversibility(action=ONE_OF_TWO, filters=False), experience(corridor, seed=3)
    walk.is_first[:, 5] = True
    learned = reward.losses_on(walk, None, seeded(7))
    assert reward.precedence is not None
    pairs = draw_pairs(walk.features, walk.features, walk.is_first, seeded(7))
    assert learned.losses.keys() == {"precedence"}
    assert learned.losses["precedence"].item() == pytest.approx(reward.precedence.loss(pairs).item())
    psi = reward.precedence.irreversibility(walk.features[:, :-1], walk.features[:, 1:])
    known = torch.arange(1, 16) != 5
    mean = learned.figures["reversibility/recorded_irreversibility"].item()
    assert mean == pytest.approx(psi[:, known].mean().item(), rel=1e-5)

    reward = irreversibility(action=ONE_OF_TWO)
    learned = reward.losses_on(walk, None, seeded(7))
    learned.losses["action_irreversibility"].backward()
    assert reward.precedence is not None
    assert all(parameter.grad is None for parameter in reward.precedence.parameters())


def test_the_action_of_a_row_is_judged_in_the_row_before() -> None:
    """Time rule: action[t + 1] leads from row t to row t + 1. Here only the action tells whether the cell changes."""
    reward, generator = irreversibility(action=ONE_OF_TWO), seeded()
    optimizers = {name: make(reward.networks()[name].parameters()) for name, make in reward.optimizers().items()}
    for seed in range(100):
        losses = reward.losses_on(experience(corridor, seed=seed), None, generator).losses
        for name, loss in losses.items():
            optimizers[name].zero_grad()
            loss.backward(inputs=list(reward.networks()[name].parameters()))
            optimizers[name].step()
    inside = torch.eye(CELLS)[:-1]
    assert reward.action_irreversibility is not None
    stay, go = (
        reward.action_irreversibility.irreversibility(inside, action.expand(CELLS - 1, 2)) for action in torch.eye(2)
    )
    assert (stay - 0.5).abs().max() < 0.15
    assert go.min() > 0.8


def test_a_batch_of_single_rows_has_no_loss_and_no_nan() -> None:
    reward, walk = irreversibility(action=ONE_OF_TWO), experience(corridor, seed=0)
    walk.is_first[:] = True
    learned = reward.losses_on(walk, None, seeded())
    assert [loss.item() for loss in learned.losses.values()] == [0, 0]
    assert all(figure.isfinite() for figure in learned.figures.values())


def of_three(features: int, action: ActionSpec = ONE) -> Sum:
    goal = GoalDistance()
    goal.set_goal(torch.zeros(features))
    safety = irreversibility(features, action=action, threshold=0.0)
    return Sum(
        rewards={"task": PredictedReward(), "goal": goal, "safety": safety}, weights={"goal": 0.5, "safety": 0.1}
    )


def test_a_sum_of_three_terms_trains_saves_and_resumes_exactly() -> None:
    model = tiny_model().requires_grad_(False)
    action = model.spec.action

    def trainer() -> BehaviorTrainer:
        behavior, total = PlannedActions(model.feature_size, action), of_three(model.feature_size, action)
        return BehaviorTrainer(model, behavior, total, optimizers={}, generator=seeded(), clip_norm=100.0)

    whole, first = trainer(), trainer()
    batches = [tiny_batch(seed=seed) for seed in range(4)]
    figures = [whole.step(batch) for batch in batches]
    assert {"loss/precedence", "loss/action_irreversibility", "gradient_norm/precedence"} <= figures[0].keys()
    for batch in batches[:2]:
        first.step(batch)
    resumed = trainer()
    resumed.load_state_dict(first.state_dict())
    again = resumed.step(batches[2])
    assert {name: value.item() for name, value in again.items()} == {n: v.item() for n, v in figures[2].items()}
    resumed.step(batches[3])
    trajectory = imagine(model, model.initial(2), lambda features: features[:, :2], horizon=3)
    terms, same = (one.reward(trajectory, model) for one in (whole, resumed))
    assert list(terms) == ["reward", "goal", "irreversibility"]
    assert all(torch.equal(terms[name], same[name]) for name in terms)


def test_an_optimiser_of_the_settings_replaces_that_which_the_reward_brings() -> None:
    model = tiny_model().requires_grad_(False)
    action = model.spec.action
    trainer = BehaviorTrainer(
        model,
        PlannedActions(model.feature_size, action),
        of_three(model.feature_size, action),
        optimizers={"precedence": partial(torch.optim.SGD, lr=0.5)},
        generator=seeded(),
        clip_norm=1.0,
    )
    kinds = {name: type(optimizer) for name, optimizer in trainer.optimizers.items()}
    assert kinds == {"precedence": torch.optim.SGD, "action_irreversibility": torch.optim.Adam}


def test_a_sum_sets_up_and_warns_as_its_parts_do() -> None:
    part = Irreversibility(precedence=partial(Precedence, hidden=4, layers=1), window=11)
    total = Sum(rewards={"task": PredictedReward(), "safety": part})
    assert (total.rows, Sum(rewards={"task": PredictedReward()}).rows) == (12, 1)
    assert total.networks() == {}
    total.set_up(3, ONE)
    assert total.networks().keys() == total.optimizers().keys() == {"precedence"}
    (line,) = total.warnings({"reversibility/recorded_irreversibility": 0.97})
    assert line.startswith("recorded steps look one-way: their mean irreversibility is 0.97")
    assert total.warnings({"reversibility/recorded_irreversibility": 0.6}) == []
    assert total.warnings({}) == []


def test_a_copy_that_shares_networks_follows_their_training_and_has_its_own_constants() -> None:
    reward = of_three(3)
    copied = sharing_networks(reward)
    assert copied is not reward
    assert {id(network) for network in copied.networks().values()} == {id(n) for n in reward.networks().values()}
    assert copied.rewards["goal"].goal is not reward.rewards["goal"].goal  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 0}, "window of Irreversibility is 0; allowed: 1 or more"),
        ({"window": -5}, "window of Irreversibility is -5"),
        ({"weight": -0.1}, "weight of Irreversibility is -0.1; allowed: 0 or more"),
        ({"threshold": 1.0}, "threshold of Irreversibility is 1.0; allowed: 0 to below 1"),
        ({"threshold": -0.1}, "threshold of Irreversibility is -0.1"),
        ({"steps": 0}, "steps of Irreversibility is 0; allowed: 1 or more"),
        ({"forgetting": 1.0}, "forgetting of Irreversibility is 1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        irreversibility(**settings)


def test_networks_before_set_up_are_an_error() -> None:
    reward = Irreversibility(precedence=partial(Precedence, hidden=4, layers=1))
    with pytest.raises(ValueError, match="set_up"):
        reward(ImaginedTrajectory([], torch.zeros(3, 2, 4), torch.zeros(2, 2, 1)), None)


def test_networks_move_and_save_with_the_reward() -> None:
    saved, loaded = irreversibility(4), irreversibility(4)
    nn.init.normal_(next(iter(saved.networks()["precedence"].parameters())))
    loaded.load_state_dict(saved.state_dict())
    features = torch.randn(3, 2, 4, generator=seeded())
    trajectory: ImaginedTrajectory[Any] = ImaginedTrajectory([], 3 * features, torch.zeros(2, 2, 1))
    assert torch.equal(saved(trajectory, None)["irreversibility"], loaded(trajectory, None)["irreversibility"])
