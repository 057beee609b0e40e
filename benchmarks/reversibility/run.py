"""The benchmark of reversibility: estimators against the exact truth, and policies with and without them.

    python -m benchmarks.reversibility.run --seeds 0 1 2 3 4
    python -m benchmarks.reversibility.run --tasks turf_mixed --methods term --seeds 0

Run it in the repository's root. Run it again after an interruption; finished rows, world models and policies are kept
while their settings stay the same. After an edit of code, remove their rows from runs.csv and use another --work. For
tables and figure: `python -m benchmarks.reversibility.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_parser, run_prepared
from benchmarks.reversibility.benchmark import BENCHMARK, Benchmark
from benchmarks.reversibility.plan import Plan

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
SCORES = [
    f"{name}_{where}"
    for where in ("visited", "reachable")
    for name in ("psi_auc", "phi_auc", "psi_reversible", "irreversible_share")
]
COLUMNS = (
    *("task", "world", "quality", "method", "group", "seed", "return_mean", "success", "harm"),
    *SCORES,
    *("world_model_updates", "behavior_updates", "world_model_cpu_seconds", "behavior_cpu_seconds", "cpu_seconds"),
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2"),
    *("reference_low", "reference_high", "dataset", "dataset_digest"),
    *("world_model", "policy", "settings", "overrides", *VERSIONS),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    chosen = {"tasks": "datasets, such as turf_mixed", "methods": "names in reversibility.yaml"}
    return run_parser(__doc__, plan=BENCHMARK, chosen=chosen, seeds=SEEDS)


def run(options: Any) -> dict[str, str]:
    """Prepares the datasets, then trains and measures what is missing; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.methods)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    return run_prepared(scheduler, plan, results, "reversibility")


if __name__ == "__main__":
    main()
