"""World models as behaviours know them: with a goal beside the state, if the behaviour acts towards goals."""

from typing import Any

from dreamset.behaviors.goals.conditioned import goal_conditioned
from dreamset.datasets.goals import LaterRows
from dreamset.pipeline.artifacts.description import SavedModel
from dreamset.pipeline.config.settings import Goals

GOALS = "goals"  # key of the lineage of a policy that acts towards goals


def goals_of(policy: SavedModel) -> Goals | None:
    """The goals for which a saved policy was learned; None if it acts for a reward only."""
    saved = policy.lineage.get(GOALS)
    return None if saved is None else Goals.model_validate(saved)


def towards(model: Any, goals: Goals | None) -> Any:
    """``model`` with the goals of a behaviour; itself if the behaviour has none."""
    return model if goals is None else goal_conditioned(model, rows=goals.rows)


def drawn(goals: Goals | None) -> LaterRows | None:
    """How the goals of recorded windows are drawn."""
    return None if goals is None else LaterRows(goals.within)
