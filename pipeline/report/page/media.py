"""Images and videos on the page: embedded, or links where they are large, and a still of each video for print."""

import os
from pathlib import Path

import imageio.v3 as iio

from dreamset.pipeline.report.page.html import data_uri, escape, key_mark
from dreamset.pipeline.report.showing import shown

LARGEST_PAGE = 30 << 20  # bytes of embedded images and videos; the others are links


class Media:
    """Embeds images and videos until the page is large; later ones become links."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.room = LARGEST_PAGE

    def address(self, path: Path) -> str:
        """The address of a file: its content, or its place beside the page."""
        size = path.stat().st_size
        if size > self.room:
            return escape(Path(os.path.relpath(path, self.page.parent)).as_posix(), quote=True)
        self.room -= size
        return data_uri(path.read_bytes(), path.suffix)

    def video(self, path: Path, caption: str, series: int) -> str:
        """A video with its caption, and a still in its place on paper; nothing if there is none."""
        if not path.exists():
            return ""
        source = self.address(path)
        player = f'<video controls loop muted playsinline preload="auto" src="{source}"></video>'
        head = f"<figcaption>{key_mark(series)}{escape(caption)}</figcaption>"
        return f"<figure>{head}{player}{self._still(path, caption)}</figure>"

    def _still(self, path: Path, caption: str) -> str:
        """The frame in the middle of a video, which only print shows; nothing if it cannot be read or is large."""
        still = b""
        with shown(f"the still of {path}"):
            frames = iio.imread(path)
            still = iio.imwrite("<bytes>", frames[len(frames) // 2], extension=".png")
        if not still or len(still) > self.room:
            return ""
        self.room -= len(still)
        text = escape(f"{caption}: the frame in the middle of the video", quote=True)
        return f'<img class="print" src="{data_uri(still, ".png")}" alt="{text}">'

    def image(self, path: Path, text: str) -> str:
        """An image with its text; nothing if there is none."""
        if not path.exists():
            return ""
        return f'<figure><img src="{self.address(path)}" alt="{escape(text, quote=True)}"></figure>'
