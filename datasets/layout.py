"""The store on disk: a folder with flat HDF5 shards, an index of the episodes and ``dataset.json``."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import Array, Episode, EpisodeSpec

FORMAT_VERSION = 2
UNACTED_VERSION = 3  # some episodes have no actions; a release that reads only version 2 would take zeros for them
ALIGNMENT = "action_precedes_observation"
MANIFEST = "dataset.json"
INDEX = "episodes.npz"

UNACTED_EPISODES, DEMONSTRATION_EPISODES = "episodes_without_actions", "demonstrations"  # among the counts

ACTION, REWARD = "action", "reward"
IS_FIRST, IS_LAST, IS_TERMINAL = "is_first", "is_last", "is_terminal"
PRIVILEGED = "privileged."
EPISODE_ROWS, EPISODE_OFFSET, EPISODE_RETURN = "ep_len", "ep_offset", "ep_return"

_RESERVED = {ACTION, REWARD, IS_FIRST, IS_LAST, IS_TERMINAL, EPISODE_ROWS, EPISODE_OFFSET, EPISODE_RETURN}
_FLAG = ArraySpec((), "bool")

# Columns with one number per episode of the shard; all other columns have one row per observation.
EPISODE_COLUMNS = {EPISODE_ROWS: "int32", EPISODE_OFFSET: "int64", EPISODE_RETURN: "float64"}


def column_specs(fields: EpisodeSpec) -> dict[str, ArraySpec]:
    """Every column of a shard by its name in the file.

    Raises:
        UserError: if a name is not allowed for a column.
    """
    for name in (*fields.observations, *fields.privileged):
        if not name or "/" in name or name == ".":
            raise UserError(f"{name!r} is no valid column name; choose a name without '/'")
    for name in fields.observations:
        if name in _RESERVED or name.startswith(PRIVILEGED):
            raise UserError(f"the observation name {name!r} is reserved by the store; omit or rename the observation")
    return {
        **fields.observations,
        ACTION: ArraySpec((fields.action.size,), "float32"),
        REWARD: ArraySpec((), "float32"),
        IS_FIRST: _FLAG,
        IS_LAST: _FLAG,
        IS_TERMINAL: _FLAG,
        **{PRIVILEGED + name: spec for name, spec in fields.privileged.items()},
    }


def columns_of(episode: Episode) -> dict[str, Array]:
    """The rows of an episode by column name in the file."""
    return {
        **episode.observations,
        ACTION: episode.action,
        REWARD: episode.reward,
        IS_FIRST: episode.is_first,
        IS_LAST: episode.is_last,
        IS_TERMINAL: episode.is_terminal,
        **{PRIVILEGED + name: values for name, values in episode.privileged.items()},
    }


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.h5"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``dataset.json``. Equal content gives equal bytes; infinite bounds are written as text."""
    text = json.dumps(_finite(manifest), indent=1, sort_keys=True, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of ``dataset.json``.

    Raises:
        UserError: if it is missing, damaged or of an unknown version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder}: contains no {MANIFEST}, so it is not a Dreamset dataset; run the ingest stage first"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, alignment = manifest["format_version"], manifest["alignment"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error!r}); run the ingest stage again") from error
    if version not in (FORMAT_VERSION, UNACTED_VERSION) or alignment != ALIGNMENT:
        raise UserError(
            f"{path}: format version {version!r} with alignment {alignment!r}; this release reads versions "
            f"{FORMAT_VERSION} and {UNACTED_VERSION} with {ALIGNMENT!r}; run the ingest stage again or use a newer "
            f"release"
        )
    return dict(manifest)


def _finite(value: Any) -> Any:
    """Infinity and NaN as text, which ``float`` reads back."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
