"""Episodes and replay of the Dreamer family, V-D4RL among them."""

from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.sources.dreamer.replay import DreamerV3Source
from dreamset.datasets.sources.dreamer.vd4rl import VD4RLSource

__all__ = ["DreamerSource", "DreamerV3Source", "VD4RLSource"]
