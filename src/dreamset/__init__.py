"""Dreamset: an offline, dataset-first world-model pipeline.

The names in ``PUBLIC`` are for users' programs, e.g. ``dreamset.Store``; docs/python.md has examples. Each name is
loaded on first use, so that ``import dreamset`` loads neither PyTorch nor any other large library.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dreamset import moved

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares them with PUBLIC
    from dreamset.behaviors.base import Experience as Experience
    from dreamset.behaviors.base import Learner as Learner
    from dreamset.behaviors.base import LearnerLosses as LearnerLosses
    from dreamset.behaviors.base import RewardFunction as RewardFunction
    from dreamset.behaviors.controller import ActorController as ActorController
    from dreamset.behaviors.controller import Agent as Agent
    from dreamset.behaviors.goals.conditioned import goal_conditioned as goal_conditioned
    from dreamset.behaviors.planning.optimizers import CEM as CEM
    from dreamset.behaviors.planning.optimizers import MPPI as MPPI
    from dreamset.behaviors.planning.optimizers import PlanOptimizer as PlanOptimizer
    from dreamset.behaviors.planning.planner import Planning as Planning
    from dreamset.behaviors.rewards.functions import PredictedReward as PredictedReward
    from dreamset.behaviors.rewards.goal import GoalDistance as GoalDistance
    from dreamset.core.capabilities import Controller as Controller
    from dreamset.core.capabilities import Dynamics as Dynamics
    from dreamset.core.capabilities import Representation as Representation
    from dreamset.core.capabilities import RewardModel as RewardModel
    from dreamset.core.capabilities import Trainable as Trainable
    from dreamset.core.capabilities import Uncertain as Uncertain
    from dreamset.core.errors import UserError as UserError
    from dreamset.core.records import ImaginedTrajectory as ImaginedTrajectory
    from dreamset.core.records import Loss as Loss
    from dreamset.core.records import Rollout as Rollout
    from dreamset.core.records import SequenceBatch as SequenceBatch
    from dreamset.core.spec import ActionSpec as ActionSpec
    from dreamset.core.spec import ArraySpec as ArraySpec
    from dreamset.core.spec import DataSpec as DataSpec
    from dreamset.core.states import map_state as map_state
    from dreamset.datasets.episode import RawEpisode as RawEpisode
    from dreamset.datasets.goals import LaterRows as LaterRows
    from dreamset.datasets.sampler import SequenceSampler as SequenceSampler
    from dreamset.datasets.sources.base import Source as Source
    from dreamset.datasets.sources.base import SourceDescription as SourceDescription
    from dreamset.datasets.store import Store as Store
    from dreamset.datasets.writer import write_store as write_store
    from dreamset.models.imagination import imagine as imagine
    from dreamset.models.imagination import predict as predict
    from dreamset.models.recurrent.world_model import WorldModel as WorldModel
    from dreamset.objectives.base import Objective as Objective
    from dreamset.pipeline.artifacts.acting import load_policy as load_policy
    from dreamset.pipeline.artifacts.saved_models import load_behavior as load_behavior
    from dreamset.pipeline.artifacts.saved_models import load_world_model as load_world_model
    from dreamset.pipeline.registry.retrieval import from_registry as from_registry

PUBLIC = {  # name -> module that defines it
    "ActionSpec": "dreamset.core.spec",
    "ActorController": "dreamset.behaviors.controller",
    "Agent": "dreamset.behaviors.controller",
    "ArraySpec": "dreamset.core.spec",
    "CEM": "dreamset.behaviors.planning.optimizers",
    "Controller": "dreamset.core.capabilities",
    "DataSpec": "dreamset.core.spec",
    "Dynamics": "dreamset.core.capabilities",
    "Experience": "dreamset.behaviors.base",
    "GoalDistance": "dreamset.behaviors.rewards.goal",
    "ImaginedTrajectory": "dreamset.core.records",
    "LaterRows": "dreamset.datasets.goals",
    "Learner": "dreamset.behaviors.base",
    "LearnerLosses": "dreamset.behaviors.base",
    "Loss": "dreamset.core.records",
    "MPPI": "dreamset.behaviors.planning.optimizers",
    "Objective": "dreamset.objectives.base",
    "PlanOptimizer": "dreamset.behaviors.planning.optimizers",
    "Planning": "dreamset.behaviors.planning.planner",
    "PredictedReward": "dreamset.behaviors.rewards.functions",
    "RawEpisode": "dreamset.datasets.episode",
    "Representation": "dreamset.core.capabilities",
    "RewardFunction": "dreamset.behaviors.base",
    "RewardModel": "dreamset.core.capabilities",
    "Rollout": "dreamset.core.records",
    "SequenceBatch": "dreamset.core.records",
    "SequenceSampler": "dreamset.datasets.sampler",
    "Source": "dreamset.datasets.sources.base",
    "SourceDescription": "dreamset.datasets.sources.base",
    "Store": "dreamset.datasets.store",
    "Trainable": "dreamset.core.capabilities",
    "Uncertain": "dreamset.core.capabilities",
    "UserError": "dreamset.core.errors",
    "WorldModel": "dreamset.models.recurrent.world_model",
    "from_registry": "dreamset.pipeline.registry.retrieval",
    "goal_conditioned": "dreamset.behaviors.goals.conditioned",
    "imagine": "dreamset.models.imagination",
    "load_behavior": "dreamset.pipeline.artifacts.saved_models",
    "load_policy": "dreamset.pipeline.artifacts.acting",
    "load_world_model": "dreamset.pipeline.artifacts.saved_models",
    "map_state": "dreamset.core.states",
    "predict": "dreamset.models.imagination",
    "write_store": "dreamset.datasets.writer",
}

__version__ = version("dreamset")

moved.install()


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(PUBLIC)}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
