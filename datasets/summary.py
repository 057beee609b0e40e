"""What a store holds, in a few lines: for the end of an ingestion and the top of the dataset card."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamset.core.spec import ArraySpec
from dreamset.datasets.doubts import doubts, ignored_columns
from dreamset.datasets.labelled import LABELLED
from dreamset.datasets.layout import DEMONSTRATION_EPISODES, UNACTED_EPISODES
from dreamset.datasets.store import Store

_WIDTH = 100  # characters of a line in a terminal
_LABEL = 14  # characters of a label and the space after it
_MOST_NAMED = 12  # ignored columns; the card lists all of them with reasons
_MOST_RANGES = 4  # action elements whose ranges are listed one by one


def closing_lines(store: Store, heading: str, places: Mapping[str, object]) -> list[str]:
    """The facts about a store, then one warning for each doubt; no line is longer than a terminal.

    ``places`` are shown after the facts, such as ``{"card": "data/cards/robot/card.md"}``.
    """
    rows = [*facts(store), *((name, str(place)) for name, place in places.items())]
    lines = [line for label, text in rows for line in _wrapped(text, f"  {label:<{_LABEL}}", " " * (_LABEL + 2))]
    warnings = [line for doubt in doubts(store.info) for line in _wrapped(doubt, "warning: ", " " * 9)]
    return [heading, *lines, *warnings]


def _wrapped(text: str, start: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def facts(store: Store) -> list[tuple[str, str]]:
    """Label and text of each fact; what an older store does not tell is left out."""
    info, spec = store.info, store.spec
    rows = [
        ("episodes", _episodes(info)),
        ("observations", _arrays(spec.observations, info.get("seen", {}).get("vectors", {}))),
        ("privileged", _arrays(spec.privileged, {})),
        ("action", _action(store)),
        ("actions", _without_actions(info["counts"])),
        ("demonstrations", _demonstrations(info["counts"])),
        ("labelled", _labelled(info["source"])),
        ("reward", _reward(info)),
        ("ends", _ends(info)),
        ("recorded in", str(info["source"].get("env_id") or "")),
        ("left out", _left_out(info.get("lost", {}))),
        ("quarantined", _quarantined(info)),
        ("ignored", _named(sorted(ignored_columns(info["source"])))),
    ]
    return [(label, text) for label, text in rows if text]


def has_no_rewards(store: Store) -> bool:
    """Whether every reward is known to be 0."""
    seen = store.info.get("seen", {}).get("reward")
    return seen is not None and not seen["nonzero"]


def _episodes(info: Mapping[str, Any]) -> str:
    counts, statistics = info["counts"], info["episode_statistics"]
    shares = ", ".join(f"{statistics[name]['episodes']} {name}" for name in info["splits"] if name in statistics)
    lengths = _span([figures["length"] for figures in statistics.values()])
    return f"{counts['episodes']} ({shares}), {counts['transitions']} transitions, {lengths} per episode"


def _arrays(specs: Mapping[str, ArraySpec], seen: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    texts = {name: _kind(spec) for name, spec in specs.items()}
    for name, values in seen.items():
        texts[name] += f", {_range(min(values['low']), max(values['high']))}"
    return ", ".join(f"{name} ({text})" for name, text in texts.items())


def _kind(spec: ArraySpec) -> str:
    shape = " x ".join(map(str, spec.shape))
    return f"image {shape}" if spec.is_image else f"vector of {shape}"


def _action(store: Store) -> str:
    action, seen = store.spec.action, store.info.get("seen", {}).get("action")
    kind = f"discrete, {action.size} choices" if action.discrete else f"continuous, size {action.size}"
    if seen is None or not store.acted.any():
        return kind
    if action.discrete:
        return f"{kind}, {sum(high > 0 for high in seen['high'])} of them taken"
    return f"{kind}, seen {_ranges(seen['low'], seen['high'])}, allowed {_ranges(action.low, action.high)}"


def _without_actions(counts: Mapping[str, int]) -> str:
    unacted = counts.get(UNACTED_EPISODES)
    return f"missing in {unacted} of {counts['episodes']} episodes" if unacted else ""


def _demonstrations(counts: Mapping[str, int]) -> str:
    number = counts.get(DEMONSTRATION_EPISODES, counts["episodes"])
    return f"{number} of {counts['episodes']} episodes" if number < counts["episodes"] else ""


def _labelled(source: Mapping[str, Any]) -> str:
    facts = source.get(LABELLED)
    if facts is None:
        return ""
    return f"actions of {facts['episodes']} episodes are estimates; their error: {label_error(facts)}"


def label_error(facts: Mapping[str, Any]) -> str:
    """The error of labelled actions, beside that of the best constant action."""
    held_out = facts["held_out"]
    if held_out is None:
        return "unknown, because no held-out episode has recorded actions"
    error, baseline = (f"{held_out[name]:.3g}" for name in ("error", "baseline"))
    return (
        f"{error}, the {held_out['unit']}, on {held_out['transitions']} held-out transitions; {baseline} with the best "
        f"constant action"
    )


def _ranges(low: Sequence[float], high: Sequence[float]) -> str:
    """One range if all elements share it, each of a few, or the range over all elements."""
    pairs = list(dict.fromkeys(zip(low, high, strict=True)))
    if len(pairs) == 1 or len(low) > _MOST_RANGES:
        return _range(min(low), max(high))
    return ", ".join(f"({_range(*pair)})" for pair in zip(low, high, strict=True))


def _reward(info: Mapping[str, Any]) -> str:
    returns = f"returns {_span([figures['return'] for figures in info['episode_statistics'].values()])}"
    seen = info.get("seen", {}).get("reward")
    if seen is None:
        return returns
    if not seen["nonzero"]:
        return "none: every reward is 0"
    share = 100 * seen["nonzero"] / info["counts"]["transitions"]
    return f"{_range(seen['low'], seen['high'])}, not 0 in {share:.3g} % of the transitions; {returns}"


def _ends(info: Mapping[str, Any]) -> str:
    if "seen" not in info:
        return ""
    true_ends = info["seen"]["true_ends"]
    return f"{true_ends} true ends, {info['counts']['episodes'] - true_ends} time limits"


def _left_out(lost: Mapping[str, Any]) -> str:
    if not lost.get("transitions"):
        return ""
    return (
        f"{lost['transitions']} last transitions without a recorded outcome, and with them {lost['terminals']} true "
        f"ends and a reward of {lost['reward']:.4g}"
    )


def _quarantined(info: Mapping[str, Any]) -> str:
    count = len(info["quarantined"])
    return f"{count} of {count + info['counts']['episodes']} episodes; the card says why" if count else ""


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more columns" if more > 0 else "")


def _span(figures: Iterable[Mapping[str, float]]) -> str:
    """The lowest and the highest value over all splits."""
    both = [(float(split["min"]), float(split["max"])) for split in figures]
    return _range(min((low for low, _ in both), default=0), max((high for _, high in both), default=0))


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
