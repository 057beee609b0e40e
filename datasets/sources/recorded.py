"""Formats with as many observations as actions: nobody recorded where the last action of an episode led."""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array, RawEpisode


class FinalTransition(StrEnum):
    """What becomes of the last action of an episode."""

    DROP = "drop"  # it is left out, and with it its reward and the terminal flag
    REPEAT = "repeat"  # it is kept, and the last observation is repeated as its arrival

    @classmethod
    def checked(cls, value: str) -> "FinalTransition":
        """The setting ``final_transition``.

        Raises:
            UserError: if there is no such choice.
        """
        try:
            return cls(value)
        except ValueError:
            allowed = " or ".join(cls)
            raise UserError(f"final_transition is {value!r}; allowed: {allowed}; fix the ingest settings") from None

    def transitions(self, rows: int) -> int:
        """How many transitions an episode of so many rows has."""
        return rows - 1 if self is FinalTransition.DROP else rows

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """A sound episode made of one with N rows of everything."""
        if self is FinalTransition.DROP:
            return RawEpisode(raw.name, raw.observations, raw.actions[:-1], raw.rewards[:-1], False, raw.privileged)
        observations, privileged = _last_repeated(raw.observations), _last_repeated(raw.privileged)
        return RawEpisode(raw.name, observations, raw.actions, raw.rewards, raw.terminated, privileged)


def _last_repeated(columns: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.concatenate([values, values[-1:]]) for name, values in columns.items()}
