"""Targets of the critics: one step, or several with Retrace."""

import torch
from torch import Tensor


def retrace(reward: Tensor, discount: Tensor, value: Tensor, taken: Tensor, trace: Tensor) -> Tensor:
    """y_t = r_{t+1} + discount_{t+1} (V_{t+1} + c_{t+1} (y_{t+1} - Q_{t+1})) (Munos et al. 2016, equation 4).

    This recursion equals Q_t + sum_k (prod_{j <= k} discount c) delta_{t+k} with
    delta_t = r_{t+1} + discount_{t+1} V_{t+1} - Q_t. With c = 0 it is the one-step target.

    Args:
        reward: on arrival after transition t, [B, T - 1].
        discount: of the row of arrival, zero at a true end, [B, T - 1].
        value: V of the row of arrival, [B, T - 1].
        taken: Q of the state and the recorded action of transition t, [B, T - 1].
        trace: c of the recorded action of transition t, [B, T - 1]; zero if this transition does not follow the
            previous one in the same episode.

    Returns:
        y of every transition, [B, T - 1]; the last one of a window has a one-step target.
    """
    steps = reward.shape[1]
    targets = [reward[:, -1] + discount[:, -1] * value[:, -1]]
    for t in reversed(range(steps - 1)):
        following = value[:, t] + trace[:, t + 1] * (targets[-1] - taken[:, t + 1])
        targets.append(reward[:, t] + discount[:, t] * following)
    return torch.stack(targets[::-1], dim=1)


def traces(log_policy: Tensor, log_behavior: Tensor, known: Tensor, *, lambda_: float) -> Tensor:
    """c = lambda min(1, pi(a | f) / mu(a | f)) of the recorded actions, and zero where the transition is unknown.

    Args:
        log_policy: ln pi of the recorded actions, of any shape.
        log_behavior: ln mu of them, the policy that recorded them.
        known: bool, in the same shape.
        lambda_: 0 to 1.
    """
    return lambda_ * (log_policy - log_behavior).clamp_max(0).exp() * known
