"""Random shifts of images, the augmentation of TD-MPC."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError


class RandomShift(nn.Module):
    """Shifts the images of each window by up to ``pixels`` in both directions; the border repeats (TD-MPC2).

    All images of a window have the same shift, so that motion stays what it was; the published code shifts every image
    on its own. In evaluation mode nothing is shifted.
    """

    def __init__(self, pixels: int = 3) -> None:
        super().__init__()
        if pixels < 0:
            raise UserError(f"RandomShift: pixels is {pixels}; allowed: 0 or more")
        self.pixels = pixels

    def forward(self, observations: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The observations [B, T, ...] by name, with shifted images; vectors are unchanged."""
        if not self.training:
            return dict(observations)
        return {
            name: shifted(value, self.offsets(len(value), generator)) if value.dtype == torch.uint8 else value
            for name, value in sorted(observations.items())
        }

    def offsets(self, count: int, generator: torch.Generator) -> Tensor:
        """Whole numbers from -pixels to pixels for ``count`` windows: [count, 2]."""
        return torch.randint(-self.pixels, self.pixels + 1, (count, 2), generator=generator, device=generator.device)


def shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Images whose pixel (y, x) shows what was at (y + offset, x + offset), or the nearest pixel inside.

    Args:
        images: [B, ..., H, W, C].
        offsets: [B, 2] whole numbers, down and to the right.
    """
    count, (height, width) = len(images), images.shape[-3:-1]
    down, right = offsets.to(images.device).unbind(-1)
    rows = (torch.arange(height, device=images.device) + down[:, None]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=images.device) + right[:, None]).clamp(0, width - 1)  # [B, W]
    window = torch.arange(count, device=images.device)[:, None, None]
    flat = images.reshape(count, -1, *images.shape[-3:]).movedim(1, 3)  # [B, H, W, T, C]
    moved = flat[window, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(3, 1).reshape(images.shape)
