"""A world model whose stages report to the tracking."""

from typing import Any

LINEAGE: dict[str, Any] = {
    "key": "of-training",
    "dataset": "robot",
    "objective": "contrastive",
    "generation": "dreamer_v2",
    "seed": 3,
    "dataset_digest": "d" * 64,
    "parent": None,
}
PRESET = {"preset": "small", "world_model": "dreamer_v2"}
