"""Networks of a learner and optimisers of the configuration have the same names, or one line says which differ."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, Learner, LearnerLosses
from dreamset.behaviors.rewards import PredictedReward
from dreamset.behaviors.rewards.functions import RewardFunction
from dreamset.core.errors import UserError
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import LearnerTraining
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from tests.builders import seeded, tiny_batch, tiny_model


class Pair(Learner):
    """Two numbers whose losses share a graph: each one's loss depends on the other's value."""

    headline = "loss/left"

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for network in (self.left, self.right):
            nn.init.ones_(network.weight)

    def networks(self) -> Mapping[str, nn.Module]:
        return {"left": self.left, "right": self.right}

    def losses_on(self, *_: Experience | WorldModel | RewardFunction | torch.Generator) -> LearnerLosses:
        product = self.left(torch.ones(1)) * self.right(torch.ones(1))
        return LearnerLosses({"left": product.sum(), "right": 2 * product.sum()}, {})

    def controller(self, *_: object, **__: object) -> None:
        raise AssertionError("these tests need no controller")


def sgd(parameters: object) -> torch.optim.Optimizer:
    assert isinstance(parameters, list)
    return torch.optim.SGD(parameters, lr=0.5)


def trainer(*names: str, learner: Learner | None = None) -> BehaviorTrainer:
    return BehaviorTrainer(
        tiny_model(),
        learner or Pair(),
        PredictedReward(),
        optimizers=dict.fromkeys(names, sgd),
        clip_norm=100.0,
        generator=seeded(),
    )


def test_all_gradients_are_computed_before_any_network_is_updated() -> None:
    both = trainer("left", "right")
    both.step(tiny_batch())
    weights: list[Tensor] = [network.weight.detach().flatten() for network in (both.behavior.left, both.behavior.right)]
    # with one update after the other, the right network would get the gradient 2 * 0.5 and end at 0.5
    assert torch.cat(weights).tolist() == [0.5, 0.0]


def test_a_held_network_gets_no_update_and_no_gradient_of_another_loss() -> None:
    both = trainer("left", "right")
    both.step(tiny_batch(), held=("left",))
    assert (both.behavior.left.weight.item(), both.behavior.right.weight.item()) == (1.0, 0.0)
    assert both.behavior.left.weight.grad is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("left",), "behavior_training.optimizers has no entry for right, which Pair trains; add it"),
        (("left", "right", "critc"), "behavior_training.optimizers names critc, but the networks of Pair are left"),
    ],
)  # fmt: skip
def test_a_missing_and_an_unknown_optimizer_are_refused_by_name(names: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        trainer(*names)


@pytest.mark.parametrize(
    "overrides",
    [
        ("behavior=cloning",),
        ("behavior=cloning", "behavior_training=cloning"),
        ("behavior=cloning", "behavior_training=dreamer_v3"),
        ("behavior=cloning", "preset=offline_dreamer_v2"),
        ("behavior=cloning", "behavior_training.optimizers.critic=null"),
        ("behavior=dreamer_v2",),
        ("behavior=latent_sac", "behavior_training=latent_sac"),
        ("behavior=latent_sac_retrace", "behavior_training=latent_sac_small"),
    ],
)
def test_every_behavior_training_has_one_optimizer_per_network(overrides: tuple[str, ...]) -> None:
    config, model = compose(["network.hidden=8", *overrides]), tiny_model()
    learner: Learner = build_part(config["behavior"], model.feature_size, model.spec.action)
    training = LearnerTraining.model_validate(config["behavior_training"])
    configured = BehaviorTrainer.configured(training, model, learner, PredictedReward(), generator=seeded())
    assert configured.optimizers.keys() == learner.networks().keys()
    assert config["behavior_training"].keys() == {"updates", "batch", "optimizers", "clip_norm", "clipping"}


def test_an_optimizer_set_to_null_is_left_out() -> None:
    config = compose(["behavior_training.optimizers.critic=null"])
    assert config["behavior_training"]["optimizers"].keys() == {"actor"}
