"""A tiny dataset of patch features with two vectors, and models of them."""

from functools import partial
from typing import Any

import torch

from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.attention.predictor import FramePredictor
from dreamset.models.attention.world_model import AttentionWorldModel
from tests.builders import without_zeros

PATCHES, CHANNELS = 4, 6
SIZES = {
    "history": 3,
    "depth": 2,
    "heads": 2,
    "head_size": 4,
    "hidden": 16,
    "action_code": 3,
    "vector_code": 2,
}


def frames_spec(*, vectors: bool = True, **further: ArraySpec) -> DataSpec:
    """Patch features and, if asked, two vectors; actions between -2 and 4."""
    observations = {"patches": ArraySpec((PATCHES, CHANNELS), "float16", "tiny:0a1b"), **further}
    if vectors:
        observations |= {"arm": ArraySpec((2,), "float32"), "wrist": ArraySpec((1,), "float32")}
    statistics = {
        "patches": VectorStatistics((0.5,), (2.0,)),
        "arm": VectorStatistics((1.0, -1.0), (2.0, 0.5)),
        "wrist": VectorStatistics((0.0,), (4.0,)),
    }
    return DataSpec(observations, ActionSpec(2, discrete=False, low=(-2.0, -2.0), high=(4.0, 4.0)), {}, statistics)


def frames_batch(size: int = 3, length: int = 8, *, seed: int = 0, border: int | None = None) -> SequenceBatch:
    """Random rows; in window 1, another episode begins in row ``border``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(size, length, *shape, generator=generator)

    is_first = torch.zeros(size, length, dtype=torch.bool)
    is_first[:, 0] = True
    if border is not None:
        is_first[1, border] = True
    is_last = is_first.roll(-1, dims=1)
    return SequenceBatch(
        observations={"patches": normal(PATCHES, CHANNELS).half(), "arm": normal(2), "wrist": normal(1)},
        action=torch.rand(size, length, 2, generator=generator) * 6 - 2,
        reward=normal(),
        is_first=is_first,
        is_last=is_last,
        is_terminal=is_last,
        privileged={},
        row=torch.arange(size * length).reshape(size, length),
    )


def frames_model(
    kind: type[AttentionWorldModel] = AttentionWorldModel,
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    **settings: Any,
) -> AttentionWorldModel:
    """A model without constant parameters; ``settings`` of the predictor by their names, others of the model."""
    own = {name: settings.pop(name) for name in list(settings) if name.endswith(("_head", "_weight"))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(
            frames_spec() if spec is None else spec,
            dynamics=partial(FramePredictor, **(SIZES | settings)),
            **({"vector_weight": 0.1} | own),
        )
        without_zeros(model)
    return model
