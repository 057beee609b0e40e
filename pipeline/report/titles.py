"""The titles of figures and videos of one training."""

from collections.abc import Mapping
from typing import Any

from dreamset.pipeline.tracking import labels


def training_title(lineage: Mapping[str, Any]) -> str:
    """``pendulum_pixels · small · reconstruction · seed 0``; what is unknown is left out."""
    preset, seed = labels.current().choices.get("preset"), lineage.get("seed")
    parts = (lineage.get("dataset"), preset, lineage.get("objective"), None if seed is None else f"seed {seed}")
    return " · ".join(str(part) for part in parts if part is not None)
