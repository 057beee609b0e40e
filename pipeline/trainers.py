"""One optimiser step of the world model and one of the behaviour, with everything that a resume needs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dreamset.behaviors.actor_critic import BehaviorLosses, ImaginationActorCritic
from dreamset.behaviors.rewards import RewardFunction
from dreamset.core.records import Loss, Rollout, SequenceBatch, total_loss
from dreamset.models.world_model import WorldModel
from dreamset.objectives.base import Objective

OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class WorldModelTrainer:
    """Minimises reward, continuation, KL and the representation objective, all with one optimiser."""

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        *,
        optimizer: OptimizerFactory,
        clip_norm: float,
        generator: torch.Generator,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.parameters: list[Tensor] = [*model.parameters(), *objective.parameters()]
        self.optimizer = optimizer(self.parameters)
        self.scheduler = None if scheduler is None else scheduler(self.optimizer)
        self.clip_norm = clip_norm
        self.generator = generator

    def losses(self, batch: SequenceBatch) -> tuple[dict[str, Loss], Rollout]:
        """Every loss by name, and the rollout that they were computed on."""
        seen = self.objective.view(batch)
        rollout = self.model.observe(seen, self.generator)
        losses = self.model.losses(rollout, seen)
        added = self.objective(rollout, seen, self.model)
        clash = losses.keys() & added.keys()
        if clash:
            raise ValueError(f"{type(self.objective).__name__} returns losses the world model has too: {sorted(clash)}")
        return losses | added, rollout

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update; returns the unweighted mean of every loss, the total and the gradient's norm before clipping."""
        losses, _ = self.losses(batch)
        total = total_loss(losses)
        norm = apply_gradients(self.optimizer, self.parameters, total, clip_norm=self.clip_norm)
        if self.scheduler is not None:
            self.scheduler.step()
        self.objective.after_update(self.model)
        metrics = {f"loss/{name}": loss.value.detach().mean() for name, loss in losses.items()}
        return metrics | {"loss/total": total.detach(), "gradient_norm/world_model": norm}

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, schedule and generator."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])


class BehaviorTrainer:
    """Learns a policy in the imagination of a frozen world model."""

    def __init__(
        self,
        model: WorldModel,
        behavior: ImaginationActorCritic,
        reward: RewardFunction,
        *,
        actor_optimizer: OptimizerFactory,
        critic_optimizer: OptimizerFactory,
        clip_norm: float,
        generator: torch.Generator,
    ) -> None:
        assert not any(parameter.requires_grad for parameter in model.parameters()), "the world model must be frozen"
        self.model = model
        self.behavior = behavior
        self.reward = reward
        self.actor_parameters = parameters_of(behavior.actor)
        self.critic_parameters = parameters_of(behavior.critic)
        self.actor_optimizer = actor_optimizer(self.actor_parameters)
        self.critic_optimizer = critic_optimizer(self.critic_parameters)
        self.clip_norm = clip_norm
        self.generator = generator

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Imagines from every posterior state of ``batch`` and updates actor and critic once."""
        with torch.no_grad():
            start = self.model.observe(batch, self.generator).posterior.map(lambda value: value.flatten(0, 1))
        losses: BehaviorLosses = self.behavior.losses(self.model, start, self.reward, self.generator)
        actor_norm = apply_gradients(
            self.actor_optimizer, self.actor_parameters, losses.actor, clip_norm=self.clip_norm
        )
        critic_norm = apply_gradients(
            self.critic_optimizer, self.critic_parameters, losses.critic, clip_norm=self.clip_norm
        )
        return {
            "loss/actor": losses.actor.detach(),
            "loss/critic": losses.critic.detach(),
            "imagination/lambda_return": losses.imagined_return,
            "imagination/reward": losses.imagined_reward,
            "imagination/action_std": losses.action_std,
            "gradient_norm/actor": actor_norm,
            "gradient_norm/critic": critic_norm,
        }

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and generator."""
        return {
            "behavior": self.behavior.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.behavior.load_state_dict(state["behavior"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.generator.set_state(state["generator"])


def apply_gradients(optimizer: Optimizer, parameters: list[Tensor], loss: Tensor, *, clip_norm: float) -> Tensor:
    """One step down ``loss``; returns the gradient's norm before clipping.

    Raises:
        FloatingPointError: if the gradient is not finite; nothing has been changed then.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = clip_grad_norm_(parameters, clip_norm)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradient is not finite (loss {loss.item():g}); lower the learning rate")
    optimizer.step()
    return norm


def parameters_of(network: object) -> list[Tensor]:
    """The parameters of a network that is known by its protocol only."""
    assert isinstance(network, nn.Module)
    return list(network.parameters())
