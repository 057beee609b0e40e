"""What looks wrong in a recording but may be meant: one sentence each, with the setting that changes it."""

from collections.abc import Mapping, Sequence

import numpy as np

from dreamset.datasets.episode import Array

EXAMPLES = 10  # episodes whose first rows are looked at


def one_long_episode(place: str, remedy: str) -> str:
    """Nothing cuts the rows."""
    return f"{place}: nothing marks the end of an episode, so all rows are one episode; if they are several, {remedy}"


def overwritten_arrivals(episodes: int) -> str:
    """The environment seems to have reset itself in the step that ended the episode."""
    return (
        f"the next observation in the last row of {episodes} episodes is the first observation of the next episode, or "
        f"the file ends there, as if the environment reset itself in the same step; the final observations of these "
        f"episodes count as missing; set dataset.source.autoreset=same_step if that is right, or disabled to use them"
    )


def reset_rows(place: str) -> str:
    """The environment seems to have reset itself in the step after the end of the episode."""
    return (
        f"{place}: the reward is 0 in every row after an end and rarely elsewhere, as if the environment ignored that "
        f"action and reset itself; if so, set dataset.source.autoreset=next_step: the row has a final observation"
    )


def no_rewards(place: str, known: Sequence[str]) -> str:
    """Nothing holds the reward."""
    return (
        f"{place}: none of {', '.join(known)} exists, so all rewards are 0; set dataset.source.reward to the feature "
        f"that has the reward, or to null if none was recorded"
    )


def unpadded_first_rows(place: str, firsts: Sequence[Mapping[str, Array]]) -> list[str]:
    """Row 0 has values, although nothing led to it; ``firsts`` are the first rows of some episodes, by column."""
    columns = sorted({name for first in firsts for name, row in first.items() if np.nan_to_num(row).any()})
    return [
        f"{place}: {name!r} is not 0 in the first row of an episode, which is dropped because nothing led to it; if "
        f"row t follows observation t, use dataset=npz_folder with dataset.source.alignment=follows, or "
        f"{{action: follows, reward: precedes}} if only the actions do"
        for name in columns
    ]
