"""The pendulum's exact dynamics as a model to plan in: what a planner earns when nothing is wrong with its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.acting.playing import timed_episodes
from benchmarks.offline_suite.episodes import Returns
from dreamset.behaviors.planning.planner import Planning
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import DataSpec
from dreamset.datasets import Store
from dreamset.environments.pendulum import ZERO_REWARD
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.stages.settings import Evaluate

GRAVITY, STEP_SECONDS = 10.0, 0.05  # of Gymnasium's Pendulum-v1, with a pole of length and mass 1
TORQUE, SPEED = 2.0, 8.0  # largest ones
REPEAT = 2  # environment steps per action, as in the dataset's environment


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Plans in the exact dynamics; returns metrics and (return, length) of every episode."""
    settings = Evaluate.of(**work["evaluate"])
    planning: Planning = build_part(settings.acting)
    controller = planning.controller(ExactPendulum(Store.open(work["store"]).spec), None)
    episodes, figures = timed_episodes(controller, settings)
    return figures, [(episode.total_reward, len(episode.rewards)) for episode in episodes]


@dataclass(frozen=True)
class Pendulum:
    """Angle from upright and speed, and the reward on arriving there."""

    angle: Tensor  # [N]
    speed: Tensor  # [N]
    reward: Tensor  # [N]


class ExactPendulum:
    """What planning needs of a world model, for the dataset ``pendulum_state``, whose observation is the state.

    Args:
        spec: of the dataset.
    """

    predicts_ends = False
    noise_distribution = "none"
    feature_size = 3

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    def initial(self, count: int) -> Pendulum:
        """Upright and at rest."""
        return Pendulum(*torch.zeros(3, count))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Nothing is random."""
        return torch.zeros((*shape, 0), device=generator.device)

    def features(self, state: Pendulum) -> Tensor:
        """Angle, speed and reward, [N, 3]."""
        return torch.stack([state.angle, state.speed, state.reward], dim=-1)

    def filter(
        self,
        state: Pendulum,  # noqa: ARG002
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
    ) -> Pendulum:
        """The observation is the state."""
        cosine, sine, speed = observations["state"].unbind(-1)
        return Pendulum(torch.atan2(sine, cosine), speed, torch.zeros_like(speed))

    def step(self, state: Pendulum, action: Tensor, noise: Tensor) -> Pendulum:  # noqa: ARG002
        """The state after ``REPEAT`` steps of the environment."""
        angle, speed, cost = state.angle, state.speed, torch.zeros_like(state.speed)
        torque = TORQUE * action[:, 0].clamp(-1, 1)
        for _ in range(REPEAT):
            from_upright = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
            cost = cost + from_upright**2 + 0.1 * speed**2 + 0.001 * torque**2
            gained = (1.5 * GRAVITY * angle.sin() + 3 * torque) * STEP_SECONDS
            speed = (speed + gained).clamp(-SPEED, SPEED)
            angle = angle + speed * STEP_SECONDS
        return Pendulum(angle, speed, 1 + cost / REPEAT / ZERO_REWARD)

    def continuation(self, trajectory: ImaginedTrajectory[Pendulum]) -> Tensor:
        """Episodes end at their time limit only."""
        return torch.ones_like(trajectory.features[..., 0])

    def reward(self, trajectory: ImaginedTrajectory[Pendulum]) -> Tensor:
        """On arrival at each row, [H + 1, N]."""
        return trajectory.features[..., 2]
