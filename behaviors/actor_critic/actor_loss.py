"""The actor's loss, given imagined returns."""

from torch import Tensor, nn

from dreamset.behaviors.actor_critic.gradients import ActorGradient, Decisions, DynamicsBackpropagation
from dreamset.behaviors.actor_critic.normalizers import NoNormalizer, ReturnNormalizer


class ActorLoss(nn.Module):
    """-E[sum_t w_t (objective_t + eta H(pi | s_t))]; the defaults are those of Dreamer v1.

    Args:
        gradient: the estimator of the policy gradient; v1: backpropagation.
        normalizer: the scale of returns; v1 and v2: none.
        entropy_weight: eta; v1: 0.
    """

    def __init__(
        self,
        *,
        gradient: ActorGradient | None = None,
        normalizer: ReturnNormalizer | None = None,
        entropy_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.gradient = DynamicsBackpropagation() if gradient is None else gradient
        self.normalizer = NoNormalizer() if normalizer is None else normalizer
        self.entropy_weight = entropy_weight

    def forward(self, returns: Tensor, baseline: Tensor, weights: Tensor, decisions: Decisions) -> Tensor:
        """The loss, a scalar; in training mode, the normaliser is updated with the returns first.

        Args:
            returns: V_t, [H, N], with a gradient if the estimator needs one.
            baseline: v(s_t), [H, N].
            weights: w_t, [H, N].
            decisions: the actions that led to the returns.
        """
        if self.training:
            self.normalizer.update(returns.detach())
        objective = self.gradient(returns, baseline, self.normalizer.scale, decisions)
        if self.entropy_weight:
            objective = objective + self.entropy_weight * decisions.entropy()
        return -(weights * objective).mean()
