"""The offline suite: every method on every recorded dataset; each job is a process with one thread.

    python -m benchmarks.offline_suite.run --seeds 0 1 2 --workers 2
    python -m benchmarks.offline_suite.run --tasks pendulum_state --methods v1_reconstruction iql --seeds 0

Run it in the repository's root. Run it again after an interruption; existing results are kept while their settings in
the suite stay the same. After an edit of a preset or of code, remove their rows from runs.csv. Peers need d3rlpy (see
README.md beside this script), some tasks need the extras named in their yaml files. Tables:
`python -m benchmarks.offline_suite.report`.
"""

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from benchmarks.offline_suite.jobs import ROOT, Job, Scheduler
from benchmarks.offline_suite.plan import Plan
from benchmarks.offline_suite.results import Key, Results
from benchmarks.offline_suite.suite import SUITE, Peer, Suite
from dreamset.core.errors import UserError

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all missing jobs."""
    command(parser().parse_args(arguments), run)


def command(options: argparse.Namespace, run: Callable[[Any], dict[str, str]]) -> None:
    """Calls ``run`` with its folders locked; prints the reasons of failed jobs and exits with status 1 if any."""
    signal.signal(signal.SIGTERM, _interrupt)
    os.chdir(ROOT)  # the configuration is composed from its configs/
    try:
        with locked(options.work), locked(options.results):
            failures = run(options)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    sys.exit(1 if failures else 0)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "names in suite.yaml"
    return run_parser(__doc__, plan=SUITE, option="--suite", chosen={"tasks": names, "methods": names})


def run_parser(
    description: str | None,
    *,
    plan: Path,
    chosen: Mapping[str, str],
    option: str = "--benchmark",
    seeds: Sequence[int] = (0, 1, 2),
    workers: int = 2,
) -> argparse.ArgumentParser:
    """The command line of the script that runs a benchmark.

    Args:
        description: of the script.
        plan: default yaml file of the benchmark, in its folder.
        chosen: what can be chosen by name -> where the names are; each is an option, by default all.
        option: for another yaml file.
        seeds: default seeds.
        workers: default number of parallel jobs.
    """
    described = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, where in chosen.items():
        described.add_argument(f"--{name}", nargs="+", help=f"{where} (default: all)")
    folder, few = plan.parent, " ".join(map(str, seeds))
    described.add_argument(option, type=absolute, default=plan, help=f"yaml file in place of {plan.name}")
    described.add_argument("--seeds", nargs="+", type=int, default=list(seeds), help=f"default: {few}")
    described.add_argument("--workers", type=int, default=workers, help="parallel jobs (default: %(default)s)")
    work = ROOT / "runs" / folder.name
    described.add_argument("--work", type=absolute, default=work, help="folder of recordings, models and logs")
    described.add_argument("--results", type=absolute, default=folder / "results", help="folder of the two CSV files")
    return described


def run(options: Any) -> dict[str, str]:
    """Prepares the datasets, then runs missing trainings; returns reasons of failed jobs by name."""
    suite = Suite.read(options.suite).choose(options.tasks, options.methods)
    results = Results(options.results)
    plan = Plan(suite, options.seeds, options.work)
    scheduler = Scheduler(options.work / "jobs", options.workers, on_result=results.take)
    run_jobs(scheduler, plan.preparations(), "datasets")
    ready = [task for task in suite.tasks.values() if plan.is_prepared(task)]
    trainings = plan.trainings(ready, results.finished())
    require_peers(suite, trainings)
    run_jobs(scheduler, trainings, "offline suite")
    return scheduler.failures


def require_peers(suite: Suite, jobs: Sequence[Job]) -> None:
    """Checks that d3rlpy, which no package depends on, is installed if a job needs it.

    Raises:
        UserError: if it is needed and not installed.
    """
    if find_spec("d3rlpy") is None and any(job.work["kind"] == "peer" for job in jobs):
        others = [name for name, method in suite.methods.items() if not isinstance(method.kind, Peer)]
        raise UserError(
            "d3rlpy is not installed; see benchmarks/offline_suite/README.md, or exclude its methods"
            + (f": --methods {' '.join(others)}" if others else "")
        )


class PreparedPlan(Protocol):
    """Jobs in two rounds: datasets, then everything that learns from them."""

    def preparations(self) -> list[Job]:
        """Jobs for datasets without a store."""

    def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
        """Jobs for what is not finished."""


def run_prepared(scheduler: Scheduler, plan: PreparedPlan, results: Results, description: str) -> dict[str, str]:
    """Runs both rounds, the second one if no dataset failed; returns reasons of failed jobs by name."""
    run_jobs(scheduler, plan.preparations(), "datasets")
    if not scheduler.failures:
        run_jobs(scheduler, plan.remaining(results.finished()), description)
    return scheduler.failures


def run_jobs(scheduler: Scheduler, jobs: Sequence[Job], description: str) -> None:
    """Runs the jobs, if there are any."""
    if jobs:
        scheduler.run(jobs, description=description)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks the folder.

    Raises:
        UserError: if another run has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another run uses {folder}; wait for it or choose another folder") from None
    finally:
        os.close(descriptor)


def absolute(text: str) -> Path:
    """An absolute path, independent of later changes of the working folder."""
    return Path(text).absolute()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
