"""The two CSV files of results: one row per training, one row per evaluation episode."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamset.core.files import write_text

VERSIONS = ("code", "dreamset", "torch", "numpy", "python", "cpu_capability")  # filled by job.versions()
RUN_COLUMNS = (
    *("task", "method", "group", "seed", "return_mean"),
    *("world_model_updates", "behavior_updates", "world_model_cpu_seconds", "behavior_cpu_seconds", "cpu_seconds"),
    *("budget_cpu_seconds", "parameters"),
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2", "imagined_return", "real_return"),
    *("reference_low", "reference_high", "dataset", "dataset_digest", "world_model", "settings", "overrides"),
    *("d3rlpy", *VERSIONS),
)
EPISODE_COLUMNS = ("task", "method", "seed", "episode", "return", "length")

Row = Mapping[str, Any]
Key = tuple[str, str, str]  # task, method, seed


class Results:
    """``runs.csv`` and ``episodes.csv`` of a folder; sorted and written atomically by one process."""

    def __init__(self, folder: Path, columns: Sequence[str] = RUN_COLUMNS) -> None:
        self.columns = columns  # of runs.csv
        self.runs_path = folder / "runs.csv"
        self.episodes_path = folder / "episodes.csv"

    def finished(self) -> dict[Key, str]:
        """All finished trainings, with the digest of their settings."""
        return {_key(row): row["settings"] for row in _read(self.runs_path)}

    def add(self, run: Row, episodes: Sequence[tuple[float, int]]) -> None:
        """Adds a training with (return, length) of its episodes; replaces an earlier one of the same names.

        The row of the training is written last, because it marks the training as finished.
        """
        names = {column: run[column] for column in ("task", "method", "seed")}
        rows = [
            names | {"episode": number, "return": total, "length": length}
            for number, (total, length) in enumerate(episodes)
        ]
        _replace(self.episodes_path, EPISODE_COLUMNS, rows)
        _replace(self.runs_path, self.columns, [run])

    def take(self, result: Mapping[str, Any]) -> None:
        """Adds what a job wrote: a training (``run``) and its ``episodes``."""
        self.add(result["run"], result["episodes"])


def _replace(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    replaced = {_key(row) for row in rows}
    kept: list[Row] = [row for row in _read(path) if _key(row) not in replaced]
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*kept, *rows], key=_order))
    write_text(path, content.getvalue())


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _key(row: Row) -> Key:
    return str(row["task"]), str(row["method"]), str(row["seed"])


def _order(row: Row) -> tuple[str, str, int, int]:
    return str(row["task"]), str(row["method"]), int(row["seed"]), int(row.get("episode") or 0)
