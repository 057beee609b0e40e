"""Text in margins of video frames, never over the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LINE = 18  # height in pixels of a line of text
_SIZE, _PAD = 13, 4
_FONT = ImageFont.load_default(_SIZE)


def with_captions(
    frame: NDArray[np.uint8], head: Sequence[str], rows: Sequence[str], *, least_width: int = 0
) -> NDArray[np.uint8]:
    """A frame [H, W, 3] below the lines of ``head`` and to the right of a label for each of its equal ``rows``.

    The result is wide enough for every line. Frames of one video have different texts: ``least_width``, the largest
    ``text_width`` of them all, makes them equally wide.
    """
    left = text_width(rows)
    top, height = LINE * len(head) + _PAD, len(frame)
    width = max(left + frame.shape[1], text_width(head), least_width)
    canvas = Image.new("RGB", (width, top + height), "black")
    draw: Any = ImageDraw.Draw(canvas)
    for number, line in enumerate(head):
        draw.text((_PAD, _PAD // 2 + number * LINE), line, font=_FONT, fill="white")
    for number, label in enumerate(rows):
        middle = top + height * (2 * number + 1) // (2 * len(rows))
        draw.text((_PAD, middle), label, font=_FONT, fill="white", anchor="lm")
    pixels = np.array(canvas)
    pixels[top:, left : left + frame.shape[1]] = frame
    return pixels


def text_width(lines: Sequence[str]) -> int:
    """The width in pixels of the longest line, with its margins."""
    return max(int(np.ceil(_FONT.getlength(line))) + 2 * _PAD for line in lines)
