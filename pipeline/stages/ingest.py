"""Stage ``ingest``: any source becomes one checked store with a dataset card."""

from pathlib import Path
from typing import Any

from dreamset.datasets import Store, write_store
from dreamset.datasets.sources.base import Source
from dreamset.datasets.sources.scanning import counting
from dreamset.datasets.summary import closing_lines
from dreamset.datasets.transforms import Transform, transformed
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.progress import counter
from dreamset.pipeline.report.card import PAGE, write_card
from dreamset.pipeline.stages.settings import IngestDataset
from dreamset.pipeline.tracking import reporting


def run(config: dict[str, Any]) -> list[str]:
    """Writes ``output`` (the store) and ``card``, and returns what the store holds, for the end of the output.

    ``IngestDataset`` describes the settings.
    """
    settings = IngestDataset.of(**config)
    store, card = write(settings), Path(settings.card)
    write_card(store, card)
    report(settings, store)
    return closing_lines(store, settings.dataset, {"store": settings.output, "card": card / PAGE})


def write(settings: IngestDataset) -> Store:
    """The store of the source with its transforms."""
    with counter(description="scan", delay=1) as count, counting(count):
        recorded: Source = build_part(settings.source)
        transforms: list[Transform] = [build_part(node) for node in settings.transforms]
        source = transformed(recorded, transforms)
        source.describe()
    with counter(description="ingest", total=source.episode_count) as count:
        return write_store(
            source,
            Path(settings.output),
            validation_fraction=settings.split.validation_fraction,
            seed=settings.split.seed,
            on_invalid=settings.on_invalid,
            compression=settings.settings.compression,
            shard_bytes=settings.settings.shard_megabytes << 20,
            workers=settings.settings.workers,
            on_episode=lambda _: count(),
        )


def report(settings: IngestDataset, store: Store) -> None:
    """Settings, counts and card of the dataset, to the tracking."""
    with reporting.stage_run(settings.dataset, experiment=reporting.DATASETS) as tracked:
        tracked.settings("ingest", settings)
        tracked.note(description(store, settings.dataset))
        tracked.metrics({f"dataset/{name}": float(value) for name, value in store.info["counts"].items()})
        tracked.metrics({"dataset/quarantined": float(len(store.info["quarantined"]))})
        tracked.metrics({"dataset/mean_return": store.mean_return})
        tracked.dataset(reporting.reference(store, settings.dataset))
        tracked.artifacts(Path(settings.card), folder="card")


def description(store: Store, name: str) -> str:
    """What the store holds, in Markdown, for the page of its run."""
    counts = ", ".join(f"{value} {what}" for what, value in store.info["counts"].items())
    return (
        f"**{name}**: {counts}; mean return {store.mean_return:.1f}; digest `{store.digest[:12]}`. "
        "The page `card/card.html` among the artifacts describes the data."
    )
