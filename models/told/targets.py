"""Targets and weights of the losses over a window of H + 1 rows."""

import torch
from torch import Tensor


def same_episode(is_first: Tensor) -> Tensor:
    """1 until an episode begins after row 0, and 0 from there on: [B, T]."""
    begins = is_first.clone()
    begins[:, 0] = False
    return (~begins).cumprod(dim=1).to(torch.get_default_dtype())


def powers(base: float, like: Tensor) -> Tensor:
    """base^t for every row t of ``like`` [B, T]: [T]."""
    return base ** torch.arange(like.shape[1], device=like.device, dtype=like.dtype)


def transition_weights(known: Tensor, rho: float) -> Tensor:
    """The weights of the losses of transitions: [B, T - 1] for rows 1 to T - 1.

    rho^(t - 1) T / (T - 1), and zero after the end of the episode. With a zero in row 0, the mean over all T rows is
    then the published (1 / H) sum_{t=1..H} rho^(t - 1) l_t.
    """
    rows = known.shape[1]
    return known[:, 1:] * powers(rho, known[:, 1:]) * (rows / (rows - 1))


def td_target(reward: Tensor, is_terminal: Tensor, value: Tensor, discount: float) -> Tensor:
    """y_t = r_t + gamma (1 - end_t) V(o_t), [B, T]: only a true end has no future, a time limit has."""
    return reward + discount * value.masked_fill(is_terminal, 0)
