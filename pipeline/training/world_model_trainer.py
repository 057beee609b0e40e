"""Optimiser steps of the world model, with the state that resuming needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.core.capabilities import Staged, Trainable
from dreamset.core.parameters import OptimizerFactory
from dreamset.core.records import Loss, Rollout, SequenceBatch, total_loss
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Part, WorldModelOptimisation
from dreamset.pipeline.training import parameter_groups
from dreamset.pipeline.training.gradients import apply_gradients, rate_of
from dreamset.pipeline.training.optimizers import Clipping, choose_clipping
from dreamset.pipeline.training.parameter_groups import Factors, SchedulerFactory


class TrainingLosses(nn.Module):
    """All losses in one ``forward``, so that a wrapper for several devices can call it."""

    def __init__(self, model: Trainable[Any], objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: SequenceBatch, generator: torch.Generator) -> tuple[dict[str, Loss], Rollout[Any]]:
        """The losses of world model and objective by name, [B, T] each, and the rollout that they were computed from.

        Raises:
            ValueError: if both have a loss of the same name.
        """
        view = self.objective.view(batch)
        rollout = self.model.observe(view, generator)
        losses: dict[str, Loss] = self.model.losses(rollout, view)
        added: dict[str, Loss] = self.objective(rollout, view, self.model)
        clash = losses.keys() & added.keys()
        if clash:
            raise ValueError(
                f"{type(self.objective).__name__} and the world model both have losses named {sorted(clash)}"
            )
        return losses | added, rollout


class WorldModelTrainer:
    """Minimises the losses of the world model and of the objective with one optimiser.

    A ``Staged`` model has a second step in every update, with the same optimiser. Its later losses see the weights
    after the first step, and train its watchers alone. ``factors`` multiply the learning rates of parts; a part with
    the factor 0 is frozen.
    """

    def __init__(
        self,
        model: Trainable[Any],
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
        self.staged: Staged[Any] | None = model if isinstance(model, Staged) else None
        self.module = TrainingLosses(model, objective)
        groups = parameter_groups.learning_groups(model, objective, factors or {})
        self.objective_learns = parameter_groups.learns(parameter_groups.OBJECTIVE, factors or {})
        learning = [parameter for group in groups for parameter in group.parameters]
        self.networks = clipping_groups(model, learning)
        self.optimizer = parameter_groups.build_optimizer(optimizer, groups)
        self.scheduler = (
            None if scheduler is None else parameter_groups.build_scheduler(scheduler, self.optimizer, groups)
        )
        self.clipping = choose_clipping(clip_norm, clipping)
        self.generator = generator

    @classmethod
    def configured(
        cls,
        settings: WorldModelOptimisation,
        model: Trainable[Any],
        objective: Objective,
        *,
        scheduler: Part | None,
        generator: torch.Generator,
        factors: Factors | None,
    ) -> "WorldModelTrainer":
        """A trainer with the optimiser and the clipping of ``world_model_training``."""
        return cls(
            model,
            objective,
            optimizer=build_part(settings.optimizer),
            clip_norm=settings.clip_norm,
            clipping=None if settings.clipping is None else build_part(settings.clipping),
            generator=generator,
            scheduler=None if scheduler is None else build_part(scheduler),
            factors=factors,
        )

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update; returns the unweighted mean of every loss, the total and the gradients' norms before clipping.

        The total leaves out losses of frozen parts, because they are constants, and those of a second step.

        Raises:
            NotFiniteError: if a total or a gradient is not finite. The networks are then as before this step; a second
                step that fails leaves what the first one changed.
        """
        losses, rollout = self.module(batch, self.generator)
        total = total_loss({name: loss for name, loss in losses.items() if loss.value.requires_grad})
        metrics = _means(losses)
        metrics["loss/total"] = total.detach()
        metrics |= apply_gradients(
            self.optimizer, self.networks, total, clipping=self.clipping, figures=metrics, remedy=self._remedy
        )
        if self.staged is not None:
            metrics |= self._second_step(self.staged, rollout)
        if self.scheduler is not None:
            self.scheduler.step()
        if self.objective_learns:
            self.objective.after_update(self.model)
        if self.staged is not None:
            self.staged.after_update()
        return metrics

    def _second_step(self, model: Staged[Any], rollout: Rollout[Any]) -> dict[str, Tensor]:
        """The step on the later losses; none if every watcher is frozen."""
        networks = {name: parameters for name in self.model.watchers() if (parameters := self.networks.get(name))}
        if not networks:
            return {}
        losses = model.later_losses(rollout)
        metrics = _means(losses)
        return metrics | apply_gradients(
            self.optimizer,
            networks,
            total_loss(losses),
            clipping=self.clipping,
            figures=metrics,
            remedy=self._remedy,
            inputs=[parameter for parameters in networks.values() for parameter in parameters],
        )

    def _remedy(self) -> str:
        return (
            f"lower the learning rate world_model_training.optimizer.lr (now {rate_of(self.optimizer)}), clip more "
            "with world_model_training.clip_norm, or scale large rewards and observations with dataset.transforms"
        )

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


def _means(losses: Mapping[str, Loss]) -> dict[str, Tensor]:
    return {f"loss/{name}": loss.value.detach().mean() for name, loss in losses.items()}


def clipping_groups(model: Trainable[Any], learning: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """The trained parameters, grouped for clipping: the model, and each part that does not influence the model.

    Separate clipping keeps the model the same with and without such a part, for example an ensemble.
    """
    parts = model.parts()
    watching = {name: set(part.parameters()) for name in model.watchers() if (part := parts[name]) is not None}
    networks = {"world_model": [p for p in learning if not any(p in members for members in watching.values())]}
    return networks | {name: [p for p in learning if p in members] for name, members in watching.items()}
