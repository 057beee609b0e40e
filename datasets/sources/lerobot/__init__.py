"""LeRobot datasets of version 2 and 3."""

from dreamset.datasets.sources.lerobot.source import LeRobotSource

__all__ = ["LeRobotSource"]
