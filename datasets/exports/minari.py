"""Exports a store as a Minari dataset: N + 1 observations, N actions; privileged columns become infos."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from dreamset.core.disk import require_hdf5_room
from dreamset.core.files import replaced_folder
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.core.variables import environment_variable
from dreamset.datasets.episode import RawEpisode, actions_of
from dreamset.datasets.store import Store
from dreamset.datasets.store_source import StoreSource

T = TypeVar("T")

_DATA_FILE = "data/main_data.hdf5"
_CHUNK_BYTES = 64 << 20  # of episodes in memory before they are written


def minari_id(store: Store) -> str:
    """The id of the exported dataset, derived from the store's name."""
    return f"dreamset/{re.sub(r'[^a-z0-9]+', '-', store.path.resolve().name.lower()).strip('-') or 'store'}-v0"


def export_minari(store: Store, folder: Path, on_episode: Callable[[], None]) -> None:
    """Writes the store as dataset ``minari_id`` below ``folder``, which becomes a Minari root.

    Images are stored uncompressed. A single observation is stored by itself, several as a Dict. One-hot actions become
    Discrete. Set ``MINARI_DATASETS_PATH=folder`` to load the dataset with Minari.

    Raises:
        UserError: if an episode has no actions.
    """
    import minari

    store.require_actions("the export")

    source = StoreSource(store.path)
    space = _observation_space(store.spec.observations)
    reference = store.info["source"]
    with (
        replaced_folder(folder) as target,
        environment_variable("MINARI_DATASETS_PATH", str(target.resolve())),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # Minari's advice on publishing datasets
        dataset: minari.MinariDataset | None = None
        for chunk in _chunks(source, on_episode):
            file = target / minari_id(store) / _DATA_FILE
            require_hdf5_room(file, values=sum(_bytes(raw) for _, raw in chunk), groups=len(chunk))
            buffers = [_buffer(number, raw, store.spec) for number, raw in chunk]
            if dataset is not None:
                dataset.storage.update_episodes(buffers)
                continue
            dataset = minari.create_dataset_from_buffers(
                minari_id(store),
                buffers,
                observation_space=space,
                action_space=_action_space(store.spec.action),
                data_format="hdf5",
                jpeg_encoding=False,
                algorithm_name=str(reference.get("algorithm_name") or "unknown"),
                author="Dreamset",
                description=f"exported by Dreamset from the dataset with digest {store.digest}",
            )
        scores = {
            name: reference[name] for name in ("ref_min_score", "ref_max_score") if reference.get(name) is not None
        }
        if dataset is not None and scores:
            dataset.storage.update_metadata(scores)


def _chunks(source: StoreSource, on_episode: Callable[[], None]) -> Iterator[list[tuple[int, RawEpisode]]]:
    chunk: list[tuple[int, RawEpisode]] = []
    size = 0
    for number in range(source.episode_count):
        raw = source.read(number)
        chunk.append((number, raw))
        size += _bytes(raw)
        on_episode()
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _bytes(raw: RawEpisode) -> int:
    columns = (*raw.observations.values(), *raw.privileged.values(), actions_of(raw), raw.rewards)
    return sum(np.asarray(values).nbytes for values in columns)


def _buffer(number: int, raw: RawEpisode, spec: DataSpec) -> Any:
    from minari.data_collector import EpisodeBuffer

    last, actions = np.arange(len(raw.rewards)) == len(raw.rewards) - 1, actions_of(raw)
    return EpisodeBuffer(
        id=number,
        observations=_single(raw.observations) if _stands_alone(spec.observations) else dict(raw.observations),
        actions=actions.argmax(axis=1) if spec.action.discrete else actions,
        rewards=raw.rewards.tolist(),
        terminations=(last & raw.terminated).tolist(),
        truncations=(last & (not raw.terminated)).tolist(),
        infos=dict(raw.privileged) or None,
    )


def _single(columns: Mapping[str, T]) -> T:
    (column,) = columns.values()
    return column


def _stands_alone(specs: Mapping[str, ArraySpec]) -> bool:
    """Whether the only column has the name that readers give to an unnamed observation in Minari."""
    return {name: spec.is_image for name, spec in specs.items()} in ({"state": False}, {"image": True})


def _observation_space(specs: Mapping[str, ArraySpec]) -> spaces.Space[Any]:
    inner = {name: _space(spec) for name, spec in specs.items()}
    return _single(inner) if _stands_alone(specs) else spaces.Dict(inner)


def _space(spec: ArraySpec) -> spaces.Space[Any]:
    if spec.dtype == "uint8":
        return spaces.Box(0, 255, spec.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.shape, np.float32)


def _action_space(action: ActionSpec) -> spaces.Space[Any]:
    if action.discrete:
        return spaces.Discrete(action.size)
    return spaces.Box(np.array(action.low, np.float32), np.array(action.high, np.float32), dtype=np.float32)
