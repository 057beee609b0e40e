"""Training in two steps per update: the second one sees the first one's weights and trains the watchers alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamset.core.capabilities import Staged
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.datasets import Store
from dreamset.objectives.reward_only import RewardOnly
from dreamset.pipeline.stages.settings import Start, TrainWorldModel
from dreamset.pipeline.stages.train_world_model import learning_rate_factors, start
from dreamset.pipeline.training.optimizers import AdaptiveClipping, Clipping, GlobalNorm
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_spec
from tests.foreign.models import Code, LatentModel

Configure = Callable[..., dict[str, Any]]

RATE = 0.1


class Follower(LatentModel):
    """A latent model with a watcher that learns the first weight of the reward head after each step."""

    def __init__(self) -> None:
        super().__init__(tiny_spec())
        self.follower = nn.Linear(1, 1, bias=False)
        self.calls: list[str] = []

    def parts(self) -> dict[str, nn.Module | None]:
        return {**super().parts(), "follower": self.follower}

    def watchers(self) -> Sequence[str]:
        return ("follower",)

    def losses(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Loss]:
        self.calls.append("losses")
        return super().losses(rollout, batch)

    def later_losses(self, rollout: Rollout[Code]) -> dict[str, Loss]:
        self.calls.append("later_losses")
        error = (self.follower.weight - self.reward_head[0].weight[0, 0]).square().sum()
        return {"follow": Loss(error + 0 * rollout.features.sum(-1), 0.5)}

    def after_update(self) -> None:
        self.calls.append("after_update")


def trainer(model: LatentModel, clipping: Clipping | None = None, **factors: float) -> WorldModelTrainer:
    optimizer = partial(torch.optim.SGD, lr=RATE)
    return WorldModelTrainer(
        model,
        RewardOnly(model),
        optimizer=optimizer,
        generator=seeded(),
        clipping=clipping or GlobalNorm(1e9),
        factors=factors,
    )


def made(kind: type[LatentModel]) -> LatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Follower() if kind is Follower else LatentModel(tiny_spec())


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_the_second_step_sees_the_weights_after_the_first() -> None:
    model = made(Follower)
    assert isinstance(model, Staged)
    before = model.follower.weight.item()
    figures = trainer(model).step(tiny_batch())
    target = model.reward_head[0].weight[0, 0].item()  # after the first step
    assert model.follower.weight.item() == pytest.approx(before - RATE * (before - target))
    assert model.calls == ["losses", "later_losses", "after_update"]
    assert abs(figures["loss/follow"].item() - (before - target) ** 2) < 1e-6


def test_later_losses_train_the_watchers_alone() -> None:
    """The follower's loss depends on the reward head, which must learn as without a follower."""
    staged, plain = made(Follower), made(LatentModel)
    for seed in range(3):
        with_second = trainer(staged).step(tiny_batch(seed=seed))
        without = trainer(plain).step(tiny_batch(seed=seed))
        assert with_second["loss/total"] == without["loss/total"]
        assert with_second.keys() - without.keys() == {"loss/follow", "gradient_norm/follower"}
    after = weights(staged)
    for name, value in weights(plain).items():
        assert torch.equal(value, after[name]), name


def test_the_second_step_is_clipped_by_itself() -> None:
    model = made(Follower)
    before = model.follower.weight.item()
    figures = trainer(model, GlobalNorm(1e-3)).step(tiny_batch())
    assert figures["gradient_norm/follower"] > 1e-3
    assert abs(abs(model.follower.weight.item() - before) - RATE * 1e-3) < 1e-6


def test_clipping_by_tensor_does_not_meet_networks_without_gradient() -> None:
    figures = trainer(made(Follower), AdaptiveClipping()).step(tiny_batch())
    assert figures["gradient_norm/follower"] > 0


def test_a_frozen_watcher_has_no_second_step() -> None:
    model = made(Follower)
    before = weights(model)
    figures = trainer(model, follower=0.0).step(tiny_batch())
    assert model.calls == ["losses", "after_update"]
    assert "loss/follow" not in figures
    assert torch.equal(weights(model)["follower.weight"], before["follower.weight"])


def test_factors_of_a_training_give_way_to_those_of_the_adaptation(configure: Configure) -> None:
    plain = configure("train_world_model", "world_model_training.factors={encoder: 0.3, dynamics: 0.5}")
    settings = TrainWorldModel.of(**plain)
    assert learning_rate_factors(settings) == {"encoder": 0.3, "dynamics": 0.5}
    old = Start(digest="0", name=None, version=None, run=None, folder=None, strict=True, adaptation={"dynamics": 0.0})
    adapted = settings.model_copy(update={"start": old})
    assert learning_rate_factors(adapted) == {"encoder": 0.3, "dynamics": 0.0}


def test_a_training_scales_the_rates_of_the_parts_it_names(configure: Configure) -> None:
    settings = TrainWorldModel.of(**configure("train_world_model", "world_model_training.factors={encoder: 0.3}"))
    training = start(settings, Store.open(settings.store), torch.device("cpu"))
    rate = settings.training.optimizer["lr"]
    encoder = {id(parameter) for parameter in training.trainer.model.parts()["encoder"].parameters()}
    for group in training.trainer.optimizer.param_groups:
        scaled = {id(parameter) in encoder for parameter in group["params"]}
        assert scaled == {group["initial_lr"] == pytest.approx(0.3 * rate)}
