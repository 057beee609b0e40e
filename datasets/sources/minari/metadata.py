"""Reads the metadata of a Minari dataset: files, spaces and origin."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.hdf5 import opened, translated
from dreamset.datasets.sources.minari.spaces import Space, codec_of, leaves, row_shape
from dreamset.datasets.sources.minari.storage import LeafPath

HDF5_FILE = "main_data.hdf5"
_METADATA_FILE = "metadata.json"
_ORIGIN = (
    "dataset_id",
    "minari_version",
    "algorithm_name",
    "author",
    "code_permalink",
    "description",
    "env_spec",
    "eval_env_spec",
    "ref_min_score",
    "ref_max_score",
    "num_episodes_average_score",
)


@dataclass(frozen=True, slots=True)
class MinariMetadata:
    """The entries of Minari's metadata that the reader needs."""

    folder: Path  # of the data and the metadata
    layout: str  # "hdf5", "arrow" or "parquet"
    total_episodes: int  # 0 if unknown
    observation_space: Space
    action_space: Space
    origin: Mapping[str, Any]  # plain json values

    @property
    def environment(self) -> str | None:
        """The Gymnasium id of the recorded environment, if known."""
        try:
            return str(json.loads(self.origin["env_spec"])["id"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def observation_paths(self) -> list[LeafPath]:
        """The paths of all supported observations."""
        return [
            ("observations", *path)
            for path, leaf in leaves(self.observation_space).items()
            if codec_of(leaf) is not None
        ]

    @property
    def row_shapes(self) -> dict[LeafPath, tuple[int, ...]]:
        """The declared row shape of every leaf of both spaces."""
        sides = {"observations": self.observation_space, "actions": self.action_space}
        return {(side, *path): row_shape(leaf) for side, space in sides.items() for path, leaf in leaves(space).items()}


def load_metadata(path: Path) -> MinariMetadata:
    """The metadata of the dataset in ``path`` or ``path/data``.

    Raises:
        UserError: if the folder, a file or an entry is missing or damaged.
    """
    folder = _data_folder(path)
    written = folder / _METADATA_FILE
    metadata = _from_json(written) if written.exists() else _from_attributes(folder)
    spaces = {side: _space(metadata, side, folder) for side in ("observation_space", "action_space")}
    return MinariMetadata(
        folder,
        layout=str(metadata.get("data_format", "hdf5")),
        total_episodes=_total_episodes(metadata, folder),
        observation_space=spaces["observation_space"],
        action_space=spaces["action_space"],
        origin={key: metadata[key] for key in _ORIGIN if key in metadata},
    )


def _data_folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder; run the collect stage first if it records or downloads the dataset; otherwise "
            "choose the folder of a Minari dataset, which contains 'data'"
        )
    return path / "data" if (path / "data").is_dir() else path


def _from_json(written: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(written.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{written}: not readable json ({error}); copy or download the dataset again") from error
    if not isinstance(metadata, dict):
        raise UserError(
            f"{written}: contains a {type(metadata).__name__}, expected an object; download the dataset again"
        )
    return metadata


def _from_attributes(folder: Path) -> dict[str, Any]:
    """Minari 0.4 and older store the metadata in the HDF5 file."""
    if not (folder / HDF5_FILE).exists():
        raise UserError(
            f"{folder}: contains neither {_METADATA_FILE} nor {HDF5_FILE}; "
            f"choose the folder of a Minari dataset, which contains 'data'"
        )
    with opened(folder / HDF5_FILE) as file, translated(str(folder / HDF5_FILE)):
        return {name: _plain(value) for name, value in file.attrs.items()}


def _plain(value: Any) -> Any:
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(plain, bytes):
        return plain.decode("utf-8", "replace")
    return plain if isinstance(plain, str | int | float | list) else str(plain)


def _total_episodes(metadata: Mapping[str, Any], folder: Path) -> int:
    total = metadata.get("total_episodes", 0)
    if not isinstance(total, int) or total < 0:
        raise UserError(f"{folder}: 'total_episodes' in the metadata is {total!r}, expected a count; download it again")
    return total


def _space(metadata: Mapping[str, Any], side: str, folder: Path) -> Space:
    if side not in metadata:
        raise UserError(f"{folder}: the metadata lack {side!r}; download the dataset again")
    value = metadata[side]
    try:
        space = json.loads(value) if isinstance(value, str | bytes) else value
        for leaf in leaves(space).values():
            row_shape(leaf)
            codec_of(leaf)  # raises here if the description of a space is incomplete
    except UserError as error:
        raise UserError(f"{folder}: {side!r} in the metadata describes {error}") from error
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{folder}: {side!r} in the metadata is not a serialised space ({error!r}); fix it") from error
    return dict(space)
