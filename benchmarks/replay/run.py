"""The benchmark of learning by imagination and from recorded rows, on the same world models.

    python -m benchmarks.replay.run --seeds 0 1 2 3 4
    python -m benchmarks.replay.run --tasks pendulum_state --methods sac imagination_15 --seeds 0

Run it in the repository's root. Run it again after an interruption; finished methods and world models are kept while
their settings stay the same. After an edit of code, remove their rows from runs.csv and use another --work. Tables and
figure: `python -m benchmarks.replay.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_parser, run_prepared
from benchmarks.replay.plan import BENCHMARK, Benchmark, Plan

SEEDS = [0, 1, 2, 3, 4]
RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "group", "seed", "budget", "amount", "updates", "cpu_seconds", "return_mean"),
    *("reference_low", "reference_high", "dataset", "dataset_digest", "world_model", "settings", "overrides"),
    *VERSIONS,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "names in replay.yaml"
    chosen = {"tasks": names, "methods": names}
    return run_parser(__doc__, plan=BENCHMARK, chosen=chosen, seeds=SEEDS, workers=1)  # two jobs disturb CPU seconds


def run(options: Any) -> dict[str, str]:
    """Prepares the datasets, then trains what is missing; returns reasons of failed jobs by name."""
    benchmark = Benchmark.read(options.benchmark).choose(options.tasks, options.methods)
    results = Results(options.results, COLUMNS)
    plan = Plan(benchmark, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=lambda result: add(results, result))
    return run_prepared(scheduler, plan, results, "replay")


def add(results: Results, result: dict[str, Any]) -> None:
    """Adds a row for every budget, then the method's own row, a copy of the last, which marks the job as complete."""
    for point in result["points"]:
        run = point["run"]
        results.add(run | {"method": f"{run['group']}@{run['amount']:g} {run['budget']}"}, point["episodes"])
    results.add(result["points"][-1]["run"], result["points"][-1]["episodes"])


if __name__ == "__main__":
    main()
