"""Readers of Dreamer's episodes and replay buffers, and of V-D4RL."""

from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.sources.dreamer.replay import DreamerV3Source
from dreamset.datasets.sources.dreamer.vd4rl import VD4RLSource

__all__ = ["DreamerSource", "DreamerV3Source", "VD4RLSource"]
