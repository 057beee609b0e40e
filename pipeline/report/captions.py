"""Text in margins of video frames, never over the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LINE = 18  # height in pixels of a line of text
_SIZE, _PAD = 13, 4
_FONT = ImageFont.load_default(_SIZE)


def with_captions(frame: NDArray[np.uint8], head: Sequence[str], rows: Sequence[str]) -> NDArray[np.uint8]:
    """A frame [H, W, 3] below the lines of ``head`` and to the right of a label for each of its equal ``rows``.

    The result is wide enough for every line: its size depends on ``frame`` and on the lengths of the texts.
    """
    left = max(_width(label) for label in rows)
    top, height = LINE * len(head) + _PAD, len(frame)
    width = max(left + frame.shape[1], *(_width(line) for line in head))
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


def _width(text: str) -> int:
    return int(np.ceil(_FONT.getlength(text))) + 2 * _PAD
