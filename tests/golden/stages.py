"""Records the figures of all stages with ``preset=tiny`` for every generation, and saves models and a store.

The dataset is ``pendulum_state``.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect, evaluate, finetune, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages

ASSET = Path(__file__).with_name("stages.json")
SAVED = Path(__file__).with_name("saved")
CASES = {
    "v1": ("world_model=dreamer_v1", "behavior=dreamer_v1"),
    "v2": (
        *("world_model=offline_dreamer_v2", "behavior=dreamer_v2"),
        *("reward=mean_disagreement", "world_model.ensemble.members=3"),
    ),
    "v3": ("world_model=dreamer_v3", "behavior=dreamer_v3", "objective=contrastive"),
}
TIMES = ("decision_milliseconds", "decisions_per_second", "decision_episodes")
UNSTABLE = ("seconds", "threads", *TIMES)  # endings of figures that differ between runs or machines


def figures(case: str) -> dict[str, float]:
    """All figures of all stages, which run in the working folder. It must contain the ingested data."""
    config = compose(["preset=tiny", "dataset=pendulum_state", *CASES[case], f"paths.runs=runs/{case}"])
    values: dict[str, float] = {}
    for name, stage in (
        ("world_model", train_world_model),
        ("behavior", learn_behavior),
        ("evaluation", evaluate),
        ("finetune", finetune),
    ):
        settings = stages.STAGES[stage.__name__.rpartition(".")[2]](config)
        stage.run(settings)
        written: dict[str, Any] = json.loads((Path(settings["output"]) / "metrics.json").read_text())
        values |= {f"{name}/{key}": value for key, value in written.items() if not key.endswith(UNSTABLE)}
    return values


def ingested() -> None:
    """Records and ingests the tiny data in the working folder."""
    config = compose(["preset=tiny", "dataset=pendulum_state"])
    collect.run(stages.collect(config))
    ingest.run(stages.ingest(config))


def main() -> None:
    """Records all cases; ``python -m tests.golden.stages --keep`` also saves their models and the store."""
    os.environ["DREAMSET_TRACKING"] = "off"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        ingested()
        recorded = {case: figures(case) for case in CASES}
        if "--keep" in sys.argv:
            shutil.copytree("data/stores/pendulum_state", SAVED / "store")
            for case in CASES:
                for part in ("world_model", "behavior"):
                    (run,) = Path(f"runs/{case}/{part}").iterdir()
                    shutil.copytree(run / "model", SAVED / case / part)
    ASSET.write_text(json.dumps(recorded, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
