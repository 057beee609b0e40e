"""The symmetric logarithm of Dreamer v3, which compresses large magnitudes and keeps the sign."""

import torch
from torch import Tensor


def symlog(value: Tensor) -> Tensor:
    """sign(x) ln(|x| + 1) (Dreamer v3, "Robust predictions")."""
    return torch.sign(value) * torch.log1p(torch.abs(value))


def symexp(value: Tensor) -> Tensor:
    """sign(y) (exp(|y|) - 1), the inverse of ``symlog``."""
    return torch.sign(value) * torch.expm1(torch.abs(value))
