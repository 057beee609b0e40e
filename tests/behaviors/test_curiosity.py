"""Curiosity: the disagreement of an ensemble as a bonus, and the same disagreement as a penalty."""

import numpy as np
import pytest
import torch

from dreamset.behaviors.base import Experience
from dreamset.behaviors.rewards import Disagreement, PenalizedReward, PredictedReward, Sum
from dreamset.behaviors.rewards.penalty_weights import CalibratedWeight, FixedWeight, TunedWeight
from dreamset.behaviors.rewards.spreads import Variance
from dreamset.core.capabilities import RewardModel, Uncertain
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.models.recurrent.ensemble import PriorPredictions
from dreamset.models.recurrent.latents import GaussianLatent
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model

ENSEMBLES = ("one_step", "priors")


def model_with(ensemble: str) -> WorldModel:
    return tiny_model(f"world_model/ensemble={ensemble}").double()


def trajectory_of(model: WorldModel) -> ImaginedTrajectory:
    generator = seeded(3)
    features = torch.randn(5, 3, model.feature_size, generator=generator, dtype=torch.float64)
    return ImaginedTrajectory([], features, torch.rand(4, 3, 2, generator=generator, dtype=torch.float64))


def bonus_by_hand(model: WorldModel, trajectory: ImaginedTrajectory) -> np.ndarray:
    means = model.members(trajectory).mean().detach().numpy()  # [K, H + 1, N, D]
    centre = means.sum(0) / len(means)
    return (((means - centre) ** 2).sum(0) / (len(means) - 1)).sum(-1) / means.shape[-1]


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_bonus_is_the_weighted_unbiased_variance_averaged_over_the_elements(ensemble: str) -> None:
    model = model_with(ensemble)
    trajectory = trajectory_of(model)
    terms = Disagreement(spread=Variance(), weight=FixedWeight(2.5))(trajectory, model)
    assert list(terms) == ["disagreement"]
    expected = 2.5 * bonus_by_hand(model, trajectory)
    assert expected[1:].min() > 0
    np.testing.assert_allclose(terms["disagreement"].detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_penalty_is_the_bonus_with_the_other_sign_beside_the_task(ensemble: str) -> None:
    model = model_with(ensemble)
    trajectory = trajectory_of(model)
    bonus, penalised = (
        kind(spread=Variance(), weight=FixedWeight(0.3))(trajectory, model) for kind in (Disagreement, PenalizedReward)
    )
    assert torch.equal(penalised["penalty"], -bonus["disagreement"])
    assert torch.equal(penalised["reward"], PredictedReward()(trajectory, model)["reward"])


def test_curiosity_needs_an_ensemble_and_no_reward_of_a_task() -> None:
    assert Disagreement.needs == (Uncertain,)
    assert PenalizedReward.needs == (RewardModel, Uncertain)


def test_a_model_without_an_ensemble_is_told_which_ones_exist() -> None:
    model = tiny_model().double()
    with pytest.raises(UserError, match=r"world_model/ensemble=priors or world_model/ensemble=one_step"):
        Disagreement(spread=Variance(), weight=FixedWeight(1.0))(trajectory_of(model), model)


def test_variance_of_one_member_is_refused() -> None:
    one = PriorPredictions(GaussianLatent(2), torch.zeros(1, 3, 4), torch.zeros(3, 2))
    with pytest.raises(UserError, match="a disagreement needs two members"):
        Variance()(one)


def test_task_and_curiosity_add_up_with_weights_of_their_own() -> None:
    model = model_with("one_step")
    trajectory = trajectory_of(model)
    curious = Sum(
        rewards={"task": PredictedReward(), "curiosity": Disagreement(spread=Variance(), weight=FixedWeight(1.0))},
        weights={"curiosity": 4.0},
    )
    terms = curious(trajectory, model)
    assert terms.keys() == {"reward", "disagreement"}
    np.testing.assert_allclose(terms["disagreement"].detach().numpy(), 4 * bonus_by_hand(model, trajectory), rtol=1e-10)


def test_tuned_weight_keeps_the_mean_bonus_at_its_target_and_is_saved() -> None:
    model = model_with("one_step")
    trajectory = trajectory_of(model)
    reward = Disagreement(spread=Variance(), weight=TunedWeight(0.1)).double().train()
    assert reward(trajectory, model)["disagreement"].mean().item() == pytest.approx(0.1, rel=1e-4)
    restored = Disagreement(spread=Variance(), weight=TunedWeight(0.1)).double()
    restored.load_state_dict(reward.state_dict())
    for one in (reward, restored):
        one.eval()
    terms = [one(trajectory, model)["disagreement"] for one in (reward, restored)]
    assert torch.equal(*terms)


def test_calibrated_weight_counts_only_transitions_within_an_episode() -> None:
    model, batch = tiny_model("world_model/ensemble=one_step"), tiny_batch(2, 6)
    batch.is_first[1, 3] = True
    experience = Experience.of(model, batch, seeded())
    reward = Disagreement(spread=Variance(), weight=CalibratedWeight(0.5, transitions=1))
    reward.calibrate(iter([experience]), model)
    means = model.members(experience.trajectory).mean()
    spread = means.var(0).mean(-1).t()  # [B, T]
    within = torch.cat([spread[0, 1:], spread[1, 1:3], spread[1, 4:]])
    assert reward.weight.value.item() == pytest.approx(0.5 / within.mean().item(), rel=1e-5)
