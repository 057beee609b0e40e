"""The dataset card: a description of a store in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamset.core.spec import ArraySpec
from dreamset.datasets.doubts import doubts
from dreamset.datasets.store import Store
from dreamset.datasets.summary import facts

_LONGEST_CELL = 300  # characters: an environment's serialised specification would fill the table


def summary_markdown(store: Store) -> str:
    """Facts and doubts, counts, columns, returns per split, provenance and checksums."""
    sections = (
        [f"# Dataset `{store.path.resolve().name}`", "", _counts(store), "", *_table(("what", "value"), facts(store))],
        *_warnings(store),
        ["## Columns", "", *_columns(store)],
        ["## Episodes", "", *_episodes(store)],
        ["## Source", "", *_table(("what", "value"), sorted(store.info["source"].items()))],
        *_quarantine(store),
        ["## Files", "", *_files(store)],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _counts(store: Store) -> str:
    counts = store.info["counts"]
    return (
        f"{counts['episodes']} episodes, {counts['transitions']} transitions, {counts['rows']} rows. "
        f"Digest `{store.digest}`. Row t is arrival at time t: its action led to its observation."
    )


def _warnings(store: Store) -> list[list[str]]:
    """A section on what looks wrong, if anything does."""
    sentences = doubts(store.info)
    return [["## Warnings", "", *(f"- {sentence}" for sentence in sentences)]] if sentences else []


def _columns(store: Store) -> list[str]:
    spec = store.spec
    action = ArraySpec((spec.action.size,), "one-hot" if spec.action.discrete else "float32")
    rows = [
        *((name, "observation", *_shape_and_type(array)) for name, array in spec.observations.items()),
        ("action", "action", *_shape_and_type(action)),
        *((name, "privileged", *_shape_and_type(array)) for name, array in spec.privileged.items()),
    ]
    return _table(("name", "role", "shape", "type"), rows)


def _shape_and_type(spec: ArraySpec) -> tuple[str, str]:
    return " x ".join(map(str, spec.shape)), spec.dtype


def _episodes(store: Store) -> list[str]:
    rows = [
        (split, figures["episodes"], what, *_spread(figures[what]))
        for split, figures in store.info["episode_statistics"].items()
        for what in ("return", "length")
    ]
    return _table(("split", "episodes", "of", "mean", "std", "min", "25 %", "median", "75 %", "max"), rows)


def _spread(figures: Mapping[str, Any]) -> list[str]:
    values = [figures["mean"], figures["std"], figures["min"], *figures["quartiles"], figures["max"]]
    return [f"{float(value):.4g}" for value in values]


def _quarantine(store: Store) -> list[list[str]]:
    """A section on quarantined episodes, if there are any."""
    left_out = store.info["quarantined"]
    if not left_out:
        return []
    rows = [(entry["episode"], entry["reason"]) for entry in left_out]
    return [[f"## Quarantined: {len(left_out)} episodes", "", *_table(("episode", "reason"), rows)]]


def _files(store: Store) -> list[str]:
    rows = [(shard["file"], shard["episodes"], shard["rows"], shard["sha256"]) for shard in store.info["shards"]]
    return _table(("file", "episodes", "rows", "sha256"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 3] + "..."
