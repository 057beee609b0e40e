"""The descriptions in the registry, in Markdown: a model card per version, and what a registered model holds."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dreamset.pipeline.registry.ranking import RULES
from dreamset.pipeline.report.metrics import METRICS, Metric, label, metric
from dreamset.pipeline.tracking import notes
from dreamset.pipeline.tracking.rows import NEEDS, RECORDS, Record, Row

if TYPE_CHECKING:
    from dreamset.pipeline.registry.catalog import Origin, Version

KINDS = {"world_model": "World model", "policy": "Policy"}
PLURALS = {"world_model": "World models", "policy": "Policies"}
SHOWN = ("validation/reward_error_h", "cost/decision")  # beginnings of the names of more figures on a card
COMMENT, DIGITS = "\n\n<!-- {} -->", 16
LONGEST = 5000  # characters of a description: the most that MLflow stores in every database
LOADED = {  # kind -> how a program loads the version
    "world_model": "model, description = dreamset.load_world_model(\n    {own}\n)",
    "policy": "agent = dreamset.load_policy(\n    {own},\n    {world_model},\n)",
}


def of_version(
    version: "Version",
    row: Any,
    figures: Mapping[str, float],
    settings: Mapping[str, str],
    origins: Sequence["Origin"],
) -> str:
    """The model card of a version.

    Args:
        version: to describe.
        row: the run of MLflow that it came from.
        figures: of the version.
        settings: the parameters of its logged model.
        origins: its lineage, the nearest model first.
    """
    records = _records(row, settings.get("stage"))
    overrides = list(dict.fromkeys(text for record in records for text in record.overrides))
    sections = [
        _title(version.tags),
        _figures(version, figures),
        notes.exploitation(figures),
        _data(version.tags, settings, row),
        _lineage(origins),
        f"**Differs from the preset:** {', '.join(f'`{text}`' for text in overrides)}" if overrides else "",
        _links(version, row),
        _loading(version, origins),
        notes.reproduction([record.command for record in records], row.data.tags),
    ]
    return "\n\n".join(section for section in sections if section)


def of_family(name: str, versions: Sequence["Version"]) -> str:
    """The description of a registered model: what its versions are, and which one is the champion, and why.

    Args:
        name: of the registered model.
        versions: all of them, at least one.
    """
    kind, dataset = versions[-1].tags["kind"], versions[-1].tags.get("dataset", "?")
    champion = next((version for version in versions if "champion" in version.aliases), None)
    chosen = "none yet, because no version has a figure that ranks it."
    if champion is not None:
        chosen = f"{_page(champion)}{_because(champion)}"
    sections = [
        f"{PLURALS[kind]} for the dataset `{dataset}`. Each version is one trained model and has a model card.",
        f"**Champion:** {chosen}",
        f"{RULES[kind]} The alias can also be set by hand; it stays until a better version is measured.",
        f"`dreamset models show {name}` lists all versions; `dreamset models compare` compares two of them.",
    ]
    return "\n\n".join(sections)


def signed(text: str) -> str:
    """The text with a digest of it, as a comment that MLflow's pages do not show. It is not longer than they store."""
    text = text[: LONGEST - len(COMMENT.format("")) - DIGITS]
    return text + COMMENT.format(_digest(text))


def may_replace(description: str | None) -> bool:
    """Whether a description is missing or ``signed`` and unchanged: what a person wrote stays."""
    return not description or description == signed(description[: -len(COMMENT.format("")) - DIGITS])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _because(champion: "Version") -> str:
    """Why a version is the champion, in words."""
    reason = champion.tags.get("champion_because")
    if reason is None:
        return ", which a person has chosen."
    return f". **Why:** {'; '.join(map(_worded, reason.split('; ')))}."


def _worded(text: str) -> str:
    """``return (IQM) 91.0`` for ``evaluation/return_iqm = 91``; the words before the figure stay."""
    head, equals, value = text.rpartition(" = ")
    *words, name = head.split(" ")
    return " ".join([*words, f"{label(name)} {_value(metric(name), float(value))}"]) if equals else text


def _records(row: Any, stage: str | None) -> list[Record]:
    """The records of a stage on its row, after those that it needs."""
    if stage not in NEEDS or RECORDS not in row.data.tags:
        return []
    records = Row.of(row).records
    return [records[needed] for needed in (*NEEDS[stage], stage) if needed in records]


def _title(tags: Mapping[str, str]) -> str:
    """Without Markdown, because the list of versions shows it as it is."""
    parts = [f"generation {tags['generation']}" if "generation" in tags else ""]
    parts += [f"preset {tags['preset']}" if "preset" in tags else "", f"seed {tags.get('seed', '?')}"]
    return (
        f"{KINDS[tags['kind']]} for {tags.get('dataset', '?')}, objective {tags.get('objective', '?')}, "
        + ", ".join(part for part in parts if part)
    )


def _figures(version: "Version", figures: Mapping[str, float]) -> str:
    """A table of the headline figures, those of ``SHOWN`` and the figure that ranks the version, with meanings."""
    ranks = version.score.partition(" = ")[0]
    shown = [name for name in figures if metric(name).headline or name == ranks or name.startswith(SHOWN)]
    shown.sort(key=lambda name: (_order(name), [int(number) for number in re.findall(r"\d+", name)]))
    if not shown:
        return "No figure is measured yet."
    rows = [f"| {label(name)} | {_measured(name, figures)} | {metric(name).meaning} |" for name in shown]
    return "\n".join(["| figure | value | meaning |", "|---|---|---|", *rows])


def _order(name: str) -> int:
    described = metric(name)
    return METRICS.index(described) if described in METRICS else len(METRICS)


def _measured(name: str, figures: Mapping[str, float]) -> str:
    described, bounds = metric(name), [figures.get(f"{name}_{bound}") for bound in ("low", "high")]
    text = f"**{_value(described, figures[name])}**"
    low, high = bounds
    return text if low is None or high is None else f"{text} ({_value(described, low)} to {_value(described, high)})"


def _value(described: Metric, value: float) -> str:
    return f"{value:.{described.digits}f}"


def _data(tags: Mapping[str, str], settings: Mapping[str, str], row: Any) -> str:
    facts = [f"**Data:** `{tags.get('dataset', '?')}`", *_counts(row)]
    known = {**tags, **settings}
    facts += [f"{name} {known[name]}" for name in ("observations", "action") if name in known]
    online = known.get("online_environment_steps")
    facts += [f"{online} more steps recorded online"] if online else []
    return "; ".join([*facts, f"digest `{tags.get('dataset_digest', '?')[:12]}`"])


def _counts(row: Any) -> Iterator[str]:
    """Episodes, transitions and mean return of the dataset, as the run has it as its input."""
    for used in row.inputs.dataset_inputs[:1] if row.inputs else ():
        profile = json.loads(used.dataset.profile or "{}")
        yield from (f"{profile[name]} {name}" for name in ("episodes", "transitions") if name in profile)
        if "mean_return" in profile:
            yield f"mean return {profile['mean_return']:.1f}"


def _lineage(origins: Sequence["Origin"]) -> str:
    links = (
        f"{origin.role} "
        + (f"`{origin.digest[:12]}`, not registered" if origin.version is None else _page(origin.version))
        for origin in origins
    )
    return f"**Lineage:** {', '.join(links)}" if origins else ""


def _links(version: "Version", row: Any) -> str:
    """Links to the row with all results, and to the page of the logged model with all its metrics."""
    run, model = row.info, version.tags.get("logged_model")
    links = [f"[{run.run_name}](#/experiments/{run.experiment_id}/runs/{run.run_id})"]
    links += [f"[all its figures](#/experiments/{run.experiment_id}/models/{model})"] if model else []
    return f"**Results:** {' · '.join(links)}"


def _loading(version: "Version", origins: Sequence["Origin"]) -> str:
    near = origins[0].version if origins else None
    places = {
        "own": _from_registry(version),
        "world_model": '"folder of its world model"' if near is None else _from_registry(near),
    }
    code = LOADED[version.tags["kind"]].format(**places)
    return f"**Load it:**\n\n```python\nimport dreamset\n\n{code}\n```"


def _from_registry(version: "Version") -> str:
    return f'dreamset.from_registry("{version.name}", version={version.number})'


def _page(version: "Version") -> str:
    return f"[{version.reference}](#/models/{version.name}/versions/{version.number})"
