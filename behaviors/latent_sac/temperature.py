"""The temperature of the entropy bonus, tuned automatically."""

import math

import torch
from torch import Tensor, nn

from dreamset.core.spec import ActionSpec


class Temperature(nn.Module):
    """alpha > 0, which grows while the policy's entropy is below a target and falls while it is above.

    The loss is ln alpha (H - target), as in the published code; its gradient does not shrink with alpha. The paper's
    loss has alpha instead of ln alpha (Haarnoja et al. 2018b, section 5).

    Args:
        action: the dataset's actions.
        initial: alpha before the first update.
        entropy_per_dimension: the target for continuous actions, in nats per dimension of actions in [-1, 1], where a
            uniform policy has ln 2 (published: -1).
        entropy_share: the target for discrete actions, as a share of the entropy of a uniform policy.
    """

    def __init__(
        self,
        action: ActionSpec,
        *,
        initial: float = 1.0,
        entropy_per_dimension: float = -1.0,
        entropy_share: float = 0.5,
    ) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)))
        uniform = math.log(action.size)
        self.target = entropy_share * uniform if action.discrete else entropy_per_dimension * action.size

    def forward(self) -> Tensor:
        """alpha, a scalar without gradient."""
        return self.log.detach().exp()

    def loss(self, entropy: Tensor) -> Tensor:
        """A scalar, given the policy's mean entropy in nats; its gradient reaches only alpha."""
        return self.log * (entropy.detach() - self.target)
