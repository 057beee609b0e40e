"""A Minari dataset: N + 1 observations and the N actions that follow them; privileged columns become infos."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from dreamset.core.files import replaced_folder
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.core.variables import environment_variable
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.store import Store
from dreamset.datasets.store_source import StoreSource

T = TypeVar("T")

_CHUNK_BYTES = 64 << 20  # of episodes in memory before they go to disk


def minari_id(store: Store) -> str:
    """The id that the exported dataset gets, from the store's name."""
    return f"dreamset/{re.sub(r'[^a-z0-9]+', '-', store.path.resolve().name.lower()).strip('-') or 'store'}-v0"


def export_minari(store: Store, folder: Path, on_episode: Callable[[], None]) -> None:
    """Writes the store below ``folder``, which becomes a Minari root, under ``minari_id``.

    Images are stored as they are. A single observation stands alone, several are a Dict. One-hot actions become
    Discrete. ``MINARI_DATASETS_PATH=folder`` lets Minari find it.
    """
    import minari

    source = StoreSource(store.path)
    space = _observation_space(store.spec.observations)
    reference = store.info["source"]
    with (
        replaced_folder(folder) as fresh,
        environment_variable("MINARI_DATASETS_PATH", str(fresh.resolve())),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # Minari's advice for datasets that will be published
        dataset: minari.MinariDataset | None = None
        for chunk in _chunks(source, on_episode):
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
        size += sum(np.asarray(values).nbytes for values in raw.observations.values())
        on_episode()
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _buffer(number: int, raw: RawEpisode, spec: DataSpec) -> Any:
    from minari.data_collector import EpisodeBuffer

    last = np.arange(len(raw.rewards)) == len(raw.rewards) - 1
    return EpisodeBuffer(
        id=number,
        observations=_single(raw.observations) if _stands_alone(spec.observations) else dict(raw.observations),
        actions=raw.actions.argmax(axis=1) if spec.action.discrete else raw.actions,
        rewards=raw.rewards.tolist(),
        terminations=(last & raw.terminated).tolist(),
        truncations=(last & (not raw.terminated)).tolist(),
        infos=dict(raw.privileged) or None,
    )


def _single(columns: Mapping[str, T]) -> T:
    (column,) = columns.values()
    return column


def _stands_alone(specs: Mapping[str, ArraySpec]) -> bool:
    """A lone column has no name in Minari; readers call it by its kind."""
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
