"""Transforms of rewards: scale, clip or relabel."""

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
    """``scale`` * reward + ``shift``; removes reference scores, which are no longer valid."""

    scale: float = 1.0
    shift: float = 0.0

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with scaled rewards, in float64 so that rounding to float32 happens once."""
        return replace(raw, rewards=raw.rewards.astype(np.float64) * self.scale + self.shift)


@dataclass(frozen=True)
class ClipReward(EpisodeTransform):
    """Clips rewards to ``low`` and ``high``; removes reference scores, which are no longer valid."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"ClipReward from {self.low} to {self.high}: low must be below high; fix the transform")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with clipped rewards; NaN stays NaN, so that the check reports it."""
        return replace(raw, rewards=np.clip(raw.rewards.astype(np.float64), self.low, self.high))


@dataclass(frozen=True)
class RelabelReward(EpisodeTransform):
    """Relabels rewards with a Python function, named ``module:function``.

    The function is called once per episode with the keyword arguments ``observations`` and ``privileged`` (name -> [N +
    1, ...]), ``actions`` [N, A] (None for an episode without actions) and ``rewards`` [N]. It returns the N new
    rewards; reward t is for the transition from row t to row t + 1. The checksum of its file is added to the
    provenance. Importing the module executes its code: only name modules that you trust.
    """

    function: str
    code_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        source = inspect.getsourcefile(self._resolve())
        if source is None or not Path(source).is_file():
            raise UserError(
                f"reward function {self.function!r} is not in a file, so its code cannot be recorded; save it in a file"
            )
        object.__setattr__(self, "code_sha256", file_sha256(Path(source)))

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns."""
        return without_reference(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with new rewards.

        Raises:
            UserError: if the function fails or does not return N numbers.
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
            raise UserError(
                f"{raw.name}: the reward function {self.function} failed with {error!r}; fix the function"
            ) from error
        if rewards.shape != (len(raw.rewards),) or rewards.dtype.kind not in "fiub":
            got = f"{rewards.dtype}{list(rewards.shape)}"
            raise UserError(
                f"{raw.name}: the reward function {self.function} returned {got}, expected {len(raw.rewards)} numbers"
            )
        return replace(raw, rewards=rewards)

    def _resolve(self) -> Callable[..., Any]:
        module, _, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except Exception as error:  # the module is user code and may raise anything
            raise UserError(
                f"reward function {self.function!r} cannot be imported ({error!r}); name it as module:function and "
                f"put the folder of the module on PYTHONPATH"
            ) from error
        if not inspect.isfunction(function):
            raise UserError(
                f"reward function {self.function!r} is a {type(function).__name__}, not a function; name a function"
            )
        return function


def without_reference(description: SourceDescription) -> SourceDescription:
    """Removes reference scores: those of the old rewards would normalise the new rewards wrongly."""
    kept = {name: value for name, value in description.provenance.items() if name not in _REFERENCE}
    return replace(description, provenance=kept)


_REFERENCE = ("ref_min_score", "ref_max_score")
