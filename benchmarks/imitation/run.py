"""The benchmark of imitation: cloning and latent diffusion planning with few demonstrations and with other data.

    python -m benchmarks.imitation.run --seeds 0 1 2 3 4
    python -m benchmarks.imitation.run --tasks pendulum_state --methods cloning ldp --demonstrations 10 --seeds 0

Run it in the root of the repository. Run it again after an interruption; finished rows and world models are kept while
their settings stay the same. After an edit of code, remove rows from runs.csv and use another --work. For tables and
figure: `python -m benchmarks.imitation.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.imitation.plan import BENCHMARK, Benchmark, Plan
from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_parser, run_prepared

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "group", "demonstrations", "seed", "return_mean", "action_error", "plan_error"),
    *("world_model_updates", "behavior_updates", "world_model_cpu_seconds", "behavior_cpu_seconds", "cpu_seconds"),
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2", "imagined_return", "real_return"),
    *("parameters", "reference_low", "reference_high", "dataset", "dataset_digest", "world_model", "settings"),
    *("overrides", *VERSIONS),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "names in imitation.yaml"
    described = run_parser(__doc__, plan=BENCHMARK, chosen={"tasks": names, "methods": names}, seeds=SEEDS)
    described.add_argument("--demonstrations", nargs="+", type=int, help="their numbers (default: all)")
    return described


def run(options: Any) -> dict[str, str]:
    """Prepares the datasets, then trains what is missing; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.methods, options.demonstrations)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    return run_prepared(scheduler, plan, results, "imitation")


if __name__ == "__main__":
    main()
