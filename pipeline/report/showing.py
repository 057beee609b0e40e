"""Images and videos only show results, so a failure to draw one never costs a result."""

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamset.core.files import write_bytes

log = logging.getLogger(__name__)

LONGEST_REASON = 300  # characters
BLANK = base64.b64decode(  # a white pixel, as png
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


@contextmanager
def shown(what: object) -> Iterator[None]:
    """Runs a block that only shows results. If it fails, a warning names ``what`` and the reason, and the block ends.

    The traceback is logged at the level DEBUG. An interruption passes.
    """
    try:
        yield
    except Exception as error:  # drawing may fail in any way: a codec, a renderer, a font, a full disk, our mistake
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_REASON]
        log.warning("%s is left out, because it could not be made (%s); nothing else depends on it", what, reason)
        log.debug("%s could not be made", what, exc_info=True)


def write_blank(path: Path) -> None:
    """Writes an empty png: an output that DVC expects, even if nothing can be drawn."""
    write_bytes(path, BLANK)
