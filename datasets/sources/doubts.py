"""What looks wrong in a recording but may be meant: one sentence each, with the setting that changes it."""

from collections.abc import Mapping, Sequence

import numpy as np

from dreamset.datasets.episode import Array

EXAMPLES = 10  # episodes whose first rows are looked at
_FEWEST = 3  # episodes from which zeros in all first rows are no chance


def one_long_episode(place: str, remedy: str) -> str:
    """Nothing cuts the rows."""
    return f"{place}: nothing marks the end of an episode, so all rows are one episode; if they are several, {remedy}"


def overwritten_arrivals(place: str, episodes: int) -> str:
    """The environment seems to have reset itself in the step that ended the episode."""
    return (
        f"{place}: in {episodes} episodes, with the last one of the file, the observation after the last step is the "
        f"first one of the next episode, as if the environment reset itself in that step; their final observations "
        f"count as missing; set dataset.source.autoreset=same_step if that is right, next_step if the row after an end "
        f"has only the final observation, or disabled to use them"
    )


def reset_rows(place: str) -> str:
    """The environment seems to have reset itself in the step after the end of the episode."""
    return (
        f"{place}: the reward is 0 in every row after an end and rarely elsewhere, as if the environment ignored that "
        f"action and reset itself; if so, set dataset.source.autoreset=next_step: the row has a final observation"
    )


def unused_arrivals(place: str, columns: Mapping[str, str]) -> str:
    """Columns look like the observations after each step."""
    setting = ", ".join(f"{name}: {column}" for name, column in columns.items())
    return (
        f"{place}: every last transition lacks its final observation, but {', '.join(columns.values())} may hold it; "
        f"if so, set dataset.source.next_observations={{{setting}}}"
    )


def flattened_batch(place: str, observation: str, action: str) -> str:
    """The first axis may count episodes."""
    return (
        f"{place}: rows of {observation!r} are as long as those of {action!r}, as if the first axis counted episodes; "
        f"if so, set dataset.source.boundaries={{batch: true}}"
    )


def no_rewards(place: str, known: Sequence[str]) -> str:
    """Nothing holds the reward."""
    return (
        f"{place}: none of {', '.join(known)} exists, so all rewards are 0; set dataset.source.reward to the feature "
        f"that has the reward, or to null if none was recorded"
    )


def unpadded_first_rows(place: str, firsts: Sequence[Mapping[str, Array]]) -> list[str]:
    """Row 0 has values, although nothing led to it; ``firsts`` are the first rows of some episodes, by column."""
    columns = sorted({name for first in firsts for name, row in first.items() if _is_filled(row)})
    return [
        f"{place}: {name!r} is not 0 in the first row of an episode, which is dropped because nothing led to it; if "
        f"row t follows observation t, set dataset.source.alignment of dataset=npz_folder or dataset=hdf5_folder to "
        f"follows, or to {{action: follows, reward: precedes}} if only the actions follow"
        for name in columns
    ]


def padded_first_rows(place: str, action: str, starts: Sequence[Mapping[str, Array]]) -> list[str]:
    """Row 0 has neither action nor reward, but row 1 has an action; ``starts`` are the first two rows by column."""
    empty = not any(_is_filled(rows[:1]) for start in starts for rows in start.values())
    if len(starts) < _FEWEST or not empty or not all(_is_filled(start[action][1:]) for start in starts):
        return []
    return [
        f"{place}: {action!r} is 0 in the first row of every episode, but not in the second, as if row t had led to "
        f"observation t; if so, set dataset.source.alignment=precedes"
    ]


def _is_filled(row: Array) -> bool:
    return row.dtype.kind in "fiub" and bool(np.nan_to_num(row).any())
