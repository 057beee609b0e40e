"""Gradient steps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from dreamset.pipeline.training.optimizers import Clipping


def apply_gradients(
    optimizer: Optimizer, networks: Mapping[str, Sequence[Tensor]], loss: Tensor, *, clipping: Clipping
) -> dict[str, Tensor]:
    """One step of ``optimizer`` on ``loss``. The gradients of each network are clipped separately.

    Returns:
        ``gradient_norm/NETWORK`` before clipping, for each network that has parameters.

    Raises:
        FloatingPointError: if a gradient is not finite. All parameters are then as before.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norms = {f"gradient_norm/{name}": clipping(parameters) for name, parameters in networks.items() if parameters}
    require_finite(torch.stack(list(norms.values())), loss)
    optimizer.step()
    return norms


def require_finite(norms: Tensor, loss: Tensor) -> None:
    """Refuses gradients that would make the networks useless.

    Raises:
        FloatingPointError: if a norm is not finite.
    """
    if not norms.isfinite().all():
        raise FloatingPointError(f"the gradient is not finite (loss {loss.item():g}); lower the learning rate")
