"""Sends log files to one of the optional writers."""

import importlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.tracking import names, notes
from dreamset.pipeline.tracking.outbox import Line, LogFile
from dreamset.pipeline.tracking.writers import FOLDER, WRITERS, missing
from dreamset.pipeline.tracking.writers.base import Described, Writer
from dreamset.pipeline.tracking.writers.written import Run, Written

IMAGES, VIDEOS = {".png"}, {".mp4"}

Make = Callable[[Path, Run, Described, Mapping[str, str]], Writer]

log = logging.getLogger(__name__)


class Writing:
    """The receiver of the log files whose stages chose a writer. It holds the runs of running stages open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open: dict[str, Part] = {}

    def place(self, log_file: LogFile) -> str | None:  # noqa: ARG002 - as of other receivers
        """One place for all files, whose order is kept."""
        return self.name

    def send(self, log_file: LogFile, *, live: bool) -> None:
        """Writes the new lines. Not live: the file of a running stage waits.

        Raises:
            Exception: any error of the writer. The whole file is written again later.
        """
        ended = log_file.is_ended()  # checked before reading, so that no later line is missed
        if not (live or ended):
            return
        opening = log_file.opening()
        assert opening is not None  # it names this writer
        written = Written(FOLDER / self.name)
        run = written.begin(log_file.name, Described.of(opening))
        if log_file.name not in run.closed:
            part = self._open.get(log_file.name) or Part(self.name, log_file, run, written, opening)
            self._open.pop(log_file.name, None)
            try:
                part.write(ended=ended)
            except BaseException:
                part.writer.abandon()
                raise
            if not part.closed:
                self._open[log_file.name] = part
                return
        log_file.finish(self.name)

    def close(self) -> None:
        """Runs of stages that are still running are written again by the next process."""
        for part in self._open.values():
            part.writer.abandon()


class Part:
    """The reports of one log file on their way into a run of the writer."""

    def __init__(self, name: str, log_file: LogFile, run: Run, written: Written, opening: Line) -> None:
        self.log_file = log_file
        self.closed = False
        self._run, self._written = run, written
        self._described = Described.of(opening)
        self._sent = self._calls = 0
        self._metrics: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._note: list[str] = []
        advice = missing(name)
        if advice is not None:
            raise UserError(advice)
        module, _, target = WRITERS[name].implementation.partition(":")
        make: Make = getattr(importlib.import_module(module), target)
        if run.folder is not None:  # of a process that was killed
            shutil.rmtree(run.folder, ignore_errors=True)
        self.writer = make(FOLDER / name, run, self._described, opening["writers"][name])
        run.folder = None if self.writer.folder is None else str(self.writer.folder)
        written.save()

    def write(self, *, ended: bool) -> None:
        """Writes the new lines, and closes the run after the last one."""
        for line in self.log_file.lines(self._sent):
            try:
                HANDLERS.get(line["kind"], Part._ignore)(self, line)
            except ValueError as error:
                log.warning("%s: %s is not written: %s", self.log_file.name, line["kind"], error)
            self._sent += line["bytes"]
        if ended and not self.closed:
            self._finish({"status": "KILLED", "at": int(1000 * self.log_file.path.stat().st_mtime)})
        if not self.closed:
            self.writer.flush()

    def _figures(self, line: Line) -> None:
        values, step = _shown(line), int(line["step"])
        # a resumed stage repeats what it did after its checkpoint
        new = {name: value for name, value in values.items() if step > self._run.steps.get(name, -1)}
        self._metrics |= values
        self._steps |= dict.fromkeys(new, step)
        if new:
            self._calls += 1
            self.writer.scalars(new, step, line["at"])

    def _parameters(self, line: Line) -> None:
        self.writer.parameters(line["values"])

    def _dataset(self, line: Line) -> None:
        self.writer.parameters({"dataset": line["values"]["name"], "dataset_digest": line["values"]["digest"]})

    def _artifact(self, line: Line) -> None:
        path = Path(line["path"])
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = "/".join(part for part in (line["folder"], file.stem) if part)
            if file.suffix in IMAGES | VIDEOS:
                self._calls += 1
                show = self.writer.image if file.suffix in IMAGES else self.writer.video
                show(name, file, line["at"])

    def _description(self, line: Line) -> None:
        self._note += line["lines"]

    def _finish(self, line: Line) -> None:
        described = self._described
        lines = [notes.headline(self._metrics), notes.exploitation(self._metrics), *self._note]
        note = notes.of_run(lines, described.tags, described.command)
        self.writer.close(line["status"], note, line["at"])
        self._written.close(self._run, self.log_file.name, self._steps, self._calls)
        self.closed = True

    def _ignore(self, line: Line) -> None:
        """Models and what is measured of them have their place in MLflow, which has a registry."""


HANDLERS: dict[str, Callable[[Part, Line], None]] = {
    "metrics": Part._figures,
    "parameters": Part._parameters,
    "dataset": Part._dataset,
    "artifact": Part._artifact,
    "note": Part._description,
    "finish": Part._finish,
}


def _shown(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a line by the names that MLflow shows, headlines also in a section of their own."""
    if not line.get("on_row"):
        return names.stage_metrics(line["values"])
    return {name: value for name, value in names.row_metrics(line["values"]).items() if "/" in name}
