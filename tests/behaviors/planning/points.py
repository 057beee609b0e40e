"""A point on a line that moves by its action: a world whose best plans are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec

CONTINUOUS = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
CHOICES = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)


@dataclass(frozen=True)
class Point:
    """Its position, [N, 1]."""

    x: Tensor


@dataclass
class Line:
    """x' = x + move + sigma noise, with the reward -x^2 on arrival; the best move from x is -x, as far as it can.

    A move is the continuous action in [-1, 1], or -1, 0 and 1 for the three choices. The filter mixes the prediction
    with the observation, so that it depends on memory; where both are right they agree.
    """

    action: ActionSpec = CONTINUOUS
    sigma: float = 0.0
    filtered: int = 0  # calls of ``filter``
    stepped: list[int] = field(default_factory=list)  # states of every call of ``step``
    noise_distribution: str = "normal"
    predicts_ends: bool = False
    feature_size: int = 1

    @property
    def spec(self) -> DataSpec:
        return DataSpec({"x": ArraySpec((1,), "float32")}, self.action, {}, {})

    def initial(self, count: int) -> Point:
        return Point(torch.zeros(count, 1))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, 1 if self.sigma else 0, generator=generator)

    def features(self, state: Point) -> Tensor:
        return state.x

    def move(self, action: Tensor) -> Tensor:
        return action @ torch.tensor([[-1.0], [0.0], [1.0]]) if self.action.discrete else action

    def filter(
        self,
        state: Point,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Point:
        self.filtered += 1
        predicted = state.x + self.move(self.action.normalize(action))
        return Point(torch.where(is_first[:, None], observations["x"], 0.5 * predicted + 0.5 * observations["x"]))

    def step(self, state: Point, action: Tensor, noise: Tensor) -> Point:
        self.stepped.append(action.shape[0])
        return Point(state.x + self.move(action) + (self.sigma * noise if self.sigma else 0))

    def reward(self, trajectory: ImaginedTrajectory[Point]) -> Tensor:
        return -trajectory.features[..., 0].square()

    def continuation(self, trajectory: ImaginedTrajectory[Point]) -> Tensor:
        return torch.ones_like(trajectory.features[..., 0])
