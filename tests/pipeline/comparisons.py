"""Results of a pipeline that never ran: the files that the stage compare reads, with made-up figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dreamset.pipeline.evaluation.calibration import LEVELS, NO_ENDS, NO_SPREAD
from dreamset.pipeline.stages import compare
from dreamset.pipeline.stages.settings import Compare

EVALUATION = {"episodes": 6, "seed": 0, "confidence": 0.95, "resamples": 50, "video_episodes": 1}


@dataclass(frozen=True)
class Case:
    """What a pipeline has written."""

    objectives: Sequence[str] = ("good", "bad")
    seeds: Sequence[int] = (0,)
    without_policy: Sequence[str] = ()
    horizons: Sequence[int] = (1, 5, 15, 45)
    privileged: bool = True
    calibration: bool = True
    ends: bool = False
    terms: Mapping[str, float] = field(default_factory=dict)  # of the reward, per imagined step
    references: Mapping[str, float | None] = field(default_factory=lambda: {"low": 0.0, "high": 100.0})

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the results into ``folder``/runs and returns the settings of the stage compare."""
        for number, objective in enumerate(self.objectives):
            for seed in self.seeds:
                self._write_run(folder / "runs", f"{objective}-{seed}", number, seed)
                if objective not in self.without_policy:
                    self._write_policy(folder / "runs", f"{objective}-{seed}", number, seed)
        return {
            "dataset": "task",
            "objectives": list(self.objectives),
            "seeds": list(self.seeds),
            "evaluation": EVALUATION,
            "runs": "runs",
            "output": "runs/comparison",
            "different_settings": {"objective.weight": {name: f"{n}.0" for n, name in enumerate(self.objectives)}},
            "code": "c0de" * 16,
        }

    def compare(self, folder: Path) -> Path:
        """Writes the results, compares them from within ``folder``, and returns the folder of the comparison."""
        compare.run(Compare.of(**self.write(folder)).plain())
        return folder / "runs/comparison"

    def _write_run(self, runs: Path, key: str, number: int, seed: int) -> None:
        error = {0: 0.001} | {h: 0.002 * (1 + number) * h * (1 + 0.2 * seed) for h in self.horizons}
        figures = {f"validation/reward_error_h{h}": value for h, value in error.items()}
        figures |= {"validation/kl": 1.0 + number, "cost/parameters": 1000 * (number + 1), "cost/train_seconds": 90.0}
        if self.privileged:
            probe = {0: 0.9} | {h: 0.9 - 0.02 * h - 0.03 * number for h in self.horizons}
            figures |= {f"validation/probe_r2{'' if h == 0 else f'_h{h}'}": value for h, value in probe.items()}
            figures |= {f"validation/probe_correlation_reward_q{q}": 0.2 * q for q in (1, 2, 3, 4)}
        folder = runs / "world_model" / key
        _write(folder / "metrics.json", figures)
        lineage = {
            "key": f"key-{key}",
            "generation": "dreamer_v1",
            "dataset_digest": "d1e5" * 16,
            "dataset_return": {"mean": 50.0},
            "reference": self.references,
        }
        _write(folder / "model/model.json", {"lineage": lineage})
        short = {name.removeprefix("validation/"): value for name, value in figures.items() if "cost" not in name}
        lines = [",".join(["update", *short])]
        lines += [",".join(map(str, [100 * (t + 1), *(value / (t + 1) for value in short.values())])) for t in range(5)]
        (folder / "validation.csv").write_text("\n".join(lines) + "\n")
        if self.calibration:
            _write(folder / "calibration.json", self._calibration(number))

    def _calibration(self, number: int) -> dict[str, Any]:
        covered = {str(h): [level ** (1 + 0.3 * number) for level in LEVELS] for h in self.horizons}
        reward = {"levels": list(LEVELS), "rows": 80, "covered": covered}
        bins = [{"predicted": p, "seen": p * (1 - 0.1 * number), "rows": 50} for p in (0.05, 0.35, 0.75)]
        ends = {"rows": 150, "ends": 20, "brier": 0.05 + 0.02 * number, "brier_of_rate": 0.1, "bins": bins}
        return {
            "reward": {"reason": NO_SPREAD} if number % 5 == 4 else reward,
            "ends": ends if self.ends else {"reason": NO_ENDS},
        }

    def _write_policy(self, runs: Path, key: str, number: int, seed: int) -> None:
        generator = np.random.default_rng(100 * number + seed)
        returns = 95 - 70 * number / len(self.objectives) + generator.normal(size=EVALUATION["episodes"]) * 6
        imagined = returns + (60 if number == 1 else 2)
        terms = {f"imagination/{name}": value * (1 + number) for name, value in self.terms.items()}
        _write(runs / "behavior" / key / "metrics.json", {"cost/behavior_seconds": 30.0 + seed, **terms})
        if terms:
            curve = [{"update": 10 * t, **{name: value / t for name, value in terms.items()}} for t in (1, 2)]
            pd.DataFrame(curve).to_csv(runs / "behavior" / key / "imagination.csv", index=False)
        figures = {
            "evaluation/return_mean": float(returns.mean()),
            "evaluation/normalized_mean": float(returns.mean()),
            "evaluation/imagined_return": float(imagined.mean()),
            "evaluation/real_return": float(returns.mean()),
        }
        _write(runs / "evaluation" / key / "metrics.json", figures)
        rows = ["seed,return,length,return_after_context,imagined_return_after_context"]
        rows += [
            f"{n},{real},50,{real},{dreamed}" for n, (real, dreamed) in enumerate(zip(returns, imagined, strict=True))
        ]
        (runs / "evaluation" / key / "episodes.csv").write_text("\n".join(rows) + "\n")


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
