"""The redundancy-reduction objective: state and observation must agree in each dimension and only there."""

from typing import Any

from torch import Tensor

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import mlp
from dreamset.objectives.base import Objective, require_embedding


class BarlowTwins(Objective):
    """L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2 (Barlow Twins, Zbontar et al. 2021, equations 1 and 2).

    C_ij is the correlation, over all rows of the batch, of dimension i of a linear projection of the features with
    dimension j of a dense network on the embedding. Without negatives, the loss needs no large batch. A constant
    projection has no correlation, so the two sides cannot agree by ignoring the observation; neither side needs a
    target network or a stopped gradient.

    Args:
        model: the world model; it must embed its observations.
        weight: factor on the loss.
        redundancy: lambda, the weight of the off-diagonal correlations.
        size: number of dimensions that are correlated.
        hidden, layers: of the dense network on the embedding.
    """

    uses_unacted = True

    def __init__(
        self, model: Representation[Any], *, weight: float, redundancy: float, size: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        require_embedding(model, self)
        self.weight = weight
        self.redundancy = redundancy
        self.state_head = mlp(model.feature_size, size, hidden=hidden, layers=0)
        self.observation_head = mlp(model.embedding_size, size, hidden=hidden, layers=layers)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """Each row's share of L [B, T]; their mean is L."""
        states = self.state_head(rollout.features).flatten(0, 1)  # [BT, size]
        observations = self.observation_head(rollout.embedding).flatten(0, 1)  # [BT, size]
        value = barlow_twins(states, observations, self.redundancy)
        return {"barlow_twins": Loss(value.reshape(batch.reward.shape), self.weight)}


def barlow_twins(left: Tensor, right: Tensor, redundancy: float) -> Tensor:
    """Each row's share of the loss of two views: [M] from [M, K] each; the mean over rows is the loss.

    C is a mean over rows of products. Replacing one factor of each square by a row's own products leaves the mean
    unchanged.
    """
    left, right = standardized(left), standardized(right)
    correlation = left.t() @ right / len(left)  # [K, K]
    missing = 1 - correlation.diagonal()  # [K]
    own = left * right  # [M, K], this row's products of equal dimensions
    agreement = ((1 - own) * missing).sum(-1)
    all_pairs = ((left @ correlation) * right).sum(-1)
    off_diagonal = all_pairs - own @ correlation.diagonal()
    return agreement + redundancy * off_diagonal


def standardized(values: Tensor) -> Tensor:
    """Each column with mean 0 and standard deviation 1 over the rows: [M, K]; a constant column stays near 0."""
    centred = values - values.mean(0)
    return centred / (centred.square().mean(0) + 1e-6).sqrt()
