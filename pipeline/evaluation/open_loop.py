"""Open-loop predictions of observations, for every objective, by a probe decoder on the features."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.core.capabilities import Dynamics, Representation, Spatial
from dreamset.core.records import SequenceBatch
from dreamset.models.attention.decoder import PatchImageDecoder
from dreamset.models.decoders import Decoder, ImageDecoder, MakesImageDecoder
from dreamset.models.probes import open_loop
from dreamset.pipeline.progress import progress
from dreamset.pipeline.report import open_loop_figures, videos
from dreamset.pipeline.report.showing import shown


def new_probe_decoder(model: Representation[Any], *, depth: int, hidden: int, layers: int) -> Decoder:
    """An untrained decoder of the model's features; of those of patches, images are decoded place by place."""
    image: MakesImageDecoder = ImageDecoder
    if isinstance(model, Spatial):
        patches, channels = model.map_shape
        image = partial(PatchImageDecoder, patches=patches, channels=channels)
    return Decoder(model.feature_size, model.spec, depth=depth, hidden=hidden, layers=layers, image=image)


def train_probe_decoder(
    model: Representation[Any],
    batch: SequenceBatch,
    *,
    updates: int,
    batch_size: int,
    lr: float,
    depth: int,
    hidden: int,
    layers: int,
    seed: int,
) -> Decoder:
    """A decoder of the frozen model's features, trained on the episodes in ``batch``."""
    device = batch.reward.device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        features = model.observe(batch, generator).features.flatten(0, 1)  # [B T, F]
    observations = {name: value.flatten(0, 1) for name, value in batch.observations.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = new_probe_decoder(model, depth=depth, hidden=hidden, layers=layers).to(device)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    for _ in progress(range(updates), description="fit the decoder of the probe", total=updates, unit="update"):
        rows = torch.randint(len(features), (batch_size,), generator=generator, device=device)
        log_prob = decoder.log_prob(features[rows], {name: value[rows] for name, value in observations.items()})
        loss = -torch.stack([value.mean() for value in log_prob.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return decoder.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class OpenLoopPrediction:
    """Recorded and predicted observations of held-out episodes, [B, context + horizon, ...] by name.

    Images are floats in [0, 1], vectors are standardised.
    """

    truth: dict[str, NDArray[np.float32]]
    prediction: dict[str, NDArray[np.float32]]
    context: int

    @property
    def mean_squared_error(self) -> float:
        """The mean over all rows after the context, then over the observation names."""
        errors = [
            np.square(self.prediction[name][:, self.context :] - truth[:, self.context :]).mean()
            for name, truth in self.truth.items()
        ]
        return float(np.mean(errors))

    def save(self, folder: Path, *, title: str, episodes: Sequence[str]) -> None:
        """Writes a video and a figure per image and a figure per vector; nothing per patch features.

        What cannot be drawn is left out with a warning.

        Args:
            folder: is made if it does not exist.
            title: of every video and figure.
            episodes: the names of the first episodes, which are shown.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, truth in self.truth.items():
            if truth.ndim == 4:  # patch features [B, T, P, C], which cannot be seen
                continue
            pair = truth[: len(episodes)], self.prediction[name][: len(episodes)]
            video, figure, head = (
                folder / f"open_loop_{name}.mp4",
                folder / f"open_loop_{name}.png",
                f"{title} · {name}",
            )
            if truth.ndim == 5:
                with shown(video):
                    videos.open_loop_video(*pair, self.context, video, title=head, episodes=episodes)
            with shown(figure):
                draw = open_loop_figures.open_loop_strip if truth.ndim == 5 else open_loop_figures.open_loop_lines
                draw(*pair, self.context, figure, title=head, episodes=episodes)


@torch.no_grad()
def open_loop_prediction(
    model: Dynamics[Any], decoder: Decoder, batch: SequenceBatch, *, context: int, horizon: int
) -> OpenLoopPrediction:
    """Observes ``context`` rows, predicts ``horizon`` more rows under the recorded actions, and decodes both."""
    generator = torch.Generator(batch.reward.device).manual_seed(0)
    rollout = model.observe(batch.slice_time(0, context), generator)
    predicted = open_loop(model, rollout, batch, start=context - 1, horizon=horizon, generator=generator)
    features = predicted.features[1:].transpose(0, 1)  # [B, horizon, F]
    decoded = decoder(torch.cat([rollout.features, features], dim=1))
    targets = decoder.targets({name: value[:, : context + horizon] for name, value in batch.observations.items()})
    return OpenLoopPrediction(
        {name: _presentable(value) for name, value in targets.items()},
        {name: _presentable(value.mean) for name, value in decoded.items()},
        context,
    )


def _presentable(value: Tensor) -> NDArray[np.float32]:
    """Images [B, T, C, H, W] in [-0.5, 0.5] become [B, T, H, W, C] in [0, 1]; vectors stay."""
    if value.ndim == 5:
        value = (value.movedim(2, -1) + 0.5).clamp(0, 1)
    return value.float().cpu().numpy()
