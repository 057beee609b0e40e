"""The benchmark of acting: the same world models and policies under every way of acting.

    python -m benchmarks.acting.run --seeds 0 1 2 3 4
    python -m benchmarks.acting.run --tasks pendulum_state --models contrastive --seeds 0

Run it in the repository's root. Run it again after an interruption; finished rows, world models and policies are kept
while their settings stay the same. After an edit of code, remove their rows from runs.csv and use another --work. Some
tasks need the extras named in their yaml files. Tables and figures: `python -m benchmarks.acting.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.acting.benchmark import BENCHMARK, Benchmark
from benchmarks.acting.plan import Plan
from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_parser, run_prepared

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "model", "reward", "way", "group", "seed", "return_mean", "normalized_mean"),
    *("imagined_return", "real_return", "decisions_per_cpu_second", "parallel_episodes"),
    *("world_model_updates", "behavior_updates", "world_model_cpu_seconds", "behavior_cpu_seconds", "cpu_seconds"),
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2"),
    *("reference_low", "reference_high", "dataset_return", "dataset", "dataset_digest"),
    *("world_model", "policy", "settings", "overrides", *VERSIONS),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    chosen = {"tasks": "names in acting.yaml", "models": "objectives and systems in acting.yaml, exact_dynamics"}
    return run_parser(__doc__, plan=BENCHMARK, chosen=chosen, seeds=SEEDS, workers=1)  # two jobs disturb CPU seconds


def run(options: Any) -> dict[str, str]:
    """Prepares the datasets, then trains and plays what is missing; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.models)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    return run_prepared(scheduler, plan, results, "acting")


if __name__ == "__main__":
    main()
