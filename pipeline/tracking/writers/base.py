"""What a writer is, and what it is told of the run that it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dreamset.pipeline.tracking import names
from dreamset.pipeline.tracking.names import SEPARATOR


@dataclass(frozen=True, slots=True)
class Described:
    """The run of a stage, as the first line of its log file describes it."""

    name: str  # of its row, or of the experiment of a run that has no row
    group: str  # the same without the seed
    stage: str
    key: str  # digest of settings and inputs
    resumed: bool  # whether the stage went on from a checkpoint
    identity: Mapping[str, Any]  # data set, objective, generation, preset, seed
    tags: Mapping[str, str]
    command: str | None
    at: int  # when it began, in ms since 1970

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Described":
        """From the first line of a log file."""
        tags = {name: value for name, value in line["tags"].items() if not name.startswith("mlflow.")}
        row = line["row"]
        if row is None:
            place = {"name": line["experiment"], "group": line["experiment"], "key": line["stage"], "resumed": False}
            return cls(**place, stage=line["stage"], identity={}, tags=tags, command=None, at=line["at"])
        identity = {name: row["identity"][name] for name in names.FIRST if row["identity"][name] is not None}
        name = row["name"]
        parts = [part for part in name.split(SEPARATOR) if part != f"s{identity['seed']}"]
        return cls(
            name=name,
            group=SEPARATOR.join(parts),
            stage=line["stage"],
            key=row["key"],
            resumed=row["resumed"],
            identity=identity,
            tags=tags,
            command=row["command"],
            at=line["at"],
        )


class Writer(Protocol):
    """Writes a part of a run: the reports of one log file. What was not closed is written again from its beginning."""

    folder: Path | None  # that the writer made for this part alone, and that is removed before it is written again

    def scalars(self, values: Mapping[str, float], step: int, at: int) -> None:
        """Figures at a step; ``at`` in ms since 1970, here and below."""
        ...

    def parameters(self, values: Mapping[str, Any]) -> None:
        """What a person chose."""
        ...

    def image(self, name: str, path: Path, at: int) -> None:
        """A PNG file.

        Raises:
            ValueError: if the file cannot be read.
        """
        ...

    def video(self, name: str, path: Path, at: int) -> None:
        """An MP4 file.

        Raises:
            ValueError: if the file cannot be read.
        """
        ...

    def flush(self) -> None:
        """All of it is readable by others now."""
        ...

    def close(self, status: str, note: str, at: int) -> None:
        """Ends the run with an MLflow status and a description in Markdown."""
        ...

    def abandon(self) -> None:
        """Frees what the writer holds, without ending the run."""
        ...
