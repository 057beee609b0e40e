"""What looks wrong in a store but may be meant: one sentence each, with the setting that changes it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dreamset.datasets.layout import UNACTED_EPISODES

REWARD_WORDS = {"reward", "rew", "return"}
END_WORDS = {"done", "terminal", "terminated", "termination", "success"}
LIMIT_WORDS = {"timeout", "truncated", "truncation"}

_FAR = 1e4  # size of an observation, and
_FAR_DEVIATIONS = 100.0  # its distance from the mean in standard deviations, that make it suspicious
_LARGE_REWARD = 100.0
_SMALL_USE = 0.05  # share of the allowed range of an action
_MANY_CLIPPED = 0.05  # share of clipped values
_MOST_NAMED = 6  # elements of a vector

Info = Mapping[str, Any]  # the content of dataset.json


def doubts(info: Info) -> list[str]:
    """The doubts of the reader, then those that the values raise; older stores tell less."""
    own = [sentence for check in CHECKS for sentence in check(info)] if "seen" in info else []
    return [*info.get("doubts", ()), *own]


def ignored_columns(source: Mapping[str, Any]) -> dict[str, str]:
    """Columns and infos that a reader ignored, with the reason; those of all parts of a merged store."""
    parts = [source, *(source["parts"] if source.get("format") == "merged" else ())]
    kinds = ("ignored_columns", "ignored_infos", "ignored_observations")
    listed = [part[kind] for part in parts for kind in kinds if isinstance(part.get(kind), Mapping)]
    return {name: reason for columns in listed for name, reason in columns.items()}


def _no_reward(info: Info) -> Iterator[str]:
    if info["seen"]["reward"]["nonzero"] or info.get("lost", {}).get("reward"):
        return
    named, source = _ignored(info, REWARD_WORDS), info["source"]
    finding = "every reward is 0, so no behaviour can be learned from it"
    if "reward" in source:
        column = named[0] if named else "its column" if source["reward"] is None else "another column"
        yield f"{finding}; set dataset.source.reward to {column}, or compute rewards with the transform RelabelReward"
    else:
        beside = f", although {_listed(named)} is among the ignored columns" if named else ""
        yield f"{finding}{beside}; compute rewards with the transform RelabelReward in dataset.transforms"


def _no_true_end(info: Info) -> Iterator[str]:
    if info["seen"]["true_ends"] or info.get("lost", {}).get("terminals"):
        return
    source = info["source"]
    ends, limits = _ignored(info, END_WORDS), _ignored(info, LIMIT_WORDS)
    remedy = f"set dataset.source.terminal to {ends[0]}" if ends and "terminal" in source else "name it in the settings"
    if ends:
        yield f"no episode has a true end, but the column {_listed(ends)} is ignored; if it marks true ends, {remedy}"
    if limits and source.get("boundaries") == {}:
        yield (
            f"each file is one episode, but the column {_listed(limits)} is ignored; if it ends episodes within a "
            f"file, set dataset.source.boundaries to {{ends: [{limits[0]}]}}"
        )


def _most_lost(info: Info) -> Iterator[str]:
    lost, seen = info.get("lost", {}), info["seen"]
    findings = []
    if lost.get("terminals", 0) > seen["true_ends"]:
        findings.append(f"{lost['terminals']} of {lost['terminals'] + seen['true_ends']} true ends")
    if abs(lost.get("reward", 0.0)) > abs(seen["reward"]["sum"]):
        findings.append(f"a reward of {lost['reward']:.4g} (kept: {seen['reward']['sum']:.4g})")
    named = "next_observations" in info["source"]
    other = ", or name the columns of the next observations in dataset.source.next_observations" if named else ""
    if findings:
        yield (
            f"the last transitions, which are left out, hold {' and '.join(findings)}; set "
            f"dataset.source.final_transition to repeat{other}"
        )


def _large_rewards(info: Info) -> Iterator[str]:
    reward = info["seen"]["reward"]
    largest = max(reward["low"], reward["high"], key=abs)
    if abs(largest) > _LARGE_REWARD:
        yield (
            f"rewards reach {largest:.4g}, which makes the losses of Dreamer v1 and v2 diverge; add the transform "
            f"ScaleReward to dataset.transforms, or use preset=dreamer_v3"
        )


def _constant_observations(info: Info) -> Iterator[str]:
    seen = info["seen"]
    vectors = [name for name, values in seen["vectors"].items() if values["low"] == values["high"]]
    for name in (*vectors, *seen["constant_images"]):
        yield f"observation {name!r} never changes; leave it out of dataset.source.observations, or check its column"


def _far_observations(info: Info) -> Iterator[str]:
    for name, values in info["seen"]["vectors"].items():
        statistics = info["spec"]["statistics"].get(name)
        if statistics is None:
            continue
        low, high = np.array(values["low"]), np.array(values["high"])
        mean, std = np.array(statistics["mean"]), np.array(statistics["std"])
        farthest = np.where(np.abs(low) > np.abs(high), low, high)
        deviations = np.maximum(mean - low, high - mean) / std
        suspicious = ((np.abs(farthest) > _FAR) & (low < high)) | (deviations > _FAR_DEVIATIONS)
        if suspicious.any():
            element = int(np.argmax(np.where(suspicious, np.maximum(np.abs(farthest), deviations), 0.0)))
            far = f", {deviations[element]:.3g} standard deviations from its mean"
            yield (
                f"observation {name!r} reaches {farthest[element]:.4g} in element {element}"
                f"{far if deviations[element] > _FAR_DEVIATIONS else ''}; check the column, or leave it out of "
                f"dataset.source.observations"
            )


def _actions(info: Info) -> Iterator[str]:
    if info["counts"].get(UNACTED_EPISODES) == info["counts"]["episodes"]:
        return
    action, seen = info["spec"]["action"], info["seen"]["action"]
    low, high = np.array(seen["low"]), np.array(seen["high"])
    if action["discrete"]:
        if (high > 0).sum() == 1:
            yield f"only 1 of {action['size']} actions is ever taken; check the column of the actions"
    elif not (low.any() or high.any()):
        yield "every action is 0; check the column of the actions"
    else:
        yield from _narrow_actions(low, high, action)


def _narrow_actions(low: Any, high: Any, action: Mapping[str, Any]) -> Iterator[str]:
    reach = np.array(action["high"], float) - np.array(action["low"], float)
    narrow = np.flatnonzero((high - low) < _SMALL_USE * np.where(np.isfinite(reach), reach, 0.0)).tolist()
    if narrow:
        yield (
            f"less than {_SMALL_USE:.0%} of the allowed range of the action is used in {_elements(narrow)}; if the "
            f"reader has the settings dataset.source.action_low and dataset.source.action_high, set them in the units "
            f"of the actions"
        )


def _clipped_actions(info: Info) -> Iterator[str]:
    clips = any(step["transform"] == "ClipActions" for step in info["source"].get("transforms", ()))
    share = info["seen"]["action"]["share_on_bounds"]
    if clips and share > _MANY_CLIPPED:
        yield (
            f"{share:.0%} of the action values lie on a bound after ClipActions; if they are in other units, rescale "
            f"them in dataset.transforms instead"
        )


CHECKS: Sequence[Callable[[Info], Iterator[str]]] = (
    _no_reward,
    _no_true_end,
    _most_lost,
    _large_rewards,
    _constant_observations,
    _far_observations,
    _actions,
    _clipped_actions,
)


def _ignored(info: Info, words: Iterable[str]) -> list[str]:
    """Ignored columns whose name has one of ``words``, in singular or plural."""
    return sorted(name for name in ignored_columns(info["source"]) if _words(name) & set(words))


def _words(name: str) -> set[str]:
    words = re.split(r"[^a-z]+", name.lower())
    return {*words, *(word.removesuffix("s") for word in words)}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_MOST_NAMED]))


def _elements(numbers: Sequence[int]) -> str:
    named = ", ".join(str(number) for number in numbers[:_MOST_NAMED])
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return f"{'element' if len(numbers) == 1 else 'elements'} {named}{more}"
