"""Stage ``ingest``: any source to one checked store, with a card that a person can look at."""

import logging
from pathlib import Path
from typing import Any

from dreamset.datasets import write_store
from dreamset.datasets.sources.base import Source
from dreamset.datasets.transforms import Transform, transformed
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.progress import counter
from dreamset.pipeline.report.card import write_card
from dreamset.pipeline.tracking import reporting

log = logging.getLogger(__name__)


def run(config: dict[str, Any]) -> None:
    """Writes ``output`` (the store) and ``card``; see ``stages.ingest`` for the configuration."""
    recorded: Source = build_part(config["source"])
    transforms: list[Transform] = [build_part(node) for node in config["transforms"]]
    source = transformed(recorded, transforms)
    settings = config["settings"]
    with counter(description="ingest", total=source.episode_count) as count:
        store = write_store(
            source,
            Path(config["output"]),
            validation_fraction=config["split"]["validation_fraction"],
            seed=config["split"]["seed"],
            on_invalid=config["on_invalid"],
            compression=settings["compression"],
            shard_bytes=settings["shard_megabytes"] << 20,
            workers=settings["workers"],
            on_episode=lambda _: count(),
        )
    quarantined = store.info["quarantined"]
    if quarantined:
        card = Path(config["card"]) / "card.md"
        log.warning("%d of %d episodes are quarantined; %s says why", len(quarantined), source.episode_count, card)
    write_card(store, Path(config["card"]))
    with reporting.stage_run(config["dataset"], experiment=reporting.DATASETS) as tracked:
        tracked.parameters(config)
        tracked.metrics({f"dataset/{name}": float(value) for name, value in store.info["counts"].items()})
        tracked.metrics({"dataset/quarantined": float(len(quarantined))})
        tracked.metrics({"dataset/mean_return": float(store.returns.mean())})
        tracked.dataset(reporting.reference(store, config["dataset"]))
        tracked.artifacts(Path(config["card"]), folder="card")
