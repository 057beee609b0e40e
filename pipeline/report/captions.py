"""Text in margins of video frames, never over the images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dreamset.pipeline.report.frames import resized

LINE = 18  # height in pixels of a line of text
BORDER, GAP = 2, 6  # pixels around each image of a column, and between columns
WIDEST = 1280  # pixels of columns side by side; further columns come below
_SIZE, _PAD = 13, 4
_FONT = ImageFont.load_default(_SIZE)

Color = tuple[int, int, int]  # red, green and blue in 0..255


@dataclass(frozen=True, slots=True)
class Column:
    """Images below each other in a border, with lines of text above. All parts may change with every frame.

    The last image, line and border of a column stay where another column of the video is longer.
    """

    images: Sequence[NDArray[np.uint8]]  # [T, H, W, C], one for each row
    lines: Sequence[Sequence[str]]  # [T]: as many lines in every frame and every column
    borders: Sequence[Color]  # [T]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.lines)

    def frame(self, step: int) -> NDArray[np.uint8]:
        """The bordered images of a step, [H, W, 3]."""
        step = min(step, len(self) - 1)
        return np.concatenate([_bordered(resized(images[step]), self.borders[step]) for images in self.images])


def _bordered(image: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    framed = np.empty((height + 2 * BORDER, width + 2 * BORDER, 3), np.uint8)
    framed[:] = color
    framed[BORDER:-BORDER, BORDER:-BORDER] = image
    return framed


def captioned(
    columns: Sequence[Column], heads: Sequence[Sequence[str]], rows: Sequence[str] = ()
) -> Iterator[NDArray[np.uint8]]:
    """Frames [H, W, 3] of a video, all of one size: columns side by side below the lines of a head.

    Columns for which there is no room are placed below the others.

    Args:
        columns: as long as ``heads``, or shorter.
        heads: lines of text for each frame.
        rows: a label for each row of images in the columns.
    """
    texts = [line for column in columns for lines in column.lines for line in lines]
    cell = max(max(column.frame(0).shape[1] for column in columns) + GAP, text_width(texts))
    blocks = _blocks(columns, max(1, WIDEST // cell))
    wide = max(map(text_width, heads), default=0)
    for step, head in enumerate(heads):
        parts = [_block(block, step, cell, rows) for block in blocks]
        whole = np.concatenate([_widened(part, parts[0].shape[1]) for part in parts])
        yield with_captions(whole, head, (), least_width=wide)


def _blocks(columns: Sequence[Column], most: int) -> list[Sequence[Column]]:
    """Columns in blocks of at most ``most``, as equal in size as possible."""
    count = -(-len(columns) // most)
    size = -(-len(columns) // count)
    return [columns[first : first + size] for first in range(0, len(columns), size)]


def _block(columns: Sequence[Column], step: int, cell: int, rows: Sequence[str]) -> NDArray[np.uint8]:
    frame = np.concatenate([_widened(column.frame(step), cell) for column in columns], axis=1)
    lines = [column.lines[min(step, len(column) - 1)] for column in columns]
    return with_captions(frame, (), rows, columns=lines)


def _widened(frame: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Black right of the frame, up to a width."""
    return np.pad(frame, ((0, 0), (0, width - frame.shape[1]), (0, 0)))


def with_captions(
    frame: NDArray[np.uint8],
    head: Sequence[str],
    rows: Sequence[str],
    *,
    columns: Sequence[Sequence[str]] = (),
    least_width: int = 0,
) -> NDArray[np.uint8]:
    """A frame [H, W, 3] below the lines of ``head`` and to the right of a label for each of its equal ``rows``.

    ``columns`` are lines of text directly above each of the frame's equal columns, which must be wide enough for them.
    The result is wide enough for every line of the head. Frames of one video have different texts: ``least_width``,
    the largest ``text_width`` of them all, makes them equally wide.
    """
    left = text_width(rows)
    above = LINE * len(head)
    top, height = _top(above + LINE * max(map(len, columns), default=0)), len(frame)
    width = max(left + frame.shape[1], text_width(head), least_width)
    canvas = Image.new("RGB", (width, top + height), "black")
    draw: Any = ImageDraw.Draw(canvas)
    for number, line in enumerate(head):
        draw.text((_PAD, _PAD // 2 + number * LINE), line, font=_FONT, fill="white")
    for number, lines in enumerate(columns):
        start = left + number * frame.shape[1] // len(columns)
        for below, line in enumerate(lines):
            draw.text((start + _PAD, above + _PAD // 2 + below * LINE), line, font=_FONT, fill="white")
    for number, label in enumerate(rows):
        middle = top + height * (2 * number + 1) // (2 * len(rows))
        draw.text((_PAD, middle), label, font=_FONT, fill="white", anchor="lm")
    pixels = np.array(canvas)
    pixels[top:, left : left + frame.shape[1]] = frame
    return pixels


def _top(height: int) -> int:
    """The height of a margin with text of this height."""
    return height + _PAD if height else 0


def text_width(lines: Sequence[str]) -> int:
    """The width in pixels of the longest line, with its margins; 0 without lines."""
    return max((int(np.ceil(_FONT.getlength(line))) + 2 * _PAD for line in lines), default=0)
