"""One optimiser step of the world model and one of the behaviour, with everything that a resume needs."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dreamset.behaviors.base import Experience, Learner
from dreamset.behaviors.rewards.functions import RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch, total_loss
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training import parameter_groups
from dreamset.pipeline.training.optimizers import Clipping, choose_clipping
from dreamset.pipeline.training.parameter_groups import Factors, OptimizerFactory, SchedulerFactory


class WorldModelTrainer:
    """Minimises reward, continuation, KL and the representation objective, all with one optimiser.

    With ``factors`` every part learns at a rate of its own; a part with the factor 0 is frozen.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        *,
        optimizer: OptimizerFactory,
        generator: torch.Generator,
        clip_norm: float | None = None,
        clipping: Clipping | None = None,
        scheduler: SchedulerFactory | None = None,
        factors: Factors | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        groups = parameter_groups.learning_groups(model, objective, factors or {})
        self.objective_learns = parameter_groups.learns(parameter_groups.OBJECTIVE, factors or {})
        learning = [parameter for group in groups for parameter in group.parameters]
        members = set() if model.ensemble is None else set(model.ensemble.parameters())
        self.networks = {  # clipped apart, so that a model is the same with an ensemble as without
            "world_model": [parameter for parameter in learning if parameter not in members],
            "ensemble": [parameter for parameter in learning if parameter in members],
        }
        self.optimizer = parameter_groups.build_optimizer(optimizer, groups)
        self.scheduler = (
            None if scheduler is None else parameter_groups.build_scheduler(scheduler, self.optimizer, groups)
        )
        self.clipping = choose_clipping(clip_norm, clipping)
        self.generator = generator

    @classmethod
    def configured(
        cls,
        settings: Mapping[str, Any],
        model: WorldModel,
        objective: Objective,
        *,
        generator: torch.Generator,
        factors: Factors | None,
    ) -> "WorldModelTrainer":
        """With the optimiser, clipping and schedule of ``world_model_training``."""
        return cls(
            model,
            objective,
            optimizer=build_part(settings["optimizer"]),
            clip_norm=settings["clip_norm"],
            clipping=None if settings["clipping"] is None else build_part(settings["clipping"]),
            generator=generator,
            scheduler=None if settings["scheduler"] is None else build_part(settings["scheduler"]),
            factors=factors,
        )

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
        """One update; returns the unweighted mean of every loss, the total and the gradients' norms before clipping.

        The total is of the losses that move anything: those of frozen parts are constants.
        """
        losses, _ = self.losses(batch)
        total = total_loss({name: loss for name, loss in losses.items() if loss.value.requires_grad})
        norms = apply_gradients(self.optimizer, self.networks, total, clipping=self.clipping)
        if self.scheduler is not None:
            self.scheduler.step()
        if self.objective_learns:
            self.objective.after_update(self.model)
        metrics = {f"loss/{name}": loss.value.detach().mean() for name, loss in losses.items()}
        return metrics | {"loss/total": total.detach()} | norms

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
    """Learns a policy on top of a world model, of which nothing changes."""

    def __init__(
        self,
        model: WorldModel,
        behavior: Learner,
        reward: RewardFunction,
        *,
        optimizers: Mapping[str, OptimizerFactory],
        generator: torch.Generator,
        clip_norm: float | None = None,
        clipping: Clipping | None = None,
    ) -> None:
        self.model = model
        self.behavior = behavior
        self.reward = reward
        networks = behavior.networks()
        require_same_names(networks, optimizers, learner=type(behavior).__name__)
        self.parameters: dict[str, list[Tensor]] = {name: list(net.parameters()) for name, net in networks.items()}
        self.optimizers = {name: optimizers[name](parameters) for name, parameters in self.parameters.items()}
        self.clipping = choose_clipping(clip_norm, clipping)
        self.generator = generator

    @classmethod
    def configured(
        cls,
        settings: Mapping[str, Any],
        model: WorldModel,
        behavior: Learner,
        reward: RewardFunction,
        *,
        generator: torch.Generator,
    ) -> "BehaviorTrainer":
        """With the optimisers and the clipping of ``behavior_training``."""
        return cls(
            model,
            behavior,
            reward,
            optimizers={name: build_part(node) for name, node in settings["optimizers"].items() if node is not None},
            clip_norm=settings["clip_norm"],
            clipping=None if settings["clipping"] is None else build_part(settings["clipping"]),
            generator=generator,
        )

    def step(self, batch: SequenceBatch, *, held: Collection[str] = ()) -> dict[str, Tensor]:
        """Updates every network once; returns the losses, what the learner tells and the gradients' norms.

        Args:
            batch: where imagination starts.
            held: networks, such as ``actor``, that stay as they are this time.
        """
        with frozen(self.model):
            experience = Experience.of(self.model, batch, self.generator)
            learned = self.behavior.losses_on(experience, self.model, self.reward, self.generator)
            norms = self._apply({name: loss for name, loss in learned.losses.items() if name not in held})
        self.behavior.after_update()
        losses = {f"loss/{name}": loss.detach() for name, loss in learned.losses.items()}
        return losses | dict(learned.figures) | norms

    def _apply(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every gradient is computed before any network moves, so that no loss sees another one's update."""
        for name, loss in losses.items():
            self.optimizers[name].zero_grad(set_to_none=True)
            own = [parameter for parameter in self.parameters[name] if parameter.requires_grad]
            loss.backward(inputs=own, retain_graph=True)  # losses of two networks may share a graph
        norms = {}
        for name, loss in losses.items():
            norms[f"gradient_norm/{name}"] = norm = self.clipping(self.parameters[name])
            require_finite(norm, loss)
        for name in losses:
            self.optimizers[name].step()
        return norms

    def state_dict(self) -> dict[str, Any]:
        """Networks and what else the learner and the reward remember, optimisers and generator."""
        return {
            "behavior": self.behavior.state_dict(),
            "reward": self.reward.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.behavior.load_state_dict(state["behavior"])
        self.reward.load_state_dict(state["reward"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"])


class FineTuner:
    """World model and behaviour, one after the other on the same batch, as the online Dreamers learn.

    Args:
        world_model: learns first.
        behavior: of the same model.
        actor_from: update from which the actor learns too. Until then the critic learns to value the policy as it is:
            an actor that follows a critic that is wrong about new data unlearns what it could.
    """

    def __init__(self, world_model: WorldModelTrainer, behavior: BehaviorTrainer, *, actor_from: int) -> None:
        assert behavior.model is world_model.model
        self.world_model = world_model
        self.behavior = behavior
        self.actor_from = actor_from
        self.updates = 0

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update of both; the figures of both."""
        figures = self.world_model.step(batch)
        held = ("actor",) if self.updates < self.actor_from else ()
        self.updates += 1
        return figures | self.behavior.step(batch, held=held)

    def state_dict(self) -> dict[str, Any]:
        """Of both, and how many updates there were."""
        return {
            "world_model": self.world_model.state_dict(),
            "behavior": self.behavior.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.world_model.load_state_dict(state["world_model"])
        self.behavior.load_state_dict(state["behavior"])
        self.updates = state["updates"]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of ``module`` asks for gradients within the block; those that did do so again after it."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def apply_gradients(
    optimizer: Optimizer, networks: Mapping[str, Sequence[Tensor]], loss: Tensor, *, clipping: Clipping
) -> dict[str, Tensor]:
    """One step down ``loss``, every network's gradient clipped by itself; returns ``gradient_norm/NETWORK`` before.

    A network without parameters is left out.

    Raises:
        FloatingPointError: if a gradient is not finite; nothing has been changed then.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norms = {f"gradient_norm/{name}": clipping(parameters) for name, parameters in networks.items() if parameters}
    require_finite(torch.stack(list(norms.values())), loss)
    optimizer.step()
    return norms


def require_finite(norms: Tensor, loss: Tensor) -> None:
    """Refuses gradients that would ruin the networks.

    Raises:
        FloatingPointError: if a norm is not finite.
    """
    if not norms.isfinite().all():
        raise FloatingPointError(f"the gradient is not finite (loss {loss.item():g}); lower the learning rate")


def require_same_names(networks: Collection[str], optimizers: Collection[str], *, learner: str) -> None:
    """Every network has an optimiser, and every optimiser a network.

    Raises:
        UserError: otherwise.
    """
    key = "behavior_training.optimizers"
    without = [name for name in networks if name not in optimizers]
    if without:
        raise UserError(f"{key} has none for {', '.join(without)}, which {learner} learns; add it")
    unknown = [name for name in optimizers if name not in networks]
    if unknown:
        raise UserError(
            f"{key} names {', '.join(unknown)}, but the networks of {learner} are {', '.join(networks)}; set it to "
            "null, or list those that there are as behavior_training.networks in the behaviour's yaml"
        )
