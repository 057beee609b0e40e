"""The index of a store: rows, return, split and marks per episode, so that opening a store reads no shard."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.datasets.layout import INDEX
from dreamset.datasets.windows import Indices

Marks: TypeAlias = NDArray[np.bool_]  # [episodes]

ACTED, DEMONSTRATION = "acted", "demonstration"


@dataclass(frozen=True, slots=True)
class EpisodeIndex:
    """Rows, return, split and marks of every episode, in the order of the shards."""

    rows: Indices  # [episodes]
    returns: NDArray[np.float64]  # [episodes]
    split: NDArray[np.uint8]  # [episodes] position in the manifest's list of split names
    acted: Marks  # whether the actions are known
    demonstration: Marks  # whether the episode is worth imitating

    def write(self, folder: Path) -> str:
        """Writes the index and returns its checksum; equal values give equal bytes.

        Marks that are all true are left out, so that the files of stores without such marks stay as they were.
        """
        arrays: dict[str, Any] = {"rows": self.rows.astype(np.int32), "returns": self.returns, "split": self.split}
        marks = {ACTED: self.acted, DEMONSTRATION: self.demonstration}
        arrays |= {name: values for name, values in marks.items() if not values.all()}
        content = io.BytesIO()
        np.savez(content, **arrays)
        (folder / INDEX).write_bytes(content.getvalue())
        return hashlib.sha256(content.getvalue()).hexdigest()


def read_index(folder: Path, checksum: str) -> EpisodeIndex:
    """The index of the store in ``folder``.

    Raises:
        UserError: if it is missing, damaged, or its checksum differs from the manifest's.
    """
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{path}: no such file; copy the whole dataset again or run the ingest stage again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(f"{path}: its checksum is not the one in dataset.json; copy it or run the ingest stage again")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            rows = arrays["rows"].astype(np.int64)
            marks = {
                name: arrays[name].astype(bool) if name in arrays else np.ones(len(rows), bool)
                for name in (ACTED, DEMONSTRATION)
            }
            index = EpisodeIndex(rows, arrays["returns"], arrays["split"], **marks)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged ({error}); run the ingest stage again") from error
    for values in (index.rows, index.returns, index.split, index.acted, index.demonstration):
        values.flags.writeable = False
    return index


def split_codes(splits: Mapping[str, Indices], episodes: int) -> NDArray[np.uint8]:
    """The split of each episode, as its position in ``splits``.

    Raises:
        ValueError: if an episode is in no split or in several.
    """
    numbers = np.concatenate([np.zeros(0, np.int64), *splits.values()])
    if not np.array_equal(np.sort(numbers), np.arange(episodes)):
        raise ValueError(f"each of the {episodes} episodes must be in exactly one split")
    codes = np.zeros(episodes, np.uint8)
    for code, members in enumerate(splits.values()):
        codes[members] = code
    return codes
