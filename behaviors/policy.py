"""Acting with a learned behaviour: filter the observations, ask the actor."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dreamset.behaviors.action_distributions import Actor
from dreamset.core.records import LatentState, SequenceBatch
from dreamset.models.world_model import WorldModel


class LatentPolicy:
    """A policy over observations for several episodes side by side, which may start at different times."""

    def __init__(self, model: WorldModel, actor: Actor, *, generator: torch.Generator) -> None:
        self.model = model
        self.actor = actor
        self.generator = generator
        self._state: LatentState | None = None
        self._action: Tensor | None = None

    @torch.no_grad()
    def act(self, observations: Mapping[str, Tensor], is_first: Tensor) -> Tensor:
        """The actor's mode, in the environment's units; of a choice, the likeliest as a one-hot row.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; memory of what came before is dropped there.
        """
        count = len(is_first)
        if self._action is None:
            self._action = torch.zeros(count, self.model.spec.action.size, device=is_first.device)
        nothing = torch.zeros_like(is_first)[:, None]
        row = SequenceBatch(
            observations={name: value[:, None] for name, value in observations.items()},
            action=self._action[:, None],
            reward=nothing.float(),
            is_first=is_first[:, None],
            is_last=nothing,
            is_terminal=nothing,
            privileged={},
            row=nothing.long(),
        )
        rollout = self.model.observe(row, self.generator, self._state)
        self._state = rollout.posterior.map(lambda value: value[:, 0])
        self._action = self.model.spec.action.denormalize(self.actor(self._state.features).mode)
        return self._action
