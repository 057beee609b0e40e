"""D4RL datasets."""

from dreamset.datasets.sources.d4rl.source import D4RLSource, fetch

__all__ = ["D4RLSource", "fetch"]
