"""A folder of image files in the order of their names: one column, with one row per file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.encoded import PEEK, first_image
from dreamset.datasets.sources.folder import list_files
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, PathTable

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")


@dataclass(frozen=True, slots=True)
class ImageFiles(PathTable):
    """The JPEG and PNG files directly in a folder; frame_2.png comes before frame_10.png.

    The column has the name "", because the folder's name says what it shows.
    """

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """The number of files, and the shape of the first image."""
        files = list_files(self.path, IMAGE_ENDINGS)
        try:
            with files[0].open("rb") as file:
                image = first_image(file.read(PEEK))
        except OSError as error:
            raise _unreadable(where, files[0].name, error) from error
        return {"": ArrayHeader((len(files),), np.dtype(object), () if image is None else image)}

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """The bytes of the given files, which the column's codec decodes."""
        files = list_files(self.path, IMAGE_ENDINGS)[rows]
        values = np.empty(len(files), object)
        for row, path in enumerate(files):
            try:
                values[row] = np.frombuffer(path.read_bytes(), np.uint8)
            except OSError as error:
                raise _unreadable(where, path.name, error) from error
        return dict.fromkeys(columns, values)


def _unreadable(where: str, name: str, error: OSError) -> UserError:
    return UserError(f"{where}: {name} is not readable ({error.strerror or error}); check the file's permissions")
