"""A point in a plane that moves by its action: a world whose goals, distances and best actions are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics

STEP = 0.2  # how far a point moves at most

SPEC = DataSpec(
    observations={"state": ArraySpec((2,), "float32")},
    action=ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0)),
    privileged={},
    statistics={"state": VectorStatistics((0.0, 0.0), (1.0, 1.0))},
)


@dataclass(frozen=True)
class Place:
    """Where the point is, [..., 2]."""

    x: Tensor


class Plane(nn.Module):
    """x' = x + STEP a. The state is the observation; ``encoded`` counts how many rows were encoded."""

    predicts_ends = False
    noise_distribution = "none"
    embedding_size = 0
    feature_size = 2

    def __init__(self, spec: DataSpec = SPEC) -> None:
        super().__init__()
        self.spec = spec
        self.encoded = 0

    def initial(self, count: int) -> Place:
        return Place(torch.zeros(count, 2))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.zeros(*shape, 0)

    def features(self, state: Place) -> Tensor:
        return state.x

    def observe(
        self,
        batch: SequenceBatch,
        generator: torch.Generator,  # noqa: ARG002
        start: Place | None = None,  # noqa: ARG002
    ) -> Rollout[Place]:
        x = batch.observations["state"]
        return Rollout(Place(x), x, x[..., :0])

    def filter(
        self,
        state: Place,  # noqa: ARG002
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Place:
        self.encoded += len(is_first)
        return Place(observations["state"])

    def step(self, state: Place, action: Tensor, noise: Tensor) -> Place:  # noqa: ARG002
        return Place(state.x + STEP * action)

    def continuation(self, trajectory: ImaginedTrajectory[Place]) -> Tensor:
        return torch.ones_like(trajectory.features[..., 0])


def walks(count: int, length: int, generator: torch.Generator, *, later: int = 0) -> SequenceBatch:
    """Random walks in the time rule, each with the place ``later`` rows after the last one as its goal."""
    action = torch.rand(count, length + later, 2, generator=generator) * 2 - 1
    action[:, 0] = 0
    x = torch.rand(count, 1, 2, generator=generator) * 2 - 1 + STEP * action.cumsum(1)
    first = torch.zeros(count, length, dtype=torch.bool)
    first[:, 0] = True
    never = torch.zeros_like(first)
    return SequenceBatch(
        observations={"state": x[:, :length]},
        action=action[:, :length],
        reward=torch.zeros(count, length),
        is_first=first,
        is_last=never,
        is_terminal=never,
        privileged={},
        row=torch.arange(length).expand(count, -1),
        goal={"state": x[:, -1]},
    )
