"""Reward functions: the penalty of uncertainty and the tuning of its weight."""

from collections.abc import Iterator
from itertools import count as counted
from itertools import islice

import numpy as np
import pytest
import torch

from dreamset.behaviors.base import Experience
from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.penalty_weights import CalibratedWeight, FixedWeight, SpreadWeight, TunedWeight
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import map_state
from dreamset.models.imagination import imagine
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model

HORIZON = 4


def imagined(model: WorldModel) -> ImaginedTrajectory:
    start = map_state(lambda value: value.flatten(0, 1), model.observe(tiny_batch(), seeded()).states)
    return imagine(model, start, lambda features: torch.tanh(features[:, :2]), horizon=HORIZON, generator=seeded(1))


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
def test_penalty_is_the_weighted_disagreement_in_every_row(generation: str) -> None:
    model = tiny_model(f"world_model={generation}", "world_model/ensemble=priors").double()
    model.dynamics.latent.noise = lambda shape, _: torch.full((*shape, model.dynamics.latent.size), 0.1).double()
    trajectory = ImaginedTrajectory(
        [], torch.randn(5, 3, model.feature_size, generator=seeded()).double(), torch.zeros(0)
    )
    terms = PenalizedReward(spread=MeanDisagreement(), weight=FixedWeight(2.5))(trajectory, model)
    assert torch.equal(terms["reward"], PredictedReward()(trajectory, model)["reward"])
    deterministic = trajectory.features[..., : model.dynamics.cell.size]
    means = np.stack([model.dynamics.latent.mean(m(deterministic)).detach().numpy() for m in model.ensemble.members])
    expected = -2.5 * np.sqrt(((means - means.mean(0)) ** 2).sum(-1)).mean(0)
    np.testing.assert_allclose(terms["penalty"].detach().numpy(), expected, rtol=1e-9)
    assert terms["penalty"].shape == (5, 3)


def test_penalty_has_a_gradient_through_the_dynamics() -> None:
    model = tiny_model("world_model/ensemble=priors").requires_grad_(False)
    action = torch.zeros(18, 2, requires_grad=True)
    start = map_state(lambda value: value.flatten(0, 1), model.observe(tiny_batch(), seeded()).states)
    trajectory = imagine(model, start, lambda _: action, horizon=HORIZON, generator=seeded(1))
    PenalizedReward(spread=MeanDisagreement(), weight=FixedWeight(1.0))(trajectory, model)["penalty"].sum().backward()
    assert action.grad.abs().sum() > 0


def test_penalty_refuses_a_world_model_without_an_ensemble() -> None:
    model = tiny_model()
    reward = PenalizedReward(spread=MeanDisagreement(), weight=FixedWeight(1.0))
    with pytest.raises(UserError, match="world_model/ensemble=priors"):
        reward(imagined(model), model)


def test_tuned_weight_gives_the_target_penalty_at_every_scale() -> None:
    for scale in (1e-3, 1.0, 1e3):
        weight = TunedWeight(0.2, decay=0.9)
        for step in range(60):
            uncertainty = scale * (1 + torch.rand(5, 7, generator=seeded(step)))
            penalty = weight(uncertainty) * uncertainty
        assert penalty.mean().item() == pytest.approx(0.2, rel=0.1)


def test_tuned_weight_follows_the_moving_average_of_uncertainty() -> None:
    weight, average, decay = TunedWeight(3.0, decay=0.75), 0.0, 0.75
    for count, mean in enumerate([4.0, 1.0, 2.5], start=1):
        average = decay * average + (1 - decay) * mean
        expected = 3.0 / (average / (1 - decay**count))
        assert weight(torch.tensor([mean - 1, mean + 1])).item() == pytest.approx(expected)
    weight.eval()
    assert weight(torch.tensor([100.0])).item() == pytest.approx(expected)  # no update in evaluation mode
    other = TunedWeight(3.0, decay=0.75).eval()
    other.load_state_dict(weight.state_dict())
    assert other(torch.tensor([100.0])).item() == pytest.approx(expected)


def test_tuned_penalty_is_zero_where_all_members_agree() -> None:
    zeros = torch.zeros(3, 4)
    assert torch.equal(TunedWeight(1.0)(zeros) * zeros, zeros)


def test_negative_penalty_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"-0\.5.*reward\.weight\.value"):
        FixedWeight(-0.5)
    with pytest.raises(UserError, match=r"reward\.weight\.target"):
        TunedWeight(-1.0)
    with pytest.raises(UserError, match="decay 1"):
        TunedWeight(1.0, decay=1.0)


def pessimistic(target: float = 0.3, **settings: int) -> PenalizedReward:
    return PenalizedReward(spread=MeanDisagreement(), weight=CalibratedWeight(target, **settings))


def recorded(model: WorldModel) -> Iterator[Experience]:
    """Endless batches; the fourth row of every second window begins another episode."""
    for seed in counted():
        batch = tiny_batch(seed=seed)
        batch.is_first[::2, 3] = True
        yield Experience.of(model, batch, seeded(seed))


def test_calibrated_penalty_of_recorded_transitions_is_the_target() -> None:
    """Every transition counts once: not the first row of a window, nor a row that begins an episode."""
    model = tiny_model("world_model/ensemble=priors").requires_grad_(False)
    reward = pessimistic(0.3, transitions=26)  # three windows of six rows: 13 transitions in a batch
    reward.calibrate(recorded(model), model)
    known, penalties = [], []
    for experience in islice(recorded(model), 2):
        penalties.append(reward(experience.trajectory, model)["penalty"].t())
        known.append(~experience.is_first & (torch.arange(6) > 0))
    penalty = torch.cat(penalties)[torch.cat(known)]
    assert penalty.shape == (26,)
    assert penalty.mean().item() == pytest.approx(-0.3)


def test_calibrated_weight_is_the_target_over_the_mean_uncertainty_and_is_computed_once() -> None:
    weight = CalibratedWeight(0.5, transitions=5)
    with pytest.raises(ValueError, match="calibrate"):
        weight(torch.ones(1))
    drawn = []
    given = (drawn.append(number) or torch.full((2,), float(number)) for number in counted(1))
    weight.calibrate(given)
    assert drawn == [1, 2, 3]  # six transitions are enough
    assert weight(torch.full((4,), 100.0)).item() == pytest.approx(0.5 / 2)
    weight.calibrate(given)
    assert drawn == [1, 2, 3]
    other = CalibratedWeight(0.5, transitions=5)
    other.load_state_dict(weight.state_dict())
    other.calibrate(given)
    assert (drawn, other(torch.ones(1)).item()) == ([1, 2, 3], pytest.approx(0.25))


def test_weights_without_constants_draw_no_recorded_batch() -> None:
    def unwanted() -> Iterator[Experience]:
        yield pytest.fail("a batch was drawn")

    for weight in (FixedWeight(1.0), TunedWeight(1.0)):
        PenalizedReward(spread=MeanDisagreement(), weight=weight).calibrate(unwanted(), tiny_model())
    PredictedReward().calibrate(unwanted(), tiny_model())


def test_gradient_of_a_calibrated_penalty_vanishes_with_the_uncertainty_and_that_of_a_following_one_grows() -> None:
    def gradient(weight: SpreadWeight, scale: float) -> float:
        risk = torch.tensor(scale, requires_grad=True)  # u = risk^2 falls as the policy gets safer
        uncertainty = risk.square().expand(8)
        (weight(uncertainty) * uncertainty).mean().backward()
        return risk.grad.item()

    calibrated = CalibratedWeight(1.0, transitions=1)
    calibrated.calibrate([torch.ones(1)])
    assert gradient(calibrated, 1.0) == pytest.approx(2)
    assert gradient(calibrated, 0.01) == pytest.approx(0.02)
    assert gradient(TunedWeight(1.0, decay=0.0), 1.0) == pytest.approx(2)
    assert gradient(TunedWeight(1.0, decay=0.0), 0.01) == pytest.approx(200)


def test_calibration_without_a_scale_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"world_model\.ensemble\.members.*reward/weight=fixed"):
        CalibratedWeight(1.0, transitions=2).calibrate([torch.zeros(3)])
    with pytest.raises(UserError, match=r"behavior_training\.batch\.length"):
        CalibratedWeight(1.0).calibrate([torch.zeros(0)])
    with pytest.raises(UserError, match=r"reward\.weight\.transitions"):
        CalibratedWeight(1.0, transitions=0)
