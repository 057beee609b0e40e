"""Minari datasets, read from their HDF5 file: Minari's own readers refuse the files of each other's versions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.hdf5 import descend, members, opened, read
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import Codec, ImageCodec, VectorCodec
from dreamset.datasets.sources.minari_infos import InfoScan, info_name, scan_infos
from dreamset.datasets.sources.minari_metadata import load_metadata
from dreamset.datasets.sources.minari_spaces import Space, action_codec, codec_of, leaves

_EPISODE = re.compile(r"episode_(\d+)")


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]  # below the episode's group
    codec: Codec

    def read(self, group: h5py.Group, where: str, *, rows: int) -> Array:
        values = read(descend(group, self.path, where), where, rows=rows)
        return self.codec.decode(values, f"{where}: {'/'.join(self.path)!r}")


class MinariSource:
    """The episodes of a local Minari dataset.

    ``observations`` names the model inputs (default: all of the observation space); ``privileged`` names infos or
    observations that only probes see (default: every numeric info with one row per observation).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
    ) -> None:
        self._metadata = load_metadata(Path(path))
        self._file = self._metadata.file
        self._action, self._action_codec = action_codec(self._metadata.action_space, str(self._file))
        with opened(self._file) as file:
            self._episodes = _episode_names(file, str(self._file))[: _checked_limit(episodes)]
            self._infos = scan_infos(file, self._episodes, str(self._file))
        inputs, self._ignored_observations = _observation_fields(self._metadata.observation_space)
        infos = _info_fields(self._infos, inputs)
        self._observations = self._select("observations", observations, inputs, default=inputs)
        self._privileged = self._select("privileged", privileged, {**inputs, **infos}, default=infos)
        if not self._observations:
            raise UserError(f"{self._file}: no observation to learn from is selected, available are {sorted(inputs)}")

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return len(self._episodes)

    def describe(self) -> SourceDescription:
        """What each episode holds and where it comes from."""
        return SourceDescription(
            observations={name: field.codec.spec for name, field in self._observations.items()},
            privileged={name: field.codec.spec for name, field in self._privileged.items()},
            action=self._action,
            provenance=self._provenance,
        )

    def read(self, number: int) -> RawEpisode:
        """Episodes by ascending number in the file."""
        name = self._episodes[number]
        with opened(self._file) as file:
            return self._read(file[name], f"{name} of {self._file}")

    def _select(
        self, setting: str, names: Sequence[str] | None, known: Mapping[str, _Field], *, default: Mapping[str, _Field]
    ) -> dict[str, _Field]:
        chosen = list(default) if names is None else [names] if isinstance(names, str) else list(names)
        ignored = {**self._ignored_observations, **self._infos.ignored}
        for name in chosen:
            if name not in known:
                reason = f"cannot be a column ({ignored[name]})" if name in ignored else "does not exist"
                raise UserError(
                    f"{self._file}: {name!r} of the setting '{setting}' {reason}; available are {sorted(known)}"
                )
        return {name: known[name] for name in chosen}

    def _read(self, group: h5py.Group, where: str) -> RawEpisode:
        rewards = _rewards(group, where)
        transitions = len(rewards)
        return RawEpisode(
            name=where,
            observations=_read_fields(self._observations, group, where, transitions + 1),
            actions=_Field(("actions",), self._action_codec).read(group, where, rows=transitions),
            rewards=rewards,
            terminated=_is_terminated(group, transitions, where),
            privileged=_read_fields(self._privileged, group, where, transitions + 1),
        )

    @cached_property
    def _provenance(self) -> Mapping[str, Any]:
        return {
            "format": "minari",
            **self._metadata.origin,
            "env_id": self._metadata.environment,
            "file": self._file.name,
            "sha256": file_sha256(self._file),
            "jpeg": self._has_jpeg(),
            "episodes": len(self._episodes),
            "ignored_infos": dict(self._infos.ignored),
            "ignored_observations": dict(self._ignored_observations),
        }

    def _has_jpeg(self) -> bool:
        with opened(self._file) as file:
            group = file[self._episodes[0]]
            return any(
                isinstance(field.codec, ImageCodec)
                and field.codec.is_encoded(descend(group, field.path, str(self._file)))
                for field in (*self._observations.values(), *self._privileged.values())
            )


def _checked_limit(episodes: int | None) -> int | None:
    if episodes is not None and episodes < 1:
        raise UserError(f"episodes is {episodes}, allowed is 1 or more, or null for all; mend the ingest settings")
    return episodes


def _episode_names(file: h5py.File, where: str) -> list[str]:
    """By number: their order in the file is that of writing, or alphabetical (1, 10, 2)."""
    numbered = {int(match[1]): name for name in members(file, where) if (match := _EPISODE.fullmatch(name))}
    if not numbered:
        raise UserError(f"{where}: holds no groups named 'episode_<number>'; it is no Minari dataset or an empty one")
    return [numbered[number] for number in sorted(numbered)]


def _observation_fields(space: Space) -> tuple[dict[str, _Field], dict[str, str]]:
    fields: dict[str, _Field] = {}
    ignored: dict[str, str] = {}
    for path, leaf in leaves(space).items():
        codec = codec_of(leaf)
        if codec is None:
            ignored[info_name(path) or "observation"] = f"{leaf['type']} without a fixed number of values"
        else:
            name = info_name(path) or ("image" if codec.spec.is_image else "state")
            fields[name] = _Field(("observations", *path), codec)
    return fields, ignored


def _info_fields(infos: InfoScan, taken: Mapping[str, _Field]) -> dict[str, _Field]:
    fields = {}
    for path, shape in infos.shapes.items():
        name = info_name(path)
        fields[f"infos.{name}" if name in taken else name] = _Field(("infos", *path), VectorCodec(shape))
    return fields


def _read_fields(fields: Mapping[str, _Field], group: h5py.Group, where: str, rows: int) -> dict[str, Array]:
    return {name: field.read(group, where, rows=rows) for name, field in fields.items()}


def _rewards(group: h5py.Group, where: str) -> Array:
    rewards = read(descend(group, ("rewards",), where), where)
    if rewards.dtype.kind not in "fiub" or rewards.ndim != 1 or not len(rewards):
        got = f"{rewards.dtype}{list(rewards.shape)}"
        raise UserError(f"{where}: 'rewards' is {got}, needed is one number per transition; drop or mend the episode")
    return rewards


def _is_terminated(group: h5py.Group, transitions: int, where: str) -> bool:
    """A time limit, or neither flag, is no true end."""
    flags = read(descend(group, ("terminations",), where), where, rows=transitions)
    if flags.ndim != 1:
        got = list(flags.shape)
        raise UserError(f"{where}: 'terminations' has shape {got}, needed is [{transitions}]; drop or mend the episode")
    return bool(flags[-1])
