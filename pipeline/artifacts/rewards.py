"""Builds reward functions, with the networks that depend on the world model."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dreamset.behaviors.base import RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.pipeline.artifacts.saved_models import POLICY, POLICY_PARTS, build, load_reward, read_description
from dreamset.pipeline.config.instantiate import build_part


def build_reward(
    node: Mapping[str, Any], features: int, action: ActionSpec, *, seed: int, device: torch.device
) -> RewardFunction:
    """The configured reward function; see ``set_up``."""
    return set_up(build_part(node), features, action, seed=seed, device=device)


def set_up(
    reward: RewardFunction, features: int, action: ActionSpec, *, seed: int = 0, device: torch.device
) -> RewardFunction:
    """``reward`` on the device with its networks, initialised from the seed.

    Args:
        reward: without networks whose sizes depend on a world model.
        features: the number of the world model's features.
        action: of the dataset.
        seed: of the initial weights.
        device: of the world model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reward.set_up(features, action)
    return reward.to(device)


def reward_of(policy: Path, device: torch.device) -> RewardFunction:
    """The reward function with which a saved policy was learned, with its networks and constants.

    Raises:
        UserError: if the folder has no policy, or its reward function is not of an allowed class.
    """
    saved = read_description(policy, made_by="dreamset learn-behavior", kind=POLICY)
    if "reward" not in saved.lineage:
        raise UserError(f"{policy} has no reward function, because an earlier release learned it; learn it again")
    reward: RewardFunction = build(saved.lineage["reward"], allowed=POLICY_PARTS)
    return load_reward(set_up(reward, saved.lineage["feature_size"], saved.spec.action, device=device), policy)


def sharing_networks(reward: RewardFunction) -> RewardFunction:
    """A copy with the same network objects, which follow their training, and constants of its own."""
    return copy.deepcopy(reward, {id(network): network for network in reward.networks().values()})
