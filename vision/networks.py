"""What the networks of frozen encoders share: their interface, and what happens to images before and after."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchNetwork(nn.Module, ABC):
    """A network from images to a map of features, one vector per patch."""

    channels: int  # C

    @abstractmethod
    def side(self, size: int) -> int:
        """G, the patches on each side of images of ``size`` pixels.

        Raises:
            UserError: if the network cannot read images of this size.
        """

    @abstractmethod
    def forward(self, planes: Tensor) -> Tensor:
        """Normalised images [N, 3, S, S] to features [N, G, G, C]."""


def prepared(images: Tensor, size: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """``uint8`` images [N, H, W, 3] as normalised planes [N, 3, size, size]."""
    planes = images.movedim(-1, 1).float()
    if planes.shape[-2:] != (size, size):
        planes = F.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    centre, scale = planes.new_tensor(mean), planes.new_tensor(deviation)
    return (planes - centre[:, None, None]) / scale[:, None, None]


def pooled(maps: Tensor, pool: int) -> Tensor:
    """Means over ``pool`` x ``pool`` neighbours: [N, G, G, C] to [N, G / pool, G / pool, C]."""
    count, side, _, channels = maps.shape
    if pool == 1:
        return maps
    return maps.reshape(count, side // pool, pool, side // pool, pool, channels).mean(dim=(2, 4))


@torch.no_grad()
def settle_norms(network: nn.Module, planes: Tensor) -> None:
    """Gives every batch norm the statistics of its inputs for ``planes`` [N, 3, S, S]."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the statistics become those of this one batch
    network.train()(planes)
    network.eval()


def normal_(kernel: Tensor, deviation: float) -> None:
    """Fills a kernel with normal numbers, truncated at two deviations."""
    with torch.no_grad():
        nn.init.trunc_normal_(kernel, std=deviation, a=-2 * deviation, b=2 * deviation)
