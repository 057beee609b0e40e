"""Parameters: who trains them, and a while without gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

OptimizerFactory = Callable[[ParamsT], Optimizer]


@contextmanager
def frozen_parameters(module: object) -> Iterator[None]:
    """Within the block, gradients flow through ``module`` but do not reach its parameters. Then they are as before."""
    assert isinstance(module, nn.Module)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
