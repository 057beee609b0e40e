"""Trains d3rlpy's algorithms on Dreamset's data with their default hyperparameters, for a budget of CPU seconds.

Needs d3rlpy; README.md beside this script says how to install it. Only the inputs are set here: vectors are
standardised, pixels are divided by 255, and three frames are stacked, because one frame shows no velocity. Vectors are
not stacked. Dreamset's models have memory and need no stacking. The last policy is evaluated; no checkpoint is picked.
"""

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import d3rlpy
import numpy as np
from d3rlpy.algos.utility import build_scalers_with_transition_picker
from d3rlpy.constants import ActionSpace
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.offline_suite.episodes import Returns, run_policy
from benchmarks.offline_suite.transitions import RecentFrames, own_actions, peer_episode, peer_observations
from dreamset.core.spec import DataSpec
from dreamset.datasets import Store

STACKED_FRAMES = 3
SMALLEST_DEFAULT = 36  # pixels per edge that the default encoder needs at least
SMALL_FILTERS = [
    [32, 4, 2],
    [64, 4, 2],
    [64, 3, 1],
]  # channels, kernel, stride: the default encoder with smaller kernels and strides first


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Trains and evaluates one algorithm; returns metrics and returns."""
    store = Store.open(work["store"])
    d3rlpy.seed(work["seed"])
    data = replay_buffer(store)
    algorithm = build(work["classes"], store.spec, data)
    updates, seconds = train(algorithm, data, budget=work["budget"], max_updates=work["max_updates"])
    returns = run_policy(work["environment"], work["evaluation"], PeerPolicy(algorithm, store.spec))
    figures = {
        "behavior_updates": updates,
        "behavior_cpu_seconds": round(seconds, 1),
        "cpu_seconds": round(seconds, 1),
        "parameters": parameter_count(algorithm),
        "d3rlpy": d3rlpy.__version__,
    }
    return figures, returns


def replay_buffer(store: Store) -> d3rlpy.dataset.ReplayBuffer:
    """A replay buffer with all training episodes."""
    frames = d3rlpy.dataset.FrameStackTransitionPicker(STACKED_FRAMES) if sees_images(store.spec) else None
    converted = [peer_episode(store.read(int(episode)), store.spec) for episode in store.split("train")]
    return d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=[
            d3rlpy.dataset.Episode(episode.observations, episode.actions, episode.rewards, episode.terminated)
            for episode in converted
        ],
        transition_picker=frames,
        action_space=ActionSpace.DISCRETE if store.spec.action.discrete else ActionSpace.CONTINUOUS,
        action_size=store.spec.action.size,
    )


def sees_images(spec: DataSpec) -> bool:
    """Whether the observations are images."""
    return any(array.is_image for array in spec.observations.values())


def build(classes: Mapping[str, str], spec: DataSpec, data: d3rlpy.dataset.ReplayBuffer) -> Any:
    """The algorithm for the kind of actions, with initialised networks and fitted scalers."""
    configuration = getattr(d3rlpy.algos, classes["discrete" if spec.action.discrete else "continuous"])
    algorithm = configuration(**input_settings(configuration, spec)).create(device=False)
    build_scalers_with_transition_picker(algorithm, data)
    algorithm.build_with_dataset(data)
    return algorithm


def input_settings(configuration: type, spec: DataSpec) -> dict[str, Any]:
    """Settings of the observations; all other settings are the algorithm's defaults."""
    if not sees_images(spec):
        return {"observation_scaler": d3rlpy.preprocessing.StandardObservationScaler()}
    settings: dict[str, Any] = {"observation_scaler": d3rlpy.preprocessing.PixelObservationScaler()}
    if min(next(iter(spec.observations.values())).shape[:2]) < SMALLEST_DEFAULT:
        encoder = d3rlpy.models.PixelEncoderFactory(filters=SMALL_FILTERS)
        names = [field.name for field in fields(configuration) if field.name.endswith("encoder_factory")]
        settings |= dict.fromkeys(names, encoder)
    return settings


def train(algorithm: Any, data: d3rlpy.dataset.ReplayBuffer, *, budget: float, max_updates: int) -> tuple[int, float]:
    """Trains until the CPU seconds or the updates are used up; returns updates and seconds."""
    began = time.process_time()
    updates, seconds = 0, 0.0
    with tqdm(total=max_updates, desc=type(algorithm).__name__, mininterval=10) as bar:
        while updates < max_updates and seconds < budget:
            algorithm.update(data.sample_transition_batch(algorithm.batch_size))
            updates += 1
            seconds = time.process_time() - began
            bar.update()
    return updates, seconds


def parameter_count(algorithm: Any) -> int:
    """The number of parameters that the algorithm's optimisers update."""
    modules = algorithm.impl.modules
    parts = [getattr(modules, field.name) for field in fields(modules)]
    wrappers = [part for part in parts if isinstance(part, d3rlpy.optimizers.OptimizerWrapper)]
    groups = [group for wrapper in wrappers for group in wrapper.optim.param_groups]
    return sum(parameter.numel() for group in groups for parameter in group["params"])


class PeerPolicy:
    """Greedy actions of an algorithm, in the environment's units."""

    def __init__(self, algorithm: Any, spec: DataSpec) -> None:
        self.algorithm = algorithm
        self.spec = spec
        self.frames = RecentFrames(STACKED_FRAMES) if sees_images(spec) else None

    def __call__(self, observations: dict[str, NDArray[Any]], first: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Actions [N, A] for observations [N, ...] by name."""
        inputs = peer_observations(observations, self.spec)
        if self.frames is not None:
            inputs = self.frames.add(inputs, first)
        return own_actions(self.algorithm.predict(inputs), self.spec.action)
