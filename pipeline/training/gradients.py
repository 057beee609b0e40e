"""Gradient steps."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from dreamset.pipeline.training.optimizers import Clipping


class NotFiniteError(FloatingPointError):
    """An update whose loss or gradient is NaN or infinite. It has not changed the networks.

    Args:
        figures: losses and norms of the update, by name.
        remedy: the settings to change, for the message.
    """

    def __init__(self, figures: Mapping[str, Tensor], remedy: str) -> None:
        self.figures = {name: float(value) for name, value in figures.items()}
        wrong, others = (
            ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items() if math.isfinite(value) is finite)
            for finite in (False, True)
        )
        super().__init__(f"{wrong} ({others or 'no value is finite'}); {remedy}")


def apply_gradients(
    optimizer: Optimizer,
    networks: Mapping[str, Sequence[Tensor]],
    loss: Tensor,
    *,
    clipping: Clipping,
    figures: Mapping[str, Tensor],
    remedy: Callable[[], str],
    inputs: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """One step of ``optimizer`` on ``loss``. The gradients of each network are clipped separately.

    Args:
        optimizer: of all networks.
        networks: parameters by name.
        loss: to minimise.
        clipping: of gradients.
        figures: the terms of the loss, for the message.
        remedy: returns the settings to change if a gradient is not finite, for the message.
        inputs: the parameters that get gradients; None: all that the loss depends on.

    Returns:
        ``gradient_norm/NETWORK`` before clipping, for each network that has a gradient.

    Raises:
        NotFiniteError: if the loss or a gradient is not finite. All parameters are then as before.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=inputs)
    norms = {
        f"gradient_norm/{name}": clipping(parameters)
        for name, parameters in networks.items()
        if any(parameter.grad is not None for parameter in parameters)
    }
    require_finite([loss.detach(), *norms.values()], {**figures, **norms}, remedy)
    optimizer.step()
    return norms


def require_finite(values: Sequence[Tensor], figures: Mapping[str, Tensor], remedy: Callable[[], str]) -> None:
    """Refuses an update that would make the networks useless. All values are checked at once: a GPU waits only once.

    Raises:
        NotFiniteError: if a value is not finite; it has ``figures`` and ``remedy``.
    """
    if values and not torch.stack([value.reshape(()) for value in values]).isfinite().all():
        raise NotFiniteError(figures, remedy())


def rate_of(optimizer: Optimizer) -> str:
    """The highest learning rate of the optimiser's groups, as text."""
    return f"{max(float(group['lr']) for group in optimizer.param_groups):g}"
