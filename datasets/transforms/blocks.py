"""Blocks of actions: one row for every few recorded steps, with all their actions side by side."""

from dataclasses import dataclass

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.actions import FoldActions
from dreamset.datasets.transforms.base import EpisodeTransform


@dataclass(frozen=True)
class ActionBlocks(EpisodeTransform):
    """Keeps every ``steps``-th observation; a row's action is the block of the actions in between, side by side.

    Rewards are summed. An episode whose end is within a block keeps its end: the last action fills up the block, as
    ``dreamset.environments.blocks`` ignores what follows the end. That wrapper plays such blocks. DINO-WM plans in
    blocks of five.
    """

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"ActionBlocks: steps is {self.steps}; allowed: 1 or more")

    @property
    def _joined(self) -> FoldActions:
        return FoldActions(self.steps, "concatenate")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns with a longer action.

        Raises:
            UserError: if the actions are discrete.
        """
        if description.action.discrete:
            raise UserError(
                "ActionBlocks: the actions are discrete, and one-hot rows side by side are none; remove the transform, "
                "or use FoldActions with combine 'first'"
            )
        return self._joined.columns(description)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The shorter episode."""
        return self._joined.apply(raw)
