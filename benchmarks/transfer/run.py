"""The transfer benchmark: reuses a world model for another task and in a changed environment.

    python -m benchmarks.transfer.run --seeds 0 1 2 --workers 2

Run it in the repository's root. Run it again after an interruption; existing results are kept. Tables and figure:
`python -m benchmarks.transfer.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_jobs, run_parser
from benchmarks.transfer.experiments import BENCHMARK, Benchmark
from benchmarks.transfer.plan import Plan

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "group", "seed", "start", "objective", "share", "return_mean"),
    *("world_model_updates", "behavior_updates", "pretraining_cpu_seconds", "world_model_cpu_seconds"),
    *("behavior_cpu_seconds", "cpu_seconds", "parameters"),  # cpu_seconds: without pretraining
    *("reward_error_h1", "reward_error_h5", "reward_error_h15", "probe_r2", "imagined_return", "real_return"),
    *("dataset", "dataset_digest", "reused", "world_model", "settings", "overrides"),
    *VERSIONS,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return run_parser(__doc__, plan=BENCHMARK, chosen={})


def run(options: Any) -> dict[str, str]:
    """Runs datasets, pretraining, then experiments; returns reasons of failed jobs by name."""
    results = Results(options.results, COLUMNS)
    plan = Plan(Benchmark.read(options.benchmark), options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    run_jobs(scheduler, plan.preparations(), "datasets")
    if not scheduler.failures:
        run_jobs(scheduler, plan.pretrainings(results.finished()), "pretraining")
        run_jobs(scheduler, plan.experiments(results.finished()), "transfer")
    return scheduler.failures


if __name__ == "__main__":
    main()
