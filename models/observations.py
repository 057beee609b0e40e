"""Observations themselves as a state: a world model without memory and without dynamics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.models.distributions import Distribution
from dreamset.models.encoders import Standardize
from dreamset.models.layers import images_to_planes


@dataclass(frozen=True)
class ObservationState:
    """The observations of one row as a vector, and nothing else."""

    vector: Tensor  # [..., F]


class Observations(nn.Module):
    """s_t = o_t: vectors and patch features standardised and images reduced, side by side.

    Nothing is learned but a reward head. There are no dynamics, so nothing can be imagined or planned. Cloning and
    Q-learning on the features are the usual baselines on raw observations.

    Args:
        spec: the data's specification.
        reward_head: constructs p(r | o) from F, for comparison with other models; no behaviour needs it.
        image_edge: largest height and width of an image in the state; larger ones are averaged over their pixels.

    Raises:
        UserError: if there is no observation, or ``image_edge`` is not positive.
    """

    headline = "reward_error_h0"
    noise_distribution = "none"
    uses_unacted = True
    embedding_size = 0  # an objective that compares states with embeddings would compare observations with themselves

    def __init__(self, spec: DataSpec, *, reward_head: Callable[[int], nn.Module], image_edge: int = 16) -> None:
        super().__init__()
        if not spec.observations:
            raise UserError("the dataset has no observations: name at least one in `dataset.source.observations`")
        if image_edge < 1:
            raise UserError(f"world_model.image_edge is {image_edge}; allowed: 1 or more; set it in this range")
        self.spec = spec
        self.names = sorted(spec.observations)
        self.readers = nn.ModuleList(self._reader(name, image_edge) for name in self.names)
        self.feature_parts = {name: _size(spec.observations[name], image_edge) for name in self.names}
        self.feature_size = sum(self.feature_parts.values())
        self.reward_head = reward_head(self.feature_size)

    def _reader(self, name: str, image_edge: int) -> nn.Module:
        array = self.spec.observations[name]
        if array.is_image:
            return ReducedImage(image_edge)
        standardize = Standardize(self.spec.statistics[name])
        return nn.Sequential(standardize, nn.Flatten(-2)) if array.is_patches else standardize

    def initial(self, count: int) -> ObservationState:
        """Zeros; ``filter`` ignores it."""
        return ObservationState(next(self.parameters()).new_zeros(count, self.feature_size))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """[*shape, 0]: states are deterministic."""
        return torch.zeros((*shape, 0), device=generator.device)

    def features(self, state: ObservationState) -> Tensor:
        """The observations as a vector, [..., F]."""
        return state.vector

    def observe(
        self,
        batch: SequenceBatch,
        generator: torch.Generator,  # noqa: ARG002 - states are deterministic
        start: ObservationState | None = None,  # noqa: ARG002 - the model has no memory
    ) -> Rollout[ObservationState]:
        """The observations of every row."""
        vector = self._read(batch.observations)
        return Rollout(ObservationState(vector), vector, vector[..., :0])

    def filter(
        self,
        state: ObservationState,  # noqa: ARG002 - the model has no memory
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
    ) -> ObservationState:
        """The observations of the row alone."""
        return ObservationState(self._read(observations))

    def _read(self, observations: Mapping[str, Tensor]) -> Tensor:
        read = [reader(observations[name]) for name, reader in zip(self.names, self.readers, strict=True)]
        return torch.cat(read, dim=-1)

    def reward(self, trajectory: ImaginedTrajectory[ObservationState]) -> Tensor:
        """E[r | o] on arrival, [H + 1, N]."""
        return self._reward(trajectory.features).mean

    def _reward(self, features: Tensor) -> Distribution:
        distribution: Distribution = self.reward_head(features)
        return distribution

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The reward head; the other parts of a world model do not exist."""
        names = ("encoder", "dynamics", "continue_head", "ensemble")
        return {**dict.fromkeys(names), "reward_head": self.reward_head}

    def watchers(self) -> Sequence[str]:
        """None."""
        return ()

    def losses(self, rollout: Rollout[ObservationState], batch: SequenceBatch) -> dict[str, Loss]:
        """-ln p(r_t | o_t); 0 in episodes without actions, which are often videos without rewards."""
        loss = -self._reward(rollout.features).log_prob(batch.reward)
        return {"reward": Loss(loss if batch.acted is None else loss * batch.acted)}

    def figures(self, rollout: Rollout[ObservationState], batch: SequenceBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """None of its own."""
        return {}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:  # noqa: ARG002
        """None."""
        return []


class ReducedImage(nn.Module):
    """An image of at most ``edge`` by ``edge`` pixels, each the mean of an area, as a vector."""

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, image: Tensor) -> Tensor:
        """Vectors [..., h * w * C] from ``uint8`` images [..., H, W, C]."""
        height, width, _ = image.shape[-3:]
        planes = images_to_planes(image)  # [M, C, H, W]
        reduced = nn.functional.adaptive_avg_pool2d(planes, (min(height, self.edge), min(width, self.edge)))
        return reduced.reshape(*image.shape[:-3], -1)


def _size(array: ArraySpec, image_edge: int) -> int:
    if not array.is_image:
        return array.size
    height, width, channels = array.shape
    return min(height, image_edge) * min(width, image_edge) * channels
