"""Runs jobs as processes with one thread each, in parallel and in the order of their dependencies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dreamset.pipeline.files import write_json

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # so that CPU seconds are comparable
    "DREAMSET_TRACKING": "off",
    # NumPy as on processors with AVX2: with chaotic physics a different last bit gives a different recording.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
START = [sys.executable, "-m", "benchmarks.offline_suite.job"]
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # between terminating and killing a process


@dataclass(frozen=True, slots=True)
class Job:
    """One process: ``python -m benchmarks.offline_suite.job`` on the file that holds ``work``."""

    name: str  # also its folder, below the scheduler's
    work: Mapping[str, Any]  # settings, see job.py
    needs: frozenset[str] = frozenset()  # names of jobs that must have succeeded


@dataclass(slots=True)
class Scheduler:
    """Runs jobs; if one fails, the jobs that need it fail as well."""

    folder: Path
    workers: int
    on_result: Callable[[dict[str, Any]], None]  # called in this process with the result of a job
    failures: dict[str, str] = field(default_factory=dict)  # name -> last line of the log
    _done: set[str] = field(default_factory=set)

    def run(self, jobs: Sequence[Job], *, description: str) -> None:
        """Runs all jobs until each has succeeded or failed; an interrupt ends running jobs."""
        waiting = list(jobs)
        with _bar(description, len(jobs)) as bar, _processes() as running:
            while waiting or running:
                self._give_up(waiting, bar)
                self._start(waiting, running)
                bar.set_postfix_str(", ".join(running), refresh=False)
                bar.update(0)  # refreshes the clock
                time.sleep(POLL_SECONDS)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    self._finish(name, running.pop(name).returncode)
                    bar.update()

    def _give_up(self, waiting: list[Job], bar: "tqdm[Any]") -> None:
        for job in [job for job in waiting if job.needs & self.failures.keys()]:
            missing = ", ".join(sorted(job.needs & self.failures.keys()))
            self.failures[job.name] = f"needs {missing}, which failed"
            waiting.remove(job)
            bar.update()

    def _start(self, waiting: list[Job], running: dict[str, "subprocess.Popen[bytes]"]) -> None:
        ready = [job for job in waiting if job.needs <= self._done]
        for job in ready[: self.workers - len(running)]:
            waiting.remove(job)
            running[job.name] = self._process(job)

    def _process(self, job: Job) -> "subprocess.Popen[bytes]":
        folder = self.folder / job.name
        (folder / "result.json").unlink(missing_ok=True)
        write_json(folder / "work.json", {**job.work, "folder": str(folder)})
        command = [*START, str(folder / "work.json")]
        with (folder / "log.txt").open("wb") as log:
            environment = os.environ | ENVIRONMENT
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def _finish(self, name: str, status: int) -> None:
        result = self.folder / name / "result.json"
        if status:
            log = self.folder / name / "log.txt"
            self.failures[name] = f"{last_line(log) or f'status {status}'} ({log})"
            return
        self._done.add(name)
        if result.exists():
            self.on_result(json.loads(result.read_text()))


def _bar(description: str, total: int) -> "tqdm[Any]":
    """A progress bar with a running clock; without a terminal, one line every ten seconds."""
    interactive = sys.stderr.isatty()
    interval = 0.5 if interactive else 10.0
    return tqdm(
        total=total,
        desc=description,
        unit="job",
        miniters=0,
        mininterval=interval,
        dynamic_ncols=interactive,
        smoothing=0,
    )


def last_line(log: Path) -> str:
    """The last non-empty line; progress bars separate their lines by carriage returns."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextmanager
def _processes() -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """A dictionary of processes by name; all of them end with the block."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        yield running
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
