"""Lambda-returns of imagined and of recorded trajectories."""

import torch
from torch import Tensor


def lambda_return(reward: Tensor, value: Tensor, discount: Tensor, *, lambda_: float) -> Tensor:
    """V_t = r_t + discount_t ((1 - lambda) v_{t+1} + lambda V_{t+1}), V_H = v_H (Dreamer v1, equations 5 and 6).

    Args:
        reward: r_t on arrival at the state of row t, [H, N].
        value: v at the states of rows 1 to H, [H, N]; the last row is the bootstrap value.
        discount: from row t to row t + 1, [H, N].
        lambda_: 0 gives one-step targets, 1 the discounted sum with a bootstrap at the horizon.

    Returns:
        The targets of rows 0 to H - 1, [H, N].
    """
    if not reward.shape == value.shape == discount.shape:
        shapes = f"{reward.shape}, {value.shape}, {discount.shape}"
        raise ValueError(f"reward, value and discount must have the same shape, got {shapes}")
    inputs = reward + discount * (1 - lambda_) * value
    following = value[-1]
    returns: list[Tensor] = []
    for t in reversed(range(reward.shape[0])):
        following = inputs[t] + discount[t] * lambda_ * following
        returns.append(following)
    return torch.stack(returns[::-1])


def replayed_return(reward: Tensor, imagined: Tensor, discount: Tensor, known: Tensor, *, lambda_: float) -> Tensor:
    """Lambda-returns of recorded rows, which bootstrap from returns imagined at the next rows.

    R_t = r_t + discount_t ((1 - lambda) V_{t+1} + lambda R_{t+1}) where the outcome of row t is known, otherwise
    R_t = V_t (Dreamer v3 of 2024 and in Nature, "Critic learning").

    Args:
        reward: r_t as recorded on arrival at row t, [T, B].
        imagined: V_t, the return of the trajectory imagined from row t, [T, B].
        discount: from row t to row t + 1, zero at a true end, [T, B].
        known: [T, B] bool, whether row t + 1 belongs to the same episode or row t is a true end.
        lambda_: as in ``lambda_return``.

    Returns:
        R_t of all rows, [T, B].
    """
    following = torch.cat([imagined[1:], imagined[-1:]])  # the last row's value is multiplied by zero
    return lambda_return(torch.where(known, reward, imagined), following, known * discount, lambda_=lambda_)
