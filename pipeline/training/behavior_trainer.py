"""Optimiser steps of a behaviour, with the state that resuming needs."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, Learner, RewardFunction
from dreamset.core.capabilities import Representation, require
from dreamset.core.errors import UserError
from dreamset.core.parameters import OptimizerFactory, frozen_parameters
from dreamset.core.records import SequenceBatch
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import LearnerOptimisation
from dreamset.pipeline.training.gradients import rate_of, require_finite
from dreamset.pipeline.training.optimizers import Clipping, choose_clipping


class BehaviorTrainer:
    """Trains a policy in a world model that stays as it is.

    ``optimizers`` has one for each network, by name. The networks of a reward function that brings optimisers of its
    own need none.

    Raises:
        UserError: if the world model lacks what learner or reward function need, or if the names of networks and
            optimisers differ.
    """

    def __init__(
        self,
        model: Representation[Any],
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
        require(model, *behavior.needed(reward), by=f"{type(behavior).__name__} with {type(reward).__name__}")
        networks = named_networks(behavior, reward)
        optimizers = {**reward.optimizers(), **optimizers}
        require_same_names(networks, optimizers, learner=type(behavior).__name__)
        self.parameters: dict[str, list[Tensor]] = {name: list(net.parameters()) for name, net in networks.items()}
        self.optimizers = {name: optimizers[name](parameters) for name, parameters in self.parameters.items()}
        self.clipping = choose_clipping(clip_norm, clipping)
        self.generator = generator

    @classmethod
    def configured(
        cls,
        settings: LearnerOptimisation,
        model: Representation[Any],
        behavior: Learner,
        reward: RewardFunction,
        *,
        generator: torch.Generator,
    ) -> "BehaviorTrainer":
        """A trainer with the optimisers and the clipping of ``behavior_training``."""
        return cls(
            model,
            behavior,
            reward,
            optimizers={name: build_part(node) for name, node in settings.optimizers.items() if node is not None},
            clip_norm=settings.clip_norm,
            clipping=None if settings.clipping is None else build_part(settings.clipping),
            generator=generator,
        )

    def step(self, batch: SequenceBatch, *, held: Collection[str] = ()) -> dict[str, Tensor]:
        """Updates each network once; returns the losses, the learner's figures and the gradient norms.

        Args:
            batch: recorded sequences; imagination starts at their states.
            held: networks, such as ``actor``, that are not updated.

        Raises:
            NotFiniteError: if a loss or a gradient is not finite.
        """
        with frozen_parameters(self.model):
            experience = Experience.of(self.model, batch, self.generator)
            learned = self.behavior.losses_on(experience, self.model, self.reward, self.generator)
            own = self.reward.losses_on(experience, self.model, self.generator)
            losses = {**learned.losses, **own.losses}
            norms = self._apply({name: loss for name, loss in losses.items() if name not in held})
        self.behavior.after_update()
        values = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        return values | dict(learned.figures) | dict(own.figures) | norms

    def _apply(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All gradients are computed before the first update, so no loss depends on another network's update."""
        for name, loss in losses.items():
            self.optimizers[name].zero_grad(set_to_none=True)
            own = [parameter for parameter in self.parameters[name] if parameter.requires_grad]
            # a loss gives gradients to its own network only, not to the reward function; two losses may share a graph
            loss.backward(inputs=own, retain_graph=True)
        norms = {f"gradient_norm/{name}": self.clipping(self.parameters[name]) for name in losses}
        values = {f"loss/{name}": loss.detach() for name, loss in losses.items()} | norms
        require_finite(list(values.values()), values, partial(self._remedy, losses))
        for name in losses:
            self.optimizers[name].step()
        return norms

    def _remedy(self, names: Collection[str]) -> str:
        key = "behavior_training.optimizers"
        rates = ", ".join(f"{key}.{name}.lr (now {rate_of(self.optimizers[name])})" for name in names)
        return (
            f"lower the learning rate {rates}, clip more with behavior_training.clip_norm, or scale large rewards with "
            "dataset.transforms"
        )

    def state_dict(self) -> dict[str, Any]:
        """Learner, reward function, optimisers and generator."""
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


def calibrate(
    part: RewardFunction | Learner,
    model: Representation[Any],
    batches: Iterable[SequenceBatch],
    generator: torch.Generator,
) -> None:
    """Gives a reward function or a learner recorded batches for its constants; none is drawn if it has none.

    Args:
        part: on the device of the batches.
        model: the world model of the training.
        batches: an endless sequence.
        generator: of the states' random numbers; not that of the training, which must not depend on the constants.
    """
    part.calibrate((Experience.of(model, batch, generator) for batch in batches), model)


def named_networks(behavior: Learner, reward: RewardFunction) -> dict[str, nn.Module]:
    """All trained networks, by name.

    Raises:
        ValueError: if learner and reward function have a network of the same name.
    """
    networks, own = dict(behavior.networks()), reward.networks()
    clash = sorted(networks.keys() & own.keys())
    if clash:
        raise ValueError(f"{type(behavior).__name__} and {type(reward).__name__} both have networks named {clash}")
    return networks | dict(own)


def require_same_names(networks: Collection[str], optimizers: Collection[str], *, learner: str) -> None:
    """Checks that each network has an optimiser, and each optimiser a network.

    Raises:
        UserError: otherwise.
    """
    key = "behavior_training.optimizers"
    without = [name for name in networks if name not in optimizers]
    if without:
        raise UserError(f"{key} has no entry for {', '.join(without)}, which {learner} trains; add it")
    unknown = [name for name in optimizers if name not in networks]
    if unknown:
        raise UserError(
            f"{key} names {', '.join(unknown)}, but the networks of {learner} are {', '.join(networks)}; set the "
            "entry to null, or list the networks as behavior_training.networks in the behaviour's yaml"
        )
