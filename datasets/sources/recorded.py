"""Handles formats with as many observations as actions, in which the final observation is missing."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array, Lost, RawEpisode


class FinalTransition(StrEnum):
    """How to treat the last action of an episode."""

    DROP = "drop"  # omit it, with its reward and the terminal flag
    REPEAT = "repeat"  # keep it and repeat the last observation as its arrival

    @classmethod
    def checked(cls, value: str) -> "FinalTransition":
        """The setting ``final_transition``.

        Raises:
            UserError: if the value is unknown.
        """
        try:
            return cls(value)
        except ValueError:
            allowed = " or ".join(cls)
            raise UserError(f"final_transition is {value!r}; allowed: {allowed}; fix the ingest settings") from None

    def transitions(self, rows: int) -> int:
        """Number of transitions of an episode with ``rows`` rows."""
        return rows - 1 if self is FinalTransition.DROP else rows

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """A valid episode, from one with N rows in every column."""
        if self is FinalTransition.DROP:
            lost = Lost(transitions=1, reward=float(np.sum(raw.rewards[-1:])), terminal=raw.terminated)
            actions = None if raw.actions is None else raw.actions[:-1]
            return replace(raw, actions=actions, rewards=raw.rewards[:-1], terminated=False, lost=lost)
        observations, privileged = _last_repeated(raw.observations), _last_repeated(raw.privileged)
        return replace(raw, observations=observations, privileged=privileged)


def _last_repeated(columns: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.concatenate([values, values[-1:]]) for name, values in columns.items()}
