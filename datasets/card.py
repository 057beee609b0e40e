"""The dataset card as plain contents, and as Markdown; ``pipeline/report/card.py`` adds figures and a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamset.core.spec import ArraySpec
from dreamset.datasets.doubts import doubts
from dreamset.datasets.store import Store
from dreamset.datasets.summary import facts

_LONGEST_CELL = 300  # characters: an environment's serialised specification would fill the table

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the card: a list of sentences, or a table."""

    title: str
    items: Sequence[str] = ()
    head: Row = ()
    rows: Sequence[Row] = ()


def title(store: Store) -> str:
    """The name of the dataset."""
    return store.path.resolve().name


def counts(store: Store) -> str:
    """Counts, digest and the rule of time, as a paragraph of Markdown."""
    numbers = store.info["counts"]
    return (
        f"{numbers['episodes']} episodes, {numbers['transitions']} transitions, {numbers['rows']} rows. "
        f"Digest `{store.digest}`. Row t is arrival at time t: its action led to its observation."
    )


def findings(store: Store) -> list[Section]:
    """What a reader must know first: facts, doubts and quarantined episodes."""
    return [_table("At a glance", ("what", "value"), facts(store)), *_warnings(store), *_quarantine(store)]


def tables(store: Store) -> list[Section]:
    """Columns, returns and lengths per split, provenance and checksums."""
    spread = ("split", "episodes", "of", "mean", "std", "min", "25 %", "median", "75 %", "max")
    return [
        _table("Columns", ("name", "role", "shape", "type"), _columns(store)),
        _table("Episodes", spread, _spreads(store)),
        _table("Source", ("what", "value"), sorted(store.info["source"].items())),
        _table("Files", ("file", "episodes", "rows", "sha256"), _files(store)),
    ]


def summary_markdown(store: Store) -> str:
    """The card without figures, as Markdown."""
    parts = [f"# Dataset `{title(store)}`", counts(store), *map(_markdown, [*findings(store), *tables(store)])]
    return "\n\n".join(parts) + "\n"


def _table(title: str, head: Row, rows: Iterable[Sequence[Any]]) -> Section:
    return Section(title, head=head, rows=[[_cut(plain(value)) for value in row] for row in rows])


def plain(value: Any) -> str:
    """A value of a json file for readers: lists by commas, nested values in brackets, ``-`` for nothing."""
    if value is None or (isinstance(value, str | list | tuple | Mapping) and not value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{name or '(no name)'}: {_nested(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_nested(part, within=list) for part in value)
    return " ".join(str(value).split())


def short(value: float) -> str:
    """Four digits, or whole thousands."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _nested(value: Any, *, within: type = dict) -> str:
    """A value within a mapping or a list, in brackets if it could not be told from its neighbours."""
    bracketed = isinstance(value, Mapping) or (within is list and isinstance(value, list | tuple))
    return f"({plain(value)})" if bracketed and value else plain(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 3] + "..."


def _warnings(store: Store) -> list[Section]:
    """A section on what looks wrong, if anything does."""
    sentences = doubts(store.info)
    return [Section("Warnings", items=sentences)] if sentences else []


def _quarantine(store: Store) -> list[Section]:
    """A section on quarantined episodes, if there are any."""
    left_out = store.info["quarantined"]
    if not left_out:
        return []
    rows = [(entry["episode"], entry["reason"]) for entry in left_out]
    return [_table(f"Quarantined: {len(left_out)} episodes", ("episode", "reason"), rows)]


def _columns(store: Store) -> list[tuple[str, ...]]:
    spec = store.spec
    action = ArraySpec((spec.action.size,), "one-hot" if spec.action.discrete else "float32")
    return [
        *((name, "observation", *_shape_and_type(array)) for name, array in spec.observations.items()),
        ("action", "action", *_shape_and_type(action)),
        *((name, "privileged", *_shape_and_type(array)) for name, array in spec.privileged.items()),
    ]


def _shape_and_type(spec: ArraySpec) -> tuple[str, str]:
    return " x ".join(map(str, spec.shape)), f"{spec.dtype}, {spec.encoder}" if spec.is_patches else spec.dtype


def _spreads(store: Store) -> list[tuple[Any, ...]]:
    return [
        (split, figures["episodes"], what, *_spread(figures[what]))
        for split, figures in store.info["episode_statistics"].items()
        for what in ("return", "length")
    ]


def _spread(figures: Mapping[str, Any]) -> list[str]:
    values = [figures["mean"], figures["std"], figures["min"], *figures["quartiles"], figures["max"]]
    return [short(float(value)) for value in values]


def _files(store: Store) -> list[tuple[Any, ...]]:
    return [(shard["file"], shard["episodes"], shard["rows"], shard["sha256"]) for shard in store.info["shards"]]


def _markdown(section: Section) -> str:
    lines = [f"## {section.title}", "", *(f"- {item}" for item in section.items)]
    if section.head:
        lines += [_row(section.head), _row(["---"] * len(section.head)), *map(_row, section.rows)]
    return "\n".join(lines)


def _row(cells: Row) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
