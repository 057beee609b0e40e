"""Videos: open-loop predictions beside the truth, and episodes of a policy."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import save_with
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.report.captions import text_width, with_captions
from dreamset.pipeline.report.frames import as_rgb

log = logging.getLogger(__name__)

Images = NDArray[np.float32]  # [..., H, W, C] in [0, 1]

FRAMES_PER_SECOND = 10
VIDEO_EDGE = 128  # least height in pixels of an enlarged frame
CONTEXT, OPEN_LOOP = (0.2, 0.6, 0.2), (0.8, 0.2, 0.2)  # border colours: green while the model observes, then red


def open_loop_video(truth: Images, prediction: Images, context: int, path: Path) -> None:
    """Truth, prediction and difference (rows) of episodes (columns). The border turns red after the context.

    Text in margins names the rows, the step, and whether the model observes.
    """
    difference = np.clip((prediction - truth) / 2 + 0.5, 0, 1)
    rows = [_columns(enlarge(part)) for part in (truth, prediction, difference)]  # [T, H, W, C] each
    frames = np.concatenate(rows, axis=1)
    border = np.array([CONTEXT if t < context else OPEN_LOOP for t in range(len(frames))])[:, None, None, :]
    framed = np.broadcast_to(border, (len(frames), frames.shape[1] + 8, frames.shape[2] + 8, 3)).copy()
    framed[:, 4:-4, 4:-4] = frames
    pixels = (framed * 255).round().astype(np.uint8)
    heads = [_head(t, context) for t in range(len(pixels))]
    width, names = max(map(text_width, heads)), ("truth", "model", "difference")
    captioned = [with_captions(*pair, names, least_width=width) for pair in zip(pixels, heads, strict=True)]
    write_video(path, np.stack(captioned))


def _head(step: int, context: int) -> list[str]:
    """The step, what the model does in it, and how the frames are made."""
    doing = "observing" if step < context else f"open loop +{step - context + 1}"
    return [f"step {step}: {doing}", "decoder: probe on the features", "grey difference: no error"]


def episode_video(episodes: Sequence[RecordedEpisode], make: Callable[[], Environment], path: Path) -> None:
    """Episodes side by side: their image observations, or renderings of the same seeds and actions.

    Without a video of an environment that cannot be rendered, ``path`` stays away and a warning says why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        clips = [_frames(episode, make) for episode in episodes]
    except UserError as error:
        log.warning("no video of the episodes: %s", error)
        return
    length = max(len(clip) for clip in clips)
    padded = [np.concatenate([clip, np.repeat(clip[-1:], length - len(clip), axis=0)]) for clip in clips]
    write_video(path, _columns(enlarge(np.stack(padded))))


def _frames(episode: RecordedEpisode, make: Callable[[], Environment]) -> NDArray[np.uint8]:
    images = [value for value in episode.observations.values() if value.dtype == np.uint8 and value.ndim == 4]
    if images:
        return images[0]
    with closing(make()) as environment:
        environment.reset(seed=episode.seed)
        frames = [np.asarray(environment.render())]
        for action in episode.actions:
            environment.step(action)
            frames.append(np.asarray(environment.render()))
    return np.stack(frames)


def enlarge(images: NDArray[Any]) -> NDArray[Any]:
    """Images [..., H, W, C] as [..., H, W, 3], enlarged to at least ``VIDEO_EDGE`` pixels by repetition."""
    factor = -(-VIDEO_EDGE // images.shape[-3])
    return as_rgb(images).repeat(factor, axis=-3).repeat(factor, axis=-2)


def _columns(clips: NDArray[Any]) -> NDArray[Any]:
    """[B, T, H, W, C] to [T, H, B * W, C]."""
    return np.concatenate(list(clips), axis=2)


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """Writes frames [T, H, W, 3] as H.264 in mp4. H and W are cropped to even numbers, as the format requires."""
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    save_with(
        path,
        lambda beside: iio.imwrite(beside, frames, fps=FRAMES_PER_SECOND, codec="libx264", macro_block_size=1),
    )
