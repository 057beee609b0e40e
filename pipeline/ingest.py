"""Stage ``ingest``: any source to one checked store, with a card that a person can look at."""

from pathlib import Path
from typing import Any

from dreamset.core.files import replaced_folder, write_text
from dreamset.datasets import Store, write_store
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.sources.base import Source
from dreamset.pipeline import figures, tracking
from dreamset.pipeline.runtime import build_part, counter


def run(config: dict[str, Any]) -> None:
    """Writes ``output`` (the store) and ``card``; see ``stages.ingest`` for the configuration."""
    source: Source = build_part(config["source"])
    with counter(description="ingest", total=source.episode_count) as count:
        store = write_store(
            source,
            Path(config["output"]),
            validation_fraction=config["split"]["validation_fraction"],
            seed=config["split"]["seed"],
            on_episode=lambda _: count(),
        )
    write_card(store, Path(config["card"]))
    with tracking.stage_run(config["dataset"], experiment=tracking.DATASETS) as tracked:
        tracked.parameters(config)
        tracked.metrics({f"dataset/{name}": float(value) for name, value in store.info["counts"].items()})
        tracked.metrics({"dataset/mean_return": float(store.returns.mean())})
        tracked.dataset(tracking.reference(store, config["dataset"]))
        tracked.artifacts(Path(config["card"]), folder="card")


def write_card(store: Store, folder: Path) -> None:
    """``card.md``, a histogram of returns and a contact sheet of frames where there are any."""
    with replaced_folder(folder) as fresh:
        figures.return_histogram(store, fresh / "returns.png")
        pictures = ["![returns](returns.png)"]
        for name, spec in store.spec.observations.items():
            if spec.is_image:
                figures.contact_sheet(store, name, fresh / f"{name}.png")
                pictures.append(f"![{name}]({name}.png)")
        write_text(fresh / "card.md", "\n\n".join([summary_markdown(store), *pictures]) + "\n")
