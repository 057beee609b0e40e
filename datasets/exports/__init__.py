"""Exports of stores to other formats: functions of a store, a folder and a callback per episode."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dreamset.datasets.exports.minari import export_minari
from dreamset.datasets.exports.npz import export_npz
from dreamset.datasets.store import Store

Export = Callable[[Store, Path, Callable[[], None]], None]

EXPORTS: Mapping[str, Export] = {"minari": export_minari, "npz": export_npz}

__all__ = ["EXPORTS", "Export", "export_minari", "export_npz"]
