"""Gradient steps, and modules that get no gradient."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dreamset.pipeline.training.optimizers import Clipping


@contextmanager
def frozen(module: object) -> Iterator[None]:
    """Parameters of ``module`` need no gradient within the block; afterwards they are as before."""
    assert isinstance(module, nn.Module)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


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
