"""The fine-tuning benchmark: fine-tunes offline policies online, with and without remedies against the dip.

    python -m benchmarks.finetuning.run --seeds 0 1 2 --workers 2

Run it in the repository's root. Run it again after an interruption; existing results are kept. The task of DM Control
needs dm_control. Tables and figure: `python -m benchmarks.finetuning.report`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.finetuning.plan import BENCHMARK, Benchmark, Plan
from benchmarks.offline_suite.jobs import Scheduler
from benchmarks.offline_suite.results import VERSIONS, Results
from benchmarks.offline_suite.run import command, run_jobs, run_parser

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "method", "group", "seed", "due", "environment_steps", "updates", "return_mean"),
    *("imagined_return", "real_return", "cpu_seconds"),  # cpu_seconds: of the whole fine-tuning
    *("dataset", "dataset_digest", "settings", "overrides", *VERSIONS),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return run_parser(__doc__, plan=BENCHMARK, chosen={"tasks": "names in finetuning.yaml"})


def run(options: Any) -> dict[str, str]:
    """Runs datasets, offline models, then fine-tuning; returns reasons of failed jobs by name."""
    results = Results(options.results, COLUMNS)
    plan = Plan(Benchmark.read(options.benchmark).choose(options.tasks), options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=lambda result: add(results, result))
    run_jobs(scheduler, plan.preparations(), "datasets")
    if not scheduler.failures:
        run_jobs(scheduler, plan.offline(results.finished()), "offline")
        run_jobs(scheduler, plan.online(results.finished()), "online")
    return scheduler.failures


def add(results: Results, result: dict[str, Any]) -> None:
    """Adds a row for every evaluation, then the variant's own row, which marks the job as complete."""
    columns = set(COLUMNS)
    for point in result.get("points", ()):
        run = point["run"] | {"method": f"{point['run']['group']}@{point['run']['due']}"}
        results.add(run, point["episodes"])
    last = result["points"][-1] if "points" in result else result
    results.add({name: value for name, value in last["run"].items() if name in columns}, last["episodes"])


if __name__ == "__main__":
    main()
