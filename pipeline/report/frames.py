"""Shows images of any number of channels in colour and at a size that can be seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_HEIGHT, MOST_HEIGHT = 128, 320  # pixels of an image in a video
MOST_WIDTH = 640


def as_rgb(images: NDArray[Any]) -> NDArray[Any]:
    """Images [..., H, W, C] as [..., H, W, 3].

    Three channels are red, green and blue, one is grey. Other numbers are taken as a stack of frames, of which the last
    one is shown: three channels if their number is a multiple of three, otherwise one.
    """
    frame = images[..., -3:] if images.shape[-1] % 3 == 0 else images[..., -1:]
    return np.broadcast_to(frame, (*frame.shape[:-1], 3))


def difference(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
    """The error of predicted images in [0, 1] as images in [0, 1]: grey without error, brighter where too bright."""
    shown: NDArray[Any] = np.clip((prediction - truth) / 2 + 0.5, 0, 1)
    return shown


def resized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One image [H, W, C] as [H, W, 3] at the size of videos, by a whole factor.

    Small images are enlarged by repetition, large ones are reduced by means of blocks.
    """
    height, width, _ = image.shape
    colored = as_rgb(image)
    smaller = -(-max(height / MOST_HEIGHT, width / MOST_WIDTH) // 1)
    if smaller > 1:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colored)).reduce(int(smaller)))
    larger = max(1, min(-(-LEAST_HEIGHT // height), MOST_WIDTH // width))
    return colored.repeat(larger, axis=0).repeat(larger, axis=1)
