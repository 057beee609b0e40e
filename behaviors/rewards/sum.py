"""The weighted sum of several reward functions."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, LearnerLosses, RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.parameters import OptimizerFactory
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec


class Sum(RewardFunction):
    """R = sum_i w_i R_i. The terms of every reward function keep their names, and are multiplied by its weight.

    Args:
        rewards: reward functions by any name.
        weights: of the reward functions by the same names; 1 for those that it leaves out.

    Raises:
        UserError: if there is no reward function, or a weight names none of them.
    """

    def __init__(self, *, rewards: Mapping[str, RewardFunction], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if not rewards:
            raise UserError("the rewards of a Sum are empty; name at least one reward function")
        self.rewards = nn.ModuleDict(dict(rewards))
        self.weights = dict.fromkeys(rewards, 1.0) | dict(weights or {})
        unknown = sorted(self.weights.keys() - rewards.keys())
        if unknown:
            raise UserError(
                f"the weights of a Sum name {', '.join(unknown)}; allowed: its rewards, {', '.join(rewards)}; correct "
                "the name"
            )
        self.rows = max(part.rows for part in rewards.values())

    @property
    def needs(self) -> tuple[type, ...]:  # type: ignore[override]
        """The capabilities that all reward functions need; a goal that is set later changes them."""
        return tuple(dict.fromkeys(need for part in self._parts().values() for need in part.needs))

    def set_up(self, features: int, action: ActionSpec) -> None:
        """Creates the networks of all reward functions."""
        for part in self._parts().values():
            part.set_up(features, action)

    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:
        """The terms of all reward functions, weighted.

        Raises:
            UserError: if two of them have a term of the same name.
        """
        return self._weighted({name: part(trajectory, model) for name, part in self._parts().items()})

    def recorded(self, experience: Experience[Any], model: Any) -> dict[str, Tensor]:
        """The terms of all reward functions in recorded rows, weighted, the recorded reward included."""
        return self._weighted({name: part.recorded(experience, model) for name, part in self._parts().items()})

    @property
    def recorded_needs(self) -> tuple[type, ...]:
        """The capabilities that all reward functions need."""
        return tuple(dict.fromkeys(need for part in self._parts().values() for need in part.recorded_needs))

    @torch.no_grad()
    def calibrate(self, recorded: Iterable[Experience[Any]], model: Any) -> None:
        """Calibrates every reward function; each draws batches of its own."""
        batches = iter(recorded)
        for part in self._parts().values():
            part.calibrate(batches, model)

    def networks(self) -> Mapping[str, nn.Module]:
        """The networks of all reward functions."""
        return _union("a network", {name: part.networks() for name, part in self._parts().items()})

    def optimizers(self) -> Mapping[str, OptimizerFactory]:
        """The optimisers of all reward functions."""
        return _union("an optimiser", {name: part.optimizers() for name, part in self._parts().items()})

    def losses_on(self, experience: Experience[Any], model: Any, generator: torch.Generator) -> LearnerLosses:
        """The losses of all networks; weights do not change them."""
        learned = {name: part.losses_on(experience, model, generator) for name, part in self._parts().items()}
        return LearnerLosses(
            _union("a loss", {name: one.losses for name, one in learned.items()}),
            _union("a figure", {name: one.figures for name, one in learned.items()}),
        )

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Those of all reward functions."""
        return [line for part in self._parts().values() for line in part.warnings(figures)]

    def _weighted(self, terms: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The union of the terms of all reward functions."""
        scaled = {
            name: {term: self.weights[name] * value for term, value in of_part.items()}
            for name, of_part in terms.items()
        }
        return _union("a term", scaled)

    def _parts(self) -> dict[str, RewardFunction]:
        return dict(self.rewards.items())  # type: ignore[arg-type]  # a ModuleDict's items have the type nn.Module


def _union(what: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All entries of the parts' mappings."""
    union: dict[str, Any] = {}
    for name, part in parts.items():
        twice = sorted(union.keys() & part.keys())
        if twice:
            raise UserError(
                f"{name} has {what} named {', '.join(twice)}, as another reward function of the same Sum has; leave "
                "one of them out"
            )
        union |= part
    return union
