"""The behaviour's trainer: what moves, what is kept with the policy, and what stops an update."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, Learner, LearnerLosses
from dreamset.behaviors.rewards import PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.penalty_weights import CalibratedWeight
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.pipeline.artifacts.saved_models import REWARD, load_reward, save_reward
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from tests.builders import seeded, tiny_batch, tiny_model
from tests.foreign.behaviors import SuccessReward


class Halves(Learner):
    """Two weights, each with a loss of its own."""

    headline = "loss/left"

    def __init__(self, *, right_scale: float) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.right_scale = right_scale

    def networks(self) -> Mapping[str, nn.Module]:
        return {"left": self.left, "right": self.right}

    def losses_on(self, experience: Experience[Any], model: Any, reward: Any, generator: Any) -> LearnerLosses:  # noqa: ARG002
        left, right = (network(torch.ones(1)).sum() for network in (self.left, self.right))
        return LearnerLosses({"left": left, "right": self.right_scale * right}, {})

    def controller(self, *_: object, **__: object) -> None:
        raise AssertionError("nobody acts here")


def trainer(learner: Learner) -> BehaviorTrainer:
    return BehaviorTrainer(
        tiny_model(),
        learner,
        PredictedReward(),
        optimizers={name: lambda parameters: torch.optim.SGD(parameters, lr=0.1) for name in ("left", "right")},
        clip_norm=1.0,
        generator=seeded(),
    )


def weights(learner: Halves) -> list[Tensor]:
    return [network.weight.detach().clone() for network in (learner.left, learner.right)]


def test_one_gradient_that_is_not_finite_leaves_every_network_as_it_was() -> None:
    learner = Halves(right_scale=float("nan"))
    before = weights(learner)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer(learner).step(tiny_batch())
    assert all(torch.equal(one, other) for one, other in zip(weights(learner), before, strict=True))
    finite = Halves(right_scale=1.0)
    before = weights(finite)
    trainer(finite).step(tiny_batch())
    assert not any(torch.equal(one, other) for one, other in zip(weights(finite), before, strict=True))


def test_a_held_network_stays_as_it_is() -> None:
    learner = Halves(right_scale=1.0)
    left, right = weights(learner)
    trainer(learner).step(tiny_batch(), held=("left",))
    assert torch.equal(learner.left.weight, left)
    assert not torch.equal(learner.right.weight, right)


def test_a_reward_with_a_network_is_saved_beside_the_policy_and_loaded_from_there(tmp_path: Path) -> None:
    trained, new = (SuccessReward(features=3, threshold=0.5) for _ in range(2))
    assert not torch.equal(trained.classifier.weight, new.classifier.weight)
    save_reward(tmp_path, trained)
    load_reward(new, tmp_path)
    assert torch.equal(trained.classifier.weight, new.classifier.weight)


def test_a_calibrated_penalty_is_saved_beside_the_policy_and_not_computed_again(tmp_path: Path) -> None:
    trained, new, older = (
        PenalizedReward(spread=MeanDisagreement(), weight=CalibratedWeight(0.5, transitions=1)) for _ in range(3)
    )
    trained.weight.calibrate([torch.full((2,), 4.0)])
    save_reward(tmp_path, trained)
    load_reward(new, tmp_path).weight.calibrate([torch.ones(2)])
    load_reward(older, tmp_path / "policy without constants").weight.calibrate([torch.ones(2)])
    assert [reward.weight(torch.ones(1)).item() for reward in (trained, new, older)] == [0.125, 0.125, 0.5]


def test_a_reward_without_networks_leaves_no_file(tmp_path: Path) -> None:
    save_reward(tmp_path, PredictedReward())
    assert not (tmp_path / REWARD).exists()
    assert isinstance(load_reward(PredictedReward(), tmp_path), PredictedReward)
