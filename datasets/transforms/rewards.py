"""Rewards: scaled, clipped, or computed anew."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.base import EpisodeTransform


@dataclass(frozen=True)
class ScaleReward(EpisodeTransform):
    """``scale`` * reward + ``shift``; known reference scores no longer hold and are taken out."""

    scale: float = 1.0
    shift: float = 0.0

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """In float64, so that the rounding to float32 happens once."""
        return replace(raw, rewards=raw.rewards.astype(np.float64) * self.scale + self.shift)


@dataclass(frozen=True)
class ClipReward(EpisodeTransform):
    """Rewards between ``low`` and ``high``; known reference scores no longer hold and are taken out."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"ClipReward from {self.low} to {self.high}: low must be below high; fix the transform")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """NaN stays NaN, for the check to find."""
        return replace(raw, rewards=np.clip(raw.rewards.astype(np.float64), self.low, self.high))


@dataclass(frozen=True)
class RelabelReward(EpisodeTransform):
    """Rewards from a Python function, named ``module:function``.

    It is called once per episode with ``observations`` and ``privileged`` (name -> [N + 1, ...]), ``actions`` [N, A]
    and ``rewards`` [N], all as keyword arguments, and returns the N new rewards; reward t is for going from row t to
    row t + 1. Its file's checksum enters the provenance. Naming it runs its module's code: only name your own.
    """

    function: str
    code_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        source = inspect.getsourcefile(self._resolve())
        if source is None or not Path(source).is_file():
            raise UserError(
                f"reward function {self.function!r} is in no file, so that nothing says what it did; save it"
            )
        object.__setattr__(self, "code_sha256", file_sha256(Path(source)))

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with the function's rewards.

        Raises:
            UserError: if the function fails or returns anything but N numbers.
        """
        arguments = {
            "observations": raw.observations,
            "privileged": raw.privileged,
            "actions": raw.actions,
            "rewards": raw.rewards,
        }
        try:
            rewards = np.asarray(self._resolve()(**arguments))
        except Exception as error:
            raise UserError(f"{raw.name}: the reward function {self.function} failed with {error!r}; fix it") from error
        if rewards.shape != (len(raw.actions),) or rewards.dtype.kind not in "fiub":
            got = f"{rewards.dtype}{list(rewards.shape)}"
            raise UserError(
                f"{raw.name}: the reward function {self.function} returned {got}, expected {len(raw.actions)} numbers"
            )
        return replace(raw, rewards=rewards)

    def _resolve(self) -> Callable[..., Any]:
        module, _, name = self.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # the module is the person's own code
            raise UserError(
                f"reward function {self.function!r} cannot be imported ({error!r}); name it as module:function, and "
                f"its module's folder in PYTHONPATH"
            ) from error
        if not inspect.isfunction(found):
            raise UserError(f"reward function {self.function!r} is a {type(found).__name__}, not a function; fix it")
        return found


def without_reference(description: SourceDescription) -> SourceDescription:
    """Scores of random and expert policies under the old rewards would normalise the new ones wrongly."""
    kept = {name: value for name, value in description.provenance.items() if name not in _REFERENCE}
    return replace(description, provenance=kept)


_REFERENCE = ("ref_min_score", "ref_max_score")
