"""A world model and its behaviours, trained further together."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dreamset.behaviors.goals.conditioned import GoalConditioned
from dreamset.core.records import SequenceBatch
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

POLICY, EXPLORER = "policy", "explorer"  # the evaluated behaviour, and a behaviour that only collects


class FineTuner:
    """Updates the world model and then each behaviour, all on the same batch, as the online Dreamers do.

    Args:
        world_model: is updated first.
        behaviors: of the same model, with goals or without, by name. The figures of ``POLICY`` keep their names.
        actor_from: the update from which the policy's actor is trained. Before it, only the critic is trained, because
            a critic that is wrong about new data would make a good actor worse.
    """

    def __init__(
        self, world_model: WorldModelTrainer, behaviors: Mapping[str, BehaviorTrainer], *, actor_from: int
    ) -> None:
        assert POLICY in behaviors
        assert all(_without_goals(behavior.model) is world_model.model for behavior in behaviors.values())
        self.world_model = world_model
        self.behaviors = behaviors
        self.actor_from = actor_from
        self.updates = 0

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update of all. The figures of other behaviours than ``POLICY`` have their name as a prefix."""
        figures = self.world_model.step(batch)
        held = ("actor",) if self.updates < self.actor_from else ()
        self.updates += 1
        for name, behavior in self.behaviors.items():
            if name == POLICY:
                figures |= behavior.step(batch, held=held)
            else:
                figures |= {f"{name}/{figure}": value for figure, value in behavior.step(batch).items()}
        return figures

    def state_dict(self) -> dict[str, Any]:
        """The state of all trainers, and the number of updates."""
        return {
            "world_model": self.world_model.state_dict(),
            "behaviors": {name: behavior.state_dict() for name, behavior in self.behaviors.items()},
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.world_model.load_state_dict(state["world_model"])
        for name, behavior in self.behaviors.items():
            behavior.load_state_dict(state["behaviors"][name])
        self.updates = state["updates"]


def _without_goals(model: object) -> object:
    return model.model if isinstance(model, GoalConditioned) else model
