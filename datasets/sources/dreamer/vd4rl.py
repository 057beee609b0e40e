"""V-D4RL in both of its forms: 64 x 64 images as one npz file per episode, 84 x 84 as HDF5 shards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.sources.dreamer.vd4rl_shards import VD4RLShards
from dreamset.datasets.sources.folder import list_files
from dreamset.datasets.sources.tables import HDF5_ENDINGS, NPZ_ENDING


class VD4RLSource:
    """The episodes of one V-D4RL folder, such as ``main/walker_walk/random/64px`` or ``.../84px``.

    Actions are those of the DeepMind Control Suite, between -1 and 1; row t of ``action`` and ``reward`` led to
    observation t.

    In the 64 x 64 form some published files have one row more in some columns than in others: they are cut to the
    shortest, and the provenance names them. Only the images are inputs by default; columns such as ``height`` and
    ``orientations`` are the true state and privileged. For the 84 x 84 form see ``VD4RLShards``.

    Args:
        path: The folder.
        observations: Inputs of the models; by default the images.
        privileged: What only probes see; by default every other numeric column that is alike in all files.
        episodes: Only so many of the first episodes.

    Raises:
        UserError: if the folder holds neither form, or both, or a setting does not fit the files.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
    ) -> None:
        endings = {file.suffix for file in list_files(Path(path), [NPZ_ENDING, *HDF5_ENDINGS])}
        if NPZ_ENDING in endings and len(endings) > 1:
            raise UserError(f"{path}: holds npz and HDF5 files; give the folder '64px' or '84px' of one dataset")
        self._source: Source
        if NPZ_ENDING in endings:
            self._source = DreamerSource(
                path, observations=observations, privileged=privileged, episodes=episodes, discrete=0, cut_rows=1
            )
        else:
            self._source = VD4RLShards(path, observations=observations, privileged=privileged, episodes=episodes)

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return self._source.episode_count

    def describe(self) -> SourceDescription:
        """What each episode holds and where it comes from."""
        description = self._source.describe()
        return replace(description, provenance={**description.provenance, "format": "vd4rl"})

    def read(self, number: int) -> RawEpisode:
        """Episodes in the order of the files and within them."""
        return self._source.read(number)
