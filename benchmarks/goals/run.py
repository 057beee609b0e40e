"""The benchmark of goals: plans and policies to goals that are images, by what they learned from how much.

    python -m benchmarks.goals.run --seeds 0 1 2 3 4
    python -m benchmarks.goals.run --tasks two_room --methods dino_wm random expert --trajectories 200 --seeds 0

Run it in the repository's root. Run it again after an interruption; finished rows, world models and policies are kept
while their settings stay the same. After an edit of code, remove their rows from runs.csv and use another --work. The
features need the extra named vision. Tables and figure: `python -m benchmarks.goals.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals.benchmark import BENCHMARK, Benchmark
from benchmarks.goals.plan import Plan
from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_parser, run_prepared

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "model", "trajectories", "severity", "group", "seed", "return_mean"),
    *("success", "distance_left", "decisions_per_cpu_second", "parallel_episodes"),
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
    chosen = {"tasks": "names in goals.yaml", "methods": "methods and baselines in goals.yaml"}
    described = run_parser(__doc__, plan=BENCHMARK, chosen=chosen, seeds=SEEDS)
    described.add_argument("--trajectories", nargs="+", type=int, help="numbers in goals.yaml (default: all)")
    return described


def run(options: Any) -> dict[str, str]:
    """Prepares the data, then trains and plays what is missing; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.methods, options.trajectories)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    return run_prepared(scheduler, plan, results, "goals")


if __name__ == "__main__":
    main()
