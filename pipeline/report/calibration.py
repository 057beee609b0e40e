"""The calibration of each objective's world models, read from ``calibration.json`` and averaged over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.pipeline.files import read_json

FILE = "calibration.json"  # see ``pipeline/evaluation/calibration.py``, which makes its content
NOT_MEASURED = "not measured: the model was trained before this figure existed"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many true rewards lie in the intervals of sampled futures."""

    levels: Sequence[float]  # nominal shares
    seen: Mapping[int, Sequence[float]]  # horizon -> share at each level, mean over seeds
    rows: int  # predictions at each horizon, over all seeds

    def at(self, horizon: int, level: float) -> float | None:
        """The share that was seen at a horizon, for a nominal share; None if either was not measured."""
        if horizon not in self.seen or level not in self.levels:
            return None
        return self.seen[horizon][list(self.levels).index(level)]


@dataclass(frozen=True, slots=True)
class Ends:
    """How well predicted ends fit the true ends of episodes."""

    brier: float
    brier_of_rate: float  # of always predicting the share of rows that are ends
    ends: int
    rows: int
    bins: Sequence[tuple[float, float, int]]  # predicted probability, share of ends, rows; over all seeds


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of one objective; a text instead of figures says why they are missing."""

    reward: Coverage | str = NOT_MEASURED
    ends: Ends | str = NOT_MEASURED

    @classmethod
    def read(cls, folders: Sequence[Path]) -> "Calibration":
        """The mean over the world models in ``folders``, one per seed; models without a record do not count."""
        records = [read_json(folder / FILE, made_by="dvc repro") for folder in folders if (folder / FILE).exists()]
        return cls(_reward(_measured(records, "reward")), _ends(_measured(records, "ends")))


def _measured(records: Sequence[Record], part: str) -> list[Record] | str:
    """The parts that hold figures; without any, the reason."""
    parts = [record[part] for record in records if part in record]
    measured = [one for one in parts if "reason" not in one]
    if measured:
        return measured
    return str(parts[0]["reason"]) if parts else NOT_MEASURED


def _reward(records: list[Record] | str) -> Coverage | str:
    if isinstance(records, str):
        return records
    levels = [float(level) for level in records[0]["levels"]]
    horizons = sorted({int(horizon) for record in records for horizon in record["covered"]})
    seen = {
        horizon: [
            float(share)
            for share in np.mean([r["covered"][str(horizon)] for r in records if str(horizon) in r["covered"]], axis=0)
        ]
        for horizon in horizons
    }
    return Coverage(levels, seen, sum(int(record["rows"]) for record in records))


def _ends(records: list[Record] | str) -> Ends | str:
    if isinstance(records, str):
        return records
    rows = [int(record["rows"]) for record in records]
    names = ("brier", "brier_of_rate")
    brier, of_rate = (float(np.average([record[name] for record in records], weights=rows)) for name in names)
    return Ends(brier, of_rate, sum(int(record["ends"]) for record in records), sum(rows), _pooled(records))


def _pooled(records: Sequence[Record], bins: int = 10) -> list[tuple[float, float, int]]:
    """The bins of all records, those of similar predictions together, weighted by their rows."""
    groups: dict[int, list[Record]] = {}
    for one in (one for record in records for one in record["bins"]):
        groups.setdefault(min(int(one["predicted"] * bins), bins - 1), []).append(one)
    pooled = []
    for _, group in sorted(groups.items()):
        rows = [int(one["rows"]) for one in group]
        predicted, seen = (np.average([one[name] for one in group], weights=rows) for name in ("predicted", "seen"))
        pooled.append((float(predicted), float(seen), sum(rows)))
    return pooled
