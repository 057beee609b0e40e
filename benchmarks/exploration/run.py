"""The benchmark of exploration: data that a world model's doubt collected, against random actions and recorded data.

    python -m benchmarks.exploration.run --seeds 0 1 2 3 4 --workers 2
    python -m benchmarks.exploration.run --tasks pendulum --learners plan2explore --seeds 0

Run it in the repository's root. Run it again after an interruption; finished rows, collected episodes and models are
kept while their settings stay the same. After an edit of code, remove their rows from runs.csv and use another --work.
The task point_mass needs the extra dmc. Tables and figures: `python -m benchmarks.exploration.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.exploration.benchmark import BENCHMARK, Benchmark
from benchmarks.exploration.plan import Plan
from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_jobs, run_parser

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "group", "collector", "phase", "reward", "seed", "return_mean"),
    *("environment_steps", "coverage", "updates", "cpu_seconds"),
    *("world_model_updates", "behavior_updates", "world_model_cpu_seconds", "behavior_cpu_seconds", "parameters"),
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2", "imagined_return", "real_return"),
    *("collected", "world_model", "settings", "overrides", *VERSIONS, "coverages"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "names in exploration.yaml"
    described = run_parser(__doc__, plan=BENCHMARK, chosen={"tasks": names}, seeds=SEEDS)
    described.add_argument("--learners", nargs="*", help=f"{names} (default: all; without a name none)")
    return described


def run(options: Any) -> dict[str, str]:
    """Collects, relabels, and learns with and without further episodes; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.learners)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    run_jobs(scheduler, plan.recordings(), "record")
    run_jobs(scheduler, plan.collections(results.finished()), "collect")
    run_jobs(scheduler, plan.relabellings(), "relabel")
    run_jobs(scheduler, plan.zero_shot(results.finished()), "zero-shot")
    run_jobs(scheduler, plan.few_shot(results.finished()), "few-shot")
    return scheduler.failures


if __name__ == "__main__":
    main()
