"""Collects the data of every collector, measures which states they cover, and learns further from few episodes."""

from pathlib import Path
from typing import Any

from benchmarks.exploration.cells import Axis, coverage_of
from benchmarks.finetuning import learning
from benchmarks.offline_suite.episodes import Returns
from benchmarks.offline_suite.ours import COST
from dreamset.datasets import Store
from dreamset.pipeline.files import read_json
from dreamset.pipeline.stages import ingest
from dreamset.pipeline.stages.settings import Finetune, IngestDataset

STORE_SOURCE = "dreamset.datasets.store_source.StoreSource"


def collect(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Runs a learner's loop and writes one store of its first episodes and of those that it collected.

    The figures are those of ``recorded``; the CPU seconds are those of the loop and of the trainings before it.
    """
    settings = Finetune.of(**work["stage"])
    with learning.fine_tuned(settings) as (learner, seconds):
        paths = [settings.store, str(learner.progress.online.path)]
        merged = {
            "_target_": "dreamset.datasets.store_source.Concatenated",
            "sources": [{"_target_": STORE_SOURCE, "path": path} for path in paths],
            "names": paths,
        }
        ingest.write(IngestDataset.of(**work["ingest"] | {"source": merged}))
        updates = learner.progress.training.update
    figures, returns = recorded(work)
    trained = (Path(settings.world_model), Path(settings.policy).parent)
    before = sum(read_json(folder / COST, made_by="its job")["cpu_seconds"] for folder in trained)
    return figures | {"updates": updates, "cpu_seconds": round(seconds + before, 1)}, returns


def recorded(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Steps, coverage after each episode, and the returns of a store that exists."""
    store = Store.open(work["ingest"]["output"])
    shares = coverage_of(store, [Axis(**axis) for axis in work["cells"]])
    lengths = [int(length) - 1 for length in store.lengths]
    figures = {
        "environment_steps": sum(lengths),
        "coverage": round(shares[-1], 4),
        "coverages": " ".join(f"{share:.4f}" for share in shares),
        "collected": store.digest[:16],
    }
    return figures, [(float(total), length) for total, length in zip(store.returns, lengths, strict=True)]


def few_shot(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Trains a zero-shot policy further with a few episodes of its task; the last evaluation."""
    figures, returns = learning.run(work)[-1]
    return {name: value for name, value in figures.items() if name != "due"}, returns
