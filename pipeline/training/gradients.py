"""One step down a loss, and what must not feel it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dreamset.pipeline.training.optimizers import Clipping


@contextmanager
def frozen(module: object) -> Iterator[None]:
    """No parameter of ``module`` asks for gradients within the block; those that did do so again after it."""
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
    """One step down ``loss``, every network's gradient clipped by itself; returns ``gradient_norm/NETWORK`` before.

    A network without parameters is left out.

    Raises:
        FloatingPointError: if a gradient is not finite; nothing has been changed then.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norms = {f"gradient_norm/{name}": clipping(parameters) for name, parameters in networks.items() if parameters}
    require_finite(torch.stack(list(norms.values())), loss)
    optimizer.step()
    return norms


def require_finite(norms: Tensor, loss: Tensor) -> None:
    """Refuses gradients that would ruin the networks.

    Raises:
        FloatingPointError: if a norm is not finite.
    """
    if not norms.isfinite().all():
        raise FloatingPointError(f"the gradient is not finite (loss {loss.item():g}); lower the learning rate")
