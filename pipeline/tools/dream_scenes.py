"""What a dream is about: a recorded episode, or a policy, with or without an environment to play its actions in."""

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamset.behaviors.base import Acting
from dreamset.behaviors.goals.conditioned import GoalConditioned
from dreamset.core.capabilities import FeaturePolicy, acting_spec
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.datasets import Store
from dreamset.environments.checked import require_fit
from dreamset.pipeline.artifacts.acting import LEARN, load_acting
from dreamset.pipeline.artifacts.goals import goals_of, towards
from dreamset.pipeline.artifacts.saved_models import POLICY, SavedModel, read_description
from dreamset.pipeline.config.settings import Part, Validation
from dreamset.pipeline.evaluation import dreaming
from dreamset.pipeline.evaluation.dreaming import Reality
from dreamset.pipeline.export.program import require_pair
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.settings import Evaluate

HELD_OUT = "validation"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked for; None: the default."""

    episode: str | None = None  # best, median, worst or a number
    world_model: Path | None = None
    policy: Path | None = None
    with_policy: bool = False
    context: int | None = None
    horizon: int | None = None
    samples: int = 8
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that a dream needs, loaded."""

    model: Any
    described: SavedModel
    folder: Path  # of the model
    store: Store
    evaluation: Evaluate
    validation: Validation
    objective: Part | None  # of the model, if the configuration has it
    policy: Path | None
    context: int
    seed: int
    device: torch.device
    runs: Path

    @property
    def name(self) -> str:
        """The objective and the seed of the model."""
        return stages.run_key(self.described.lineage["objective"], self.described.lineage["seed"])

    def generator(self) -> torch.Generator:
        """Of all random numbers of the dream."""
        return torch.Generator(self.device).manual_seed(self.seed)


@dataclass(frozen=True, slots=True)
class Scene:
    """A dream before it is decoded, and reality beside it."""

    reality: Reality
    trajectory: ImaginedTrajectory[Any]
    title: str
    name: str  # for the file


def scene_of(setting: Setting, options: Options) -> Scene:
    """The dream that was asked for."""
    _require_count("--context", setting.context)
    _require_count("--samples", options.samples)
    if options.horizon is not None:
        _require_count("--horizon", options.horizon)
    samples = options.samples if setting.model.noise_distribution != "none" else 1  # else all dreams would be equal
    if setting.policy is None:
        return _recorded(setting, options, samples)
    if setting.evaluation.environment is None:
        return _policy_without_environment(setting, options, samples)
    return _policy_in_environment(setting, options, samples)


def _require_count(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} is {value}; allowed: 1 or more; change it")


def _recorded(setting: Setting, options: Options, samples: int) -> Scene:
    """A recorded episode, dreamed with its own actions."""
    number, rows = _episode(setting, options.episode or "median", setting.context + 1)
    left = rows - setting.context
    horizon = min(left, max(setting.validation.horizons)) if options.horizon is None else options.horizon
    if horizon > left:
        raise UserError(
            f"--horizon is {horizon}, but episode {number} of {setting.store.path} has {left} rows after the "
            f"{setting.context} observed ones; choose --horizon {left} or less"
        )
    reality = _rows(setting, number, setting.context + horizon)
    policy = dreaming.recorded_actions(setting.model, reality, context=setting.context, device=setting.device)
    return Scene(
        reality,
        _dream(setting, reality, policy, horizon, samples),
        f"{_kind(setting.store, number)} episode {number}, return {setting.store.returns[number]:.4g}",
        f"episode-{number}",
    )


def _policy_without_environment(setting: Setting, options: Options, samples: int) -> Scene:
    """The policy, imagined from the first rows of a recorded episode. Nobody knows what would really happen."""
    log.warning(
        "dataset.environment is null, so the policy's actions cannot be played: reality is known in the %d observed "
        "rows only",
        setting.context,
    )
    number, rows = _episode(setting, options.episode or "median", setting.context)
    model, acting = _load_policy(setting)
    reality = _rows(setting, number, setting.context)
    if isinstance(model, GoalConditioned):
        last = min(rows, setting.context + _horizon(setting, options))
        reality = reality.with_goal(_rows(setting, number, last))
    trajectory = dreaming.dream_of_acting(
        model,
        reality.batch(model.spec, setting.device),
        acting,
        horizon=_horizon(setting, options),
        samples=samples,
        generator=setting.generator(),
    )
    title = f"its policy imagined from the start of {_kind(setting.store, number)} episode {number}"
    return Scene(reality, _without_goal(model, trajectory), title, f"policy-from-{number}")


def _policy_in_environment(setting: Setting, options: Options, samples: int) -> Scene:
    """The policy from the start of an episode of the evaluation; its imagined actions are played in the environment."""
    text, evaluation = options.episode or "0", setting.evaluation
    if not text.isdecimal():
        raise UserError(
            f"--episode is {text}; allowed with a policy: 0, 1, 2, ..., the number of an episode of the evaluation; "
            "leave out the policy to dream of recorded episodes"
        )
    model, acting = _load_policy(setting)
    environment_settings = require_environment(evaluation.environment, stage="dream", remedy="leave out the policy")
    traceback_of = str(setting.runs / "dream" / setting.name)
    make = environment_factory(environment_settings, evaluation.episode_limits, output=traceback_of)
    with closing(make()) as environment:
        require_fit(environment, acting_spec(model))
        reality, trajectory = dreaming.act_and_dream(
            model,
            acting,
            environment,
            seed=evaluation.evaluation.seed + int(text),
            context=setting.context,
            horizon=_horizon(setting, options),
            samples=samples,
            generator=setting.generator(),
        )
    title = f"its policy from the start of evaluation episode {text}; truth: the same actions in the environment"
    return Scene(reality, _without_goal(model, trajectory), title, f"policy-{text}")


def _without_goal(model: Any, trajectory: ImaginedTrajectory[Any]) -> ImaginedTrajectory[Any]:
    """The trajectory in the states of the world model, which decoders know."""
    return model.own(trajectory) if isinstance(model, GoalConditioned) else trajectory


def _load_policy(setting: Setting) -> tuple[Any, Acting]:
    """The world model with the goals of the policy, if it acts towards goals, and how the policy acts in it."""
    assert setting.policy is not None
    folder = setting.policy
    saved = read_description(folder, made_by=LEARN, kind=POLICY)
    require_pair(setting.folder, setting.described, folder, saved)
    model = towards(setting.model, goals_of(saved))
    acting = setting.evaluation.acting
    return model, load_acting(folder, model, setting.described, setting.device, acting=acting)


def _horizon(setting: Setting, options: Options) -> int:
    return max(setting.validation.horizons) if options.horizon is None else options.horizon


def _dream(
    setting: Setting, reality: Reality, policy: FeaturePolicy, horizon: int, samples: int
) -> ImaginedTrajectory[Any]:
    observed = reality.first(setting.context).batch(setting.model.spec, setting.device)
    return dreaming.dream_on(
        setting.model, observed, policy, horizon=horizon, samples=samples, generator=setting.generator()
    )


def _episode(setting: Setting, choice: str, least: int) -> tuple[int, int]:
    """The number and the rows of an episode of the store.

    Raises:
        UserError: if there is no such episode, or it is shorter than ``least``.
    """
    store = setting.store
    held_out = store.split(HELD_OUT)
    held_out = held_out[store.lengths[held_out] >= least]
    ranked = held_out[np.argsort(store.returns[held_out], kind="stable")]
    places = {"best": len(ranked) - 1, "median": (len(ranked) - 1) // 2, "worst": 0}
    if choice in places:
        number = int(ranked[places[choice]]) if len(ranked) else None
    else:
        number = int(choice) if choice.isdecimal() and int(choice) < len(store) else -1
    if number == -1:
        raise UserError(
            f"--episode is {choice}; allowed: {', '.join(places)} (of the held-out episodes, by return) or 0 to "
            f"{len(store) - 1}, an episode of {store.path}"
        )
    if number is not None and not store.acted[number]:
        raise UserError(f"--episode is {choice}, which has no actions; choose another of {store.path}")
    if number is None or store.lengths[number] < least:
        which = "no held-out episode" if number is None else f"episode {number}"
        longest = store.lengths.max() if number is None else store.lengths[number]
        raise UserError(
            f"--context is {setting.context}, but {which} of {store.path} has {least} rows; choose a smaller "
            f"--context or another --episode (longest here: {longest})"
        )
    return number, int(store.lengths[number])


def _rows(setting: Setting, number: int, count: int) -> Reality:
    columns = setting.store.read(number, 0, count)
    observations = {name: columns[name] for name in setting.model.spec.observations}
    return Reality(observations, columns["action"].astype(np.float32), columns["reward"].astype(np.float32))


def _kind(store: Store, number: int) -> str:
    return "held-out" if number in store.split(HELD_OUT, acted=None) else "training"
