"""The contents of a D4RL file: arrays with one row per step, and flags that end episodes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.sources.columns import Field, Headers, Survey
from dreamset.datasets.sources.rows import Flags, flags
from dreamset.datasets.sources.tables import HDF5Table

OBSERVATIONS, NEXT_OBSERVATIONS = "observations", "next_observations"
ACTIONS, REWARDS = "actions", "rewards"
TERMINALS, TIMEOUTS = "terminals", "timeouts"
EPISODE_TERMINALS = "episode_terminals"  # of d3rlpy 1: set at the end of every episode, whatever its kind

_REQUIRED = (OBSERVATIONS, ACTIONS, REWARDS, TERMINALS)
_OTHER_ENDS = (TIMEOUTS, EPISODE_TERMINALS)
_STANDARD = (*_REQUIRED, NEXT_OBSERVATIONS, *_OTHER_ENDS)
_SKIPPED = {"metadata/": "describes how it was collected", "virtual/": "repeats other arrays in chunks"}


@dataclass(frozen=True, slots=True)
class D4RLFile:
    """The headers of all arrays and the values of the flags."""

    table: HDF5Table
    headers: Headers
    terminals: Flags  # [rows]
    timeouts: Flags  # [rows] ends that are not terminal, or of unknown kind; all False if the file has none

    @property
    def rows(self) -> int:
        """Recorded steps."""
        return len(self.terminals)

    @property
    def end_columns(self) -> list[str]:
        """The columns of ``timeouts``."""
        return [name for name in _OTHER_ENDS if name in self.headers]

    @property
    def state(self) -> str:
        """The name of the column ``observations`` in the store."""
        return "image" if Field.of(OBSERVATIONS, self.headers, str(self.table.path)).codec.spec.is_image else "state"

    def survey(self) -> Survey:
        """The columns with one row per step, and the others with reasons."""
        usable = {self.state: Field.of(OBSERVATIONS, self.headers, str(self.table.path))}
        ignored: dict[str, str] = {}
        for name in sorted(set(self.headers) - set(_STANDARD)):
            reason = self._unfit(name)
            if reason:
                ignored[name] = reason
            else:
                usable[name.replace("/", ".")] = Field.of(name, self.headers, str(self.table.path))
        return Survey(usable, varying={}, ignored=ignored)

    def _unfit(self, name: str) -> str | None:
        header = self.headers[name]
        for beginning, reason in _SKIPPED.items():
            if name.startswith(beginning):
                return reason
        if not header.is_usable:
            return f"{header.dtype}, not numbers"
        if header.shape[:1] != (self.rows,):
            return f"{header.shape[0] if header.shape else 'no'} rows instead of {self.rows}"
        return "no numbers per row" if 0 in header.shape else None


def scan(path: Path) -> D4RLFile:
    """Reads headers and flags.

    Raises:
        UserError: if the file is damaged or not a D4RL dataset.
    """
    table, where = HDF5Table(path), str(path)
    headers = table.headers(where)
    missing = [name for name in _REQUIRED if name not in headers]
    if missing:
        raise UserError(f"{where}: {missing[0]!r} is missing, so the file is not a D4RL dataset; choose another file")
    if headers[OBSERVATIONS].image is not None:
        raise UserError(f"{where}: 'observations' holds JPEG or PNG files; read the file with dataset=hdf5_folder")
    present = [name for name in (TERMINALS, *_OTHER_ENDS) if name in headers]
    ends = {name: flags(values, f"{where}: {name!r}") for name, values in table.read(present, where).items()}
    rows = len(ends[TERMINALS])
    _require_fit(headers, rows, where)
    if not rows:
        raise UserError(f"{where}: contains no steps; download it again")
    timeouts = np.logical_or.reduce([np.zeros(rows, bool), *(ends[name] for name in _OTHER_ENDS if name in ends)])
    return D4RLFile(table, headers, ends[TERMINALS], timeouts)


def _require_fit(headers: Headers, rows: int, where: str) -> None:
    for name in _STANDARD:
        if name in headers and headers[name].shape[:1] != (rows,):
            got = headers[name].shape
            raise UserError(f"{where}: {name!r} has shape {got}, 'terminals' has {rows} rows; download it again")
    if NEXT_OBSERVATIONS in headers and headers[NEXT_OBSERVATIONS].shape != headers[OBSERVATIONS].shape:
        got, needed = headers[NEXT_OBSERVATIONS].shape, headers[OBSERVATIONS].shape
        raise UserError(f"{where}: 'next_observations' has shape {got}, 'observations' has {needed}; download it again")
