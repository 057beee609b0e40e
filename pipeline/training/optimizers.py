"""The optimiser of Dreamer v3, and the ways to clip a gradient.

No library fits: pytorch-optimizer folds the learning rate into LaProp's momentum and, like timm, clips every row of a
kernel separately where Dreamer v3 clips the whole tensor; heavyball has both, but compiles its updates, so every
machine would need a compiler.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from dreamset.core.errors import UserError


class LaProp(Optimizer):
    """Divides gradients by their root mean square before smoothing them (Ziyin et al. 2020, algorithm 1).

    In update k, with the gradient g::

        v     <- beta_2 v + (1 - beta_2) g^2
        m     <- beta_1 m + (1 - beta_1) g / (sqrt(v / (1 - beta_2^k)) + eps)
        theta <- theta - lr_k m / (1 - beta_1^k),          lr_k = lr min(1, k / warmup)

    Adam divides the smoothed gradient instead, which is why it needs a larger eps. The defaults are Dreamer v3's
    (Hafner et al. 2023, "Optimizer"); its published code has 0.999 for beta_2 and starts the warm-up at zero, one
    update later.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 4e-5,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-20,
        warmup: int = 1000,
    ) -> None:
        if not (lr >= 0 and eps > 0 and all(0 <= beta < 1 for beta in betas) and warmup >= 0):
            raise UserError(
                f"LaProp has lr={lr}, eps={eps}, betas={betas}, warmup={warmup}; allowed: lr >= 0, eps > 0, betas in "
                "[0, 1), warmup >= 0; change the setting"
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "warmup": warmup, "updates": 0})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update. A parameter without a gradient stays as it is, but k still counts the update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["updates"] += 1
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Updates all tensors of a group at once, which needs only a few kernels on a GPU."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "mean_square": torch.zeros_like(parameter),
                    "momentum": torch.zeros_like(parameter),
                }
        mean_squares = [self.state[parameter]["mean_square"] for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        gradients = gradients_of(parameters)
        (beta_1, beta_2), k = group["betas"], group["updates"]

        torch._foreach_mul_(mean_squares, beta_2)
        torch._foreach_addcmul_(mean_squares, gradients, gradients, 1 - beta_2)
        deviations = torch._foreach_sqrt(mean_squares)
        torch._foreach_div_(deviations, math.sqrt(1 - beta_2**k))
        torch._foreach_add_(deviations, group["eps"])
        torch._foreach_mul_(momenta, beta_1)
        torch._foreach_addcdiv_(momenta, gradients, deviations, 1 - beta_1)
        rate = group["lr"] * min(1.0, k / max(group["warmup"], 1))
        torch._foreach_add_(parameters, momenta, alpha=-rate / (1 - beta_1**k))


class Clipping(Protocol):
    """Limits the size of gradients."""

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """Changes the gradients in place; returns their common norm before."""


class GlobalNorm:
    """One factor for all gradients, so that their common norm is at most ``limit`` (Dreamer v1 and v2)."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """Clips in place; returns the common norm before."""
        return clip_grad_norm_(parameters, self.limit)


class AdaptiveClipping:
    """A factor for every tensor, so that |g| <= ratio max(|w|, floor) (Brock et al. 2021; Dreamer v3: whole tensors).

    The floor lets tensors change that start at zero.
    """

    def __init__(self, *, ratio: float = 0.3, floor: float = 1e-3) -> None:
        self.ratio = ratio
        self.floor = floor

    @torch.no_grad()
    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """Clips in place; returns the common norm before."""
        clipped = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = gradients_of(clipped)
        norms = torch.stack(torch._foreach_norm(gradients))  # [tensors]
        limits = self.ratio * torch.stack(torch._foreach_norm(clipped)).clamp_min(self.floor)
        torch._foreach_mul_(gradients, list((limits / norms).clamp_max(1).unbind()))
        total: Tensor = norms.norm()
        return total


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of all parameters that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def choose_clipping(clip_norm: float | None, clipping: Clipping | None) -> Clipping:
    """The clipping that is given, either as a limit of the common norm or as an object.

    Raises:
        UserError: if both or neither is given.
    """
    if clipping is not None and clip_norm is None:
        return clipping
    if clip_norm is not None and clipping is None:
        return GlobalNorm(clip_norm)
    raise UserError(
        f"clip_norm is {clip_norm} and clipping is {clipping}; allowed: exactly one of the two; set the other to null"
    )
