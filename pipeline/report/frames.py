"""Shows images of any number of channels in colour."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_rgb(images: NDArray[Any]) -> NDArray[Any]:
    """Images [..., H, W, C] as [..., H, W, 3].

    Three channels are red, green and blue, one is grey. Other numbers are taken as a stack of frames, of which the last
    one is shown: three channels if their number is a multiple of three, otherwise one.
    """
    frame = images[..., -3:] if images.shape[-1] % 3 == 0 else images[..., -1:]
    return np.broadcast_to(frame, (*frame.shape[:-1], 3))
