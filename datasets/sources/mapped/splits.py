"""Splits that a file declares: for each split a list of the groups that belong to it, as in robomimic's masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from dreamset.core.errors import UserError
from dreamset.datasets.hdf5 import descend, describe_dtype, opened, read, require_plain
from dreamset.datasets.sources.segments import Piece
from dreamset.datasets.splits import TRAIN, VALIDATION

_MOST_NAMES = 1 << 24


@dataclass(frozen=True, slots=True)
class DeclaredSplits:
    """For each split the column with the names of its groups; none if ``columns`` is empty."""

    columns: Mapping[str, str]

    @classmethod
    def checked(cls, setting: Mapping[str, str] | None, boundaries: Mapping[str, object]) -> "DeclaredSplits":
        """From the setting ``splits``.

        Raises:
            UserError: if it does not name both splits, or episodes are not groups.
        """
        if setting and set(setting) != {TRAIN, VALIDATION}:
            raise UserError(
                f"splits names {sorted(setting)}; allowed: null, or both {TRAIN} and {VALIDATION}; fix the settings"
            )
        if setting and "groups" not in boundaries:
            raise UserError("splits list names of groups, so boundaries must be {groups: ...}; fix the ingest settings")
        return cls(dict(setting or {}))

    def of_pieces(self, file: Path, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
        """The episodes that are listed in ``file``, each with its split.

        Raises:
            UserError: if a list is missing or not text, a group is in both splits, or no episode is in any.
        """
        splits = self._by_name(file)
        listed = [(piece, splits[name]) for piece in pieces if (name := _group_name(piece, file)) in splits]
        if not listed:
            raise UserError(f"{file}: {self.columns} list none of the {len(pieces)} episodes; fix the setting 'splits'")
        return listed

    def _by_name(self, file: Path) -> dict[str, str]:
        splits: dict[str, str] = {}
        for split, column in self.columns.items():
            for name in _names(file, column):
                if splits.setdefault(name, split) != split:
                    lists = sorted(self.columns.values())
                    raise UserError(f"{file}: {name!r} is in both lists, {lists}; fix the file or the setting 'splits'")
        return splits


def _group_name(piece: Piece, file: Path) -> str:
    """The name of the group that holds an episode, without its parents."""
    return piece.table.name.removeprefix(f"{file.name}:").rpartition("/")[2]


def _names(file: Path, column: str) -> list[str]:
    where = str(file)
    with opened(file) as root:
        dataset = descend(root, column.strip("/").split("/"), where)
        place = f"{where}: {column!r}"
        text = h5py.check_string_dtype(dataset.dtype)
        if text is None or dataset.ndim != 1 or dataset.size > _MOST_NAMES:
            raise UserError(
                f"{place} holds {describe_dtype(dataset)} of shape {list(dataset.shape)}, expected a list of names of "
                f"groups; fix the setting 'splits'"
            )
        if text.length is None:  # text of any length, which the numeric reader refuses
            require_plain(dataset, place)
            return [str(name) for name in dataset.asstr()[()]]
        return [name.decode(errors="replace").rstrip("\0") for name in read(dataset, where).tolist()]
