"""Loads a learned behaviour together with its way of acting."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dreamset.behaviors.base import Acting, Learner, RewardFunction, WayOfActing
from dreamset.behaviors.controller import Agent
from dreamset.behaviors.planning.planner import ActsByPlanning
from dreamset.core.capabilities import require
from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.pipeline.artifacts.description import PREDICTION
from dreamset.pipeline.artifacts.goals import goals_of, towards
from dreamset.pipeline.artifacts.rewards import reward_of, set_up, sharing_networks
from dreamset.pipeline.artifacts.saved_models import (
    SavedModel,
    load_behavior,
    load_reward,
    load_world_model,
    read_description,
)
from dreamset.pipeline.config.instantiate import build_part

LEARN = "dreamset learn-behavior"

log = logging.getLogger(__name__)


def load_policy(
    policy: str | Path,
    world_model: str | Path,
    device: str | torch.device = "cpu",
    *,
    acting: WayOfActing | None = None,
    seed: int = 0,
) -> Agent:
    """A learned policy with the world model that it was learned in, ready to act row by row.

    Args:
        policy: folder of the saved policy, such as ``runs/behavior/reconstruction-0/model``.
        world_model: folder of the saved world model, such as ``runs/world_model/reconstruction-0/model``.
        device: where both run.
        acting: how it acts, such as a ``Planning``; None: the policy acts itself. Networks that its reward function
            needs are those that were saved with the policy.
        seed: of the random numbers of the model's states, and of the search.

    Raises:
        UserError: if a folder holds no such model, or they lack what acting needs.
    """
    device = torch.device(device)
    model, described = load_world_model(world_model, device)
    behavior = load_behavior(policy, device)
    model = towards(model, goals_of(read_description(user_path(policy), made_by=LEARN)))
    if acting is not None:
        acting = acting.with_reward(_learned(acting.reward, user_path(policy), device))
    way = behavior if acting is None else acting.of(behavior)
    require_fit(way, model, described)
    return Agent(way.controller(model), generator=torch.Generator(device).manual_seed(seed))


def _learned(reward: RewardFunction | None, policy: Path, device: torch.device) -> RewardFunction:
    """``reward`` with the networks that were saved with the policy, or the policy's own reward."""
    if reward is None:
        return reward_of(policy, device)
    if not reward.networks():  # those that a caller has trained stay
        saved = read_description(policy, made_by=LEARN)
        set_up(reward, saved.lineage["feature_size"], saved.spec.action, device=device)
        if reward.networks():
            load_reward(reward, policy)
    return reward.to(device)


def load_acting(
    policy: Path, model: Any, described: SavedModel, device: torch.device, *, acting: Mapping[str, Any] | None
) -> Acting:
    """How the behaviour in the folder ``policy`` acts: itself, or as ``acting`` says.

    Args:
        policy: folder of the saved policy.
        model: the world model that it acts in, with the goals of the policy.
        described: of this model.
        device: of the model.
        acting: a ``WayOfActing`` as the configuration has it; None: the behaviour acts itself.

    Raises:
        UserError: if the folder has no behaviour, or model or behaviour lack what acting needs.
    """
    way = acting_of(load_behavior(policy, device), policy, device, acting=acting)
    require_fit(way, model, described)
    return way


def acting_of(
    behavior: Learner,
    policy: Path,
    device: torch.device,
    *,
    acting: Mapping[str, Any] | None,
    learning: RewardFunction | None = None,
) -> Acting:
    """How a loaded behaviour acts; arguments as for ``load_acting``.

    Args:
        behavior: of the folder ``policy``.
        policy: folder of the saved policy.
        device: of the behaviour.
        acting: see ``load_acting``.
        learning: the reward function with which the behaviour learns on, if its settings are those with which the
            behaviour was learned. Acting then uses its networks, which follow their training.

    Raises:
        UserError: if the reward of ``acting`` has networks or constants that were not saved with this behaviour.
    """
    if acting is None:
        return behavior
    way: WayOfActing = build_part(acting)
    reward = reward_of(policy, device) if way.reward is None else _restored(way.reward, acting, policy, device)
    if learning is not None and reward.networks():
        reward = sharing_networks(learning)
    return way.with_reward(reward).of(behavior)


def _restored(reward: RewardFunction, acting: Mapping[str, Any], policy: Path, device: torch.device) -> RewardFunction:
    """The reward of ``acting`` with its networks and constants, which must have been saved with the policy."""
    saved = read_description(policy, made_by=LEARN)
    set_up(reward, saved.lineage["feature_size"], saved.spec.action, device=device)
    learned_with = saved.lineage.get("reward")
    if reward.state_dict() and learned_with != acting["reward"]:
        raise UserError(
            f"acting.reward is {acting['reward']}, whose networks or constants are learned with a behaviour, but "
            f"{policy} was learned with {learned_with}; use reward/weight=fixed, or learn the behaviour with it"
        )
    return load_reward(reward, policy) if reward.state_dict() else reward


def require_fit(way: Acting, model: Any, described: SavedModel) -> None:
    """Checks that ``way`` can act in the model, before anything is played. A long horizon of plans is a warning.

    Raises:
        UserError: if the model lacks a capability, there is no critic or no policy that planning needs, or it cannot
            search such actions.
    """
    planning = way.planning if isinstance(way, ActsByPlanning) else None
    by = type(way).__name__ if planning is None else f"planning for the reward {type(planning.reward).__name__}"
    require(model, *way.acting_needs, by=by)
    way.controller(model)
    if planning is not None:
        warn_of_horizon(planning.optimizer.horizon, described.lineage)


def warn_of_horizon(horizon: int, lineage: Mapping[str, Any]) -> None:
    """Warns if plans look further ahead than the windows that the world model was trained on.

    Args:
        horizon: steps of a plan.
        lineage: of the world model. Models of earlier releases do not have these facts and give no warning.
    """
    known = lineage.get(PREDICTION)
    if known is None or horizon < known["rows"]:  # row 0 is the start of a plan
        return
    errors = {int(step): error for step, error in known["reward_error"].items()}
    nearest = min(errors, key=lambda step: (abs(step - horizon), step), default=None)
    measured = (
        ""
        if nearest is None
        else f"; the squared error of its predicted reward is {errors[nearest]:.4g} at +{nearest}"
        + ("" if nearest == horizon else ", the nearest measured step")
    )
    log.warning(
        "acting.optimizer.horizon is %d steps, but the world model was trained on windows of %d rows%s; lower the "
        "horizon, or train with a larger world_model_training.batch.length",
        horizon,
        known["rows"],
        measured,
    )
