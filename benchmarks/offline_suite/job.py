"""Runs one job of the suite in its own process: ``python -m benchmarks.offline_suite.job FILE``.

The file is json with ``kind``, ``folder`` and the settings of that kind. Methods write ``result.json`` into the folder:
the row of ``runs.csv`` and the episodes, or ``points`` with several of them.
"""

import importlib
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from benchmarks.offline_suite.episodes import Returns
from dreamset.core.errors import UserError
from dreamset.pipeline.files import read_json, write_json
from dreamset.pipeline.registry.registration import code_version

# kind -> module and function; imported on use, because peers need d3rlpy
PREPARATIONS = {
    "prepare": ("ours", "prepare"),
    "join": ("ours", "join"),
    "world_model": ("ours", "train"),
    "policy": ("ours", "learn"),
}
METHODS = {
    "ours": ("ours", "run"),
    "peer": ("peers", "run"),
    "baseline": ("baselines", "run"),
    "acting": (".acting.playing", "run"),
    "simulator": (".acting.simulator", "run"),
    "collection": (".exploration.collecting", "collect"),
    "recorded": (".exploration.collecting", "recorded"),
    "few_shot": (".exploration.collecting", "few_shot"),
    "reversibility": (".reversibility.measuring", "run"),
    "goals": (".goals.playing", "run"),
    "goal_baseline": (".goals.playing", "baseline"),
}
CURVES = {  # several results each, one per evaluation
    "finetune": (".finetuning.learning", "run"),
    "replay": (".replay.learning", "run"),
}


def main() -> None:
    """Runs the job; a ``UserError`` is printed in one line and gives status 2."""
    signal.signal(signal.SIGTERM, _interrupt)
    work = read_json(Path(sys.argv[1]), made_by="benchmarks.offline_suite.run")
    try:
        result = perform(work)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if result is not None:
        write_json(Path(work["folder"]) / "result.json", result)


def perform(work: dict[str, Any]) -> dict[str, Any] | None:
    """Runs the job; the content of ``result.json``, or None from a preparation."""
    kind = work["kind"]
    result = _function(*{**PREPARATIONS, **METHODS, **CURVES}[kind])(work)
    if kind in METHODS:
        return described(work["row"], *result)
    return {"points": [described(work["row"], *point) for point in result]} if kind in CURVES else None


def described(row: Mapping[str, Any], figures: Mapping[str, Any], returns: Returns) -> dict[str, Any]:
    """A row of ``runs.csv`` and its episodes."""
    mean = float(np.mean([total for total, _ in returns]))
    return {"run": {**row, **versions(), **figures, "return_mean": mean}, "episodes": returns}


def versions() -> dict[str, str]:
    """Commit, versions of packages, and the processor's instruction set, which affects last bits and CPU seconds."""
    packages = {name: metadata.version(name) for name in ("dreamset", "torch", "numpy")}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"code": code_version(), **packages, "python": platform.python_version(), "cpu_capability": capability}


def _function(module: str, name: str) -> Callable[[dict[str, Any]], Any]:
    function: Callable[[dict[str, Any]], Any] = getattr(importlib.import_module(f".{module}", __package__), name)
    return function


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
