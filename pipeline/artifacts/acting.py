"""Loads a learned behaviour together with its way of acting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dreamset.behaviors.base import Acting, Learner
from dreamset.behaviors.planning.planner import Planned, Planning
from dreamset.core.capabilities import require
from dreamset.core.errors import UserError
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_reward, read_description
from dreamset.pipeline.config.instantiate import build_part

LEARN = "dreamset learn-behavior"


def load_acting(
    policy: Path, model: object, device: torch.device, *, acting: Mapping[str, Any] | None
) -> tuple[Learner, Acting]:
    """The behaviour in the folder ``policy``, and how it acts: itself, or by planning as ``acting`` says.

    Raises:
        UserError: if the folder has no behaviour, or ``model`` lacks what acting needs.
    """
    behavior = load_behavior(policy, device)
    way = acting_of(behavior, policy, device, acting=acting)
    require(model, *way.acting_needs, by=type(behavior if acting is None else way).__name__)
    return behavior, way


def acting_of(behavior: Learner, policy: Path, device: torch.device, *, acting: Mapping[str, Any] | None) -> Acting:
    """How a loaded behaviour acts: itself, or by planning as ``acting`` says.

    Raises:
        UserError: if the reward of the plans has constants that were not computed for this behaviour.
    """
    if acting is None:
        return behavior
    planning: Planning = build_part(acting)
    reward = planning.reward.to(device)
    if reward.state_dict():
        learned_with = read_description(policy, made_by=LEARN).lineage.get("reward")
        if learned_with != acting["reward"]:
            raise UserError(
                f"acting.reward is {acting['reward']}, whose constants are computed while a behaviour learns, but "
                f"{policy} was learned with {learned_with}; use reward/weight=fixed, or learn the behaviour with it"
            )
        load_reward(reward, policy)
    return Planned(planning, behavior)
