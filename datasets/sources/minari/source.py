"""Reads Minari datasets of all versions from their files; each version of Minari reads only its own files."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import Codec, ImageCodec, image_doubts
from dreamset.datasets.sources.folder import checked_limit
from dreamset.datasets.sources.minari.actions import action_decoder
from dreamset.datasets.sources.minari.arrow import ArrowStorage
from dreamset.datasets.sources.minari.hdf5 import HDF5Storage
from dreamset.datasets.sources.minari.infos import Info, InfoScan, info_name, scan_infos
from dreamset.datasets.sources.minari.location import dataset_folder
from dreamset.datasets.sources.minari.metadata import MinariMetadata, load_metadata
from dreamset.datasets.sources.minari.spaces import Space, codec_of, leaves
from dreamset.datasets.sources.minari.storage import LeafPath, MinariStorage

_STORAGES: Mapping[str, Callable[[MinariMetadata], MinariStorage]] = {
    "hdf5": HDF5Storage,
    "arrow": ArrowStorage,
    "parquet": ArrowStorage,
}
_REWARDS, _TERMINATIONS, _TRUNCATIONS = ("rewards",), ("terminations",), ("truncations",)
_PER_OBSERVATION = ("observations", "infos")  # one row more than transitions


@dataclass(frozen=True, slots=True)
class _Field:
    path: LeafPath
    codec: Codec

    def decode(self, stored: Mapping[LeafPath, Array], where: str) -> Array:
        return self.codec.decode(stored[self.path], _place(where, self.path))


class MinariSource:
    """The episodes of a local Minari dataset in any layout, named by folder or id.

    ``observations`` names the inputs of the models (default: the whole observation space). ``privileged`` names infos
    or observations for probes only. Its default is every info with one number or vector per observation in every
    episode; images, arrays with more axes and infos of some episodes only must be named.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        dataset_id: str | None = None,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
    ) -> None:
        limit = checked_limit(episodes)
        self._metadata = load_metadata(dataset_folder(path, dataset_id))
        self._storage = _open_storage(self._metadata)
        self._numbers = self._storage.numbers[:limit]
        self._action = action_decoder(self._metadata.action_space, self._storage.where)
        self._infos = scan_infos(self._storage, self._numbers)
        inputs, self._ignored_observations = _observation_fields(self._metadata.observation_space)
        infos = _by_name(self._infos, taken=inputs)
        usual = [name for name, info in infos.items() if self._infos.is_usual(info)]
        self._observations = {name: inputs[name] for name in self._chosen("observations", observations, inputs, inputs)}
        self._privileged = {
            name: inputs[name] if name in inputs else self._info_field(infos[name])
            for name in self._chosen("privileged", privileged, {**inputs, **infos}, usual)
        }
        if not self._observations:
            raise UserError(f"{self._storage.where}: no observation is selected; available: {sorted(inputs)}")

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self._numbers)

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        return SourceDescription(
            observations={name: field.codec.spec for name, field in self._observations.items()},
            privileged={name: field.codec.spec for name, field in self._privileged.items()},
            action=self._action.spec,
            provenance=self._provenance,
            doubts=image_doubts(
                {name: field.codec for name, field in {**self._privileged, **self._observations}.items()}
            ),
        )

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are sorted by number in the dataset."""
        episode = self._storage.episode(self._numbers[number])
        stored = episode.read(self._paths)
        rewards = _rewards(stored[_REWARDS], episode.where)
        for path, values in stored.items():
            _require_rows(values, len(rewards) + (path[0] in _PER_OBSERVATION), _place(episode.where, path))
        ends = {path: _end(stored[path], _place(episode.where, path)) for path in self._ends}
        actions = self._action.decode([stored["actions", *path] for path in self._action.paths], episode.where)
        return RawEpisode(
            name=episode.where,
            observations={name: field.decode(stored, episode.where) for name, field in self._observations.items()},
            actions=actions,
            rewards=rewards,
            terminated=ends[_TERMINATIONS],
            privileged={name: field.decode(stored, episode.where) for name, field in self._privileged.items()},
        )

    @cached_property
    def _paths(self) -> list[LeafPath]:
        """The leaves to read from an episode, without duplicates."""
        fields = (*self._observations.values(), *self._privileged.values())
        actions = [("actions", *path) for path in self._action.paths]
        return list(dict.fromkeys([_REWARDS, *self._ends, *actions, *(field.path for field in fields)]))

    @cached_property
    def _ends(self) -> list[LeafPath]:
        """The flags of ends; ``truncations``, which decide nothing, may be missing."""
        for number in self._numbers:
            try:
                self._storage.episode(number).layout(_TRUNCATIONS)
            except UserError:
                continue
            return [_TERMINATIONS, _TRUNCATIONS]
        return [_TERMINATIONS]

    def _chosen(
        self, setting: str, names: Sequence[str] | None, known: Collection[str], usual: Iterable[str]
    ) -> list[str]:
        selected = list(usual) if names is None else [names] if isinstance(names, str) else list(names)
        ignored = {**self._ignored_observations, **self._infos.ignored}
        for name in selected:
            if name not in known:
                reason = f"cannot be a column ({ignored[name]})" if name in ignored else "does not exist"
                raise UserError(
                    f"{self._storage.where}: {name!r} of the setting '{setting}' {reason}; available: {sorted(known)}"
                )
        return selected

    def _info_field(self, info: Info) -> _Field:
        return _Field(("infos", *info.path), info.codec(self._storage))

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        used = {info_name(field.path[1:]) for field in self._privileged.values() if field.path[0] == "infos"}
        return {
            "format": "minari",
            "layout": self._metadata.layout,
            **self._metadata.origin,
            "env_id": self._metadata.environment,
            **self._storage.fingerprint(),
            "jpeg": self._has_jpeg(),
            "episodes": len(self._numbers),
            "actions": dict(self._action.provenance),
            "ignored_infos": {name: why for name, why in sorted(self._infos.ignored.items()) if name not in used},
            "ignored_observations": dict(self._ignored_observations),
            "episodes_with_unknown_infos": self._infos.summary_of_damage,
        }

    def _has_jpeg(self) -> bool:
        """Whether the selected images are JPEG, by the first readable episode."""
        fields = (*self._observations.values(), *self._privileged.values())
        images = [field.path for field in fields if isinstance(field.codec, ImageCodec)]
        for number in self._numbers if images else ():
            try:
                episode = self._storage.episode(number)
                return any(episode.layout(path).jpeg for path in images)
            except UserError:
                continue  # `read` reports the error
        return False


def _open_storage(metadata: MinariMetadata) -> MinariStorage:
    if metadata.layout not in _STORAGES:
        raise UserError(
            f"{metadata.folder}: the data format is {metadata.layout}; supported: "
            f"{', '.join(sorted(_STORAGES))}; load it with Minari and write it again with data_format='hdf5'"
        )
    return _STORAGES[metadata.layout](metadata)


def _observation_fields(space: Space) -> tuple[dict[str, _Field], dict[str, str]]:
    fields: dict[str, _Field] = {}
    ignored: dict[str, str] = {}
    for path, leaf in leaves(space).items():
        codec = codec_of(leaf)
        if codec is None:
            ignored[info_name(path) or "observation"] = f"{leaf['type']} without a fixed number of values"
            continue
        name = info_name(path) or ("image" if codec.spec.is_image else "state")
        if name in fields:
            raise UserError(f"two parts of the observation space have the joined name {name!r}; rename one")
        fields[name] = _Field(("observations", *path), codec)
    return fields, ignored


def _by_name(scan: InfoScan, *, taken: Collection[str]) -> dict[str, Info]:
    names = {path: info_name(path) for path in sorted(scan.usable)}
    return {f"infos.{name}" if name in taken else name: scan.usable[path] for path, name in names.items()}


def _rewards(rewards: Array, where: str) -> Array:
    if rewards.dtype.kind not in "fiub" or rewards.ndim != 1 or not len(rewards):
        got = f"{rewards.dtype}{list(rewards.shape)}"
        raise UserError(f"{where}: 'rewards' is {got}, expected one number per transition; fix or drop the episode")
    return rewards


def _end(flags: Array, place: str) -> bool:
    """Whether the flag is set at the last step; a time limit, or no flag at all, is no true end."""
    if flags.ndim != 1 or flags.dtype.kind not in "fiub":
        got = f"{flags.dtype}{list(flags.shape)}"
        raise UserError(f"{place} is {got}, expected one flag per transition; fix or drop the episode")
    early = np.flatnonzero(flags[:-1])
    if early.size:
        raise UserError(
            f"{place} is set at step {early[0]} of {len(flags)}; allowed: only at the last step; the rows are several "
            f"episodes, split or drop them"
        )
    return bool(flags[-1])


def _require_rows(values: Array, rows: int, place: str) -> None:
    if len(values) != rows:
        raise UserError(
            f"{place} has {len(values)} rows, expected {rows} to match the rewards; fix or drop the episode"
        )


def _place(where: str, path: LeafPath) -> str:
    return f"{where}: {'/'.join(path)!r}"
