"""Which runs a writer has written: so that a repeated delivery doubles nothing, and a resumed stage goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dreamset.core.files import write_text
from dreamset.pipeline.tracking.writers.base import Described


@dataclass(slots=True)
class Run:
    """A run of a writer. It has several parts if its stage was interrupted and resumed."""

    name: str  # no other run has the same name and stage
    stage: str
    key: str
    parts: list[str]  # names of log files
    closed: list[str] = field(default_factory=list)  # the parts that are complete
    steps: dict[str, int] = field(default_factory=dict)  # last step of each figure in them
    calls: int = 0  # how often figures and media were written in them
    folder: str | None = None  # that the writer made for the part that is not closed


class Written:
    """The runs of one writer, in a json file beside its data."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.json"
        plain = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        self._runs = [Run(**run) for run in plain]

    def begin(self, part: str, described: Described) -> Run:
        """The run that a log file belongs to: the one it is a part of already, the one it resumes, or a new one."""
        same = [run for run in self._runs if (run.stage, run.key) == (described.stage, described.key)]
        known = [run for run in same if part in run.parts]
        if known:
            return known[0]
        if described.resumed and same:
            same[-1].parts.append(part)
            run = same[-1]
        else:
            run = Run(self._unused(described), described.stage, described.key, [part])
            self._runs.append(run)
        self.save()
        return run

    def close(self, run: Run, part: str, steps: Mapping[str, int], calls: int) -> None:
        """Notes that a part is complete, with the last step of each figure."""
        run.closed.append(part)
        run.steps = {**run.steps, **steps}
        run.calls += calls
        run.folder = None
        self.save()

    def save(self) -> None:
        """Writes the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps([asdict(run) for run in self._runs], indent=1))

    def _unused(self, described: Described) -> str:
        used = {run.name for run in self._runs if run.stage == described.stage}
        number, name = 1, described.name
        while name in used:
            number += 1
            name = f"{described.name} ({number})"
        return name
