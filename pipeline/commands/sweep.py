"""``--multirun``: runs a stage once for each combination of values, one after the other, and resumes after a stop.

Each run is a process of its own, so no run inherits memory or random numbers from another one. A finished run leaves a
record; it is skipped the next time if settings, code, inputs and outputs are what they were then.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.files import write_text
from dreamset.pipeline.arguments import ArgumentParser
from dreamset.pipeline.commands.announcement import inputs_of, outputs_of
from dreamset.pipeline.commands.base import settings_by_hand
from dreamset.pipeline.report.words import duration
from dreamset.pipeline.stages.table import Stage

RECORDS = Path(".checkpoints/sweeps")
START = [sys.executable, "-P", "-c", "from dreamset.pipeline.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sweep."""

    overrides: Sequence[str]
    settings: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The folder that it writes."""
        return str(self.settings["output"])

    def record(self) -> Path:
        """The file that says in which state the run has left its folders. Other settings or code have another one."""
        from dreamset.pipeline.files import digest

        return RECORDS / f"{digest(json.dumps(self.settings, sort_keys=True, default=str))}.json"

    def is_finished(self) -> bool:
        """Whether it has run before, and its inputs and outputs have not been changed since."""
        record = self.record()
        return record.exists() and json.loads(record.read_text()) == self.state()

    def state(self) -> dict[str, list[list[Any]]]:
        """Name, size and time of every file that the run reads or writes."""
        paths = [Path(path) for path in (*inputs_of(self.settings), *outputs_of(self.settings))]
        return {str(path): [_stat(file) for file in _files(path)] for path in paths}


def take_multirun(parser: ArgumentParser) -> None:
    """Lets a stage run several times."""
    parser.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="run once for each combination of values, such as objective=contrastive,reward_only seed=0,1; finished "
        "runs are skipped, and a failed one does not stop the others",
    )


def run(stage: Stage, overrides: Sequence[str], resolved: Path | None) -> None:
    """Runs all combinations that are not finished. All settings are checked before the first run.

    Raises:
        UserError: if an override is wrong, two runs would write the same folder, or a run has failed; the others have
            then run.
    """
    runs = _planned(stage, overrides, resolved)
    lines, failed = [], 0
    for number, single in enumerate(runs, start=1):
        _say(f"run {number} of {len(runs)}: {stage.command} {' '.join(single.overrides)}")
        outcome, began = "finished before, skipped", time.monotonic()
        if not single.is_finished():
            works = _start(stage, single)
            outcome = f"{'finished' if works else 'FAILED'} in {duration(time.monotonic() - began)}"
            failed += not works
        lines.append(f"{outcome}: {single.output}")
    print("\n".join(lines))  # noqa: T201
    if failed:
        raise UserError(f"{failed} of {len(runs)} runs failed; run the same command again to repeat only these")


def _planned(stage: Stage, overrides: Sequence[str], resolved: Path | None) -> list[Run]:
    from dreamset.pipeline.config.compose import combinations

    if resolved is not None:
        raise UserError("--multirun and --resolved exclude each other; leave one of them out")
    runs = [Run(texts, settings_by_hand(stage, texts, told=False)[0]) for texts in combinations(overrides)]
    outputs = [single.output for single in runs]
    twice = next((output for output in outputs if outputs.count(output) > 1), None)
    if twice is not None:
        raise UserError(
            f"several runs of the sweep would write {twice}; sweep over objective or seed, or run each value by itself "
            "with a folder of its own in paths.runs"
        )
    return runs


def _start(stage: Stage, single: Run) -> bool:
    """Runs one stage in a process of its own; returns whether it has succeeded."""
    done = subprocess.run([*START, stage.command, *single.overrides], check=False)  # noqa: S603 - this program
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        return False
    write_text(single.record(), json.dumps(single.state()))
    return True


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _stat(file: Path) -> list[Any]:
    if not file.exists():
        return [str(file), None, None]
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
