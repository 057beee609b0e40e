"""The experiments of ``dvc exp run`` as a table that fits a terminal.

``dvc exp show`` has a column for every metric of every objective, every parameter and every input: hundreds of letters.
"""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.config.mistakes import dotted_values
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.tables import columns
from dreamset.pipeline.report.words import number

METRICS = "runs/comparison/metrics/"  # one file per objective, see dvc.yaml
SETTINGS_WIDTH = 22  # so that the table has 100 columns
CHOICES = ("preset", "dataset")  # what is shown of a commit
RETURN = "return_iqm"
GROUPS, OTHERS = {RETURN: "evaluation"}, "validation"  # of a metric, which the files leave out
DVC = [sys.executable, "-m", "dvc", "exp", "show", "--json"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One line of ``dvc exp show``."""

    name: str
    settings: Mapping[str, str]  # all parameters, by key
    metrics: Mapping[str, Mapping[str, float | None]]  # objective -> name -> value


def lines(folder: Path = Path()) -> list[str]:
    """The table of the project in ``folder``.

    Raises:
        UserError: if DVC cannot list experiments there.
    """
    done = subprocess.run(DVC, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - this DVC
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[0].removeprefix("ERROR: ")
        raise UserError(
            f"`dvc exp show`: {reason}; experiments need DVC in a git repository with a commit: `git init`, `dvc init`"
        )
    return table(json.loads(done.stdout))


def table(shown: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of what ``dvc exp show --json`` prints: commits with their choices, experiments with their changes."""
    commits = [(_experiment(entry), [_experiment(run) for run in _runs(entry)]) for entry in shown]
    if len(commits) > 1 and replace(commits[0][0], name=commits[1][0].name) == commits[1][0]:
        del commits[0]  # the working folder is as it was committed
    everything = [run for commit, runs in commits for run in (commit, *runs)]
    names = {name for run in everything for figures in run.metrics.values() for name in figures}
    ordered = sorted(names, key=lambda name: (name != RETURN, name))
    rows: list[Sequence[str]] = []
    for commit, runs in commits:
        rows += _rows(commit, [commit.settings[key] for key in CHOICES if key in commit.settings], ordered)
        for run in runs:
            rows += _rows(run, _changes(commit.settings, run.settings), ordered)
    head = ("experiment", "settings", "objective", *(label(f"{GROUPS.get(name, OTHERS)}/{name}") for name in ordered))
    return columns(head, rows).splitlines()


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in after.items() if before.get(key) != value]


def _runs(commit: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for run in commit.get("experiments") or ():
        yield from (run.get("revs") or ())[:1]


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    """A line of DVC. One that failed, or has not run yet, has no data."""
    data = entry.get("data") or {}
    params = (data.get("params") or {}).get("params.yaml") or {}
    settings = {key.removeprefix("overrides."): str(value) for key, value in dotted_values(params.get("data") or {})}
    metrics = {
        Path(path).stem: found.get("data") or {}
        for path, found in (data.get("metrics") or {}).items()
        if path.startswith(METRICS)
    }
    name = entry.get("name") or (entry["rev"] if entry["rev"] == "workspace" else entry["rev"][:7])
    return Experiment(f"{name} (failed)" if entry.get("error") else name, settings, metrics)


def _rows(experiment: Experiment, settings: Sequence[str], names: Sequence[str]) -> list[Sequence[str]]:
    """A row per objective, the best first, and further rows for settings that need more lines."""
    texts = [line for text in settings for line in textwrap.wrap(text, SETTINGS_WIDTH)]
    ranked = sorted(experiment.metrics.items(), key=lambda found: -(found[1].get(RETURN) or 0.0))
    figures = [
        (objective, *(number(values.get(name), 1 if name == RETURN else 3) for name in names))
        for objective, values in ranked
    ]
    count = max(len(texts), len(figures), 1)
    titles = [experiment.name, *[""] * (count - 1)]
    texts += [""] * (count - len(texts))
    figures += [("",) * (len(names) + 1)] * (count - len(figures))
    return [(title, text, *row) for title, text, row in zip(titles, texts, figures, strict=True)]
