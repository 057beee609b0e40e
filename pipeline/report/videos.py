"""Videos: open-loop predictions beside the truth, and episodes of a policy."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2
import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import save_with
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.progress import progress
from dreamset.pipeline.report.captions import Color, Column, captioned
from dreamset.pipeline.report.frames import difference, resized

log = logging.getLogger(__name__)

Images = NDArray[np.float32]  # [..., H, W, C] in [0, 1]

FRAMES_PER_SECOND = 10
MOST_FRAMES = 1000  # of an episode: bounds the memory and the length of a video
ROWS = ("truth", "model", "difference")
OBSERVING, OPEN_LOOP = (0, 158, 115), (213, 94, 0)  # border colours that colour-blind readers can tell apart
PLAYING: Color = (128, 128, 128)  # border colour
OVER: Color = (64, 64, 64)


def open_loop_video(
    truth: Images, prediction: Images, context: int, path: Path, *, title: str, episodes: Sequence[str]
) -> None:
    """Truth, prediction and difference (rows) of episodes (columns), with text in margins.

    Args:
        truth: recorded images, [B, T, H, W, C].
        prediction: those of the model.
        context: rows that the model observes. Then the border turns from green to red.
        path: of the mp4 file.
        title: above the images, in each frame.
        episodes: what each column shows.
    """
    steps = range(truth.shape[1])
    borders = [OBSERVING if step < context else OPEN_LOOP for step in steps]
    columns = [
        Column([_pixels(images) for images in rows], [[name]] * len(steps), borders)
        for name, *rows in zip(episodes, truth, prediction, difference(truth, prediction), strict=True)
    ]
    heads = [
        [title, f"step {step}: {_doing(step, context)}", "decoder: probe on the features; grey difference: no error"]
        for step in steps
    ]
    write_video(path, captioned(columns, heads, ROWS))


def _doing(step: int, context: int) -> str:
    return "observing" if step < context else f"open loop +{step - context + 1}, no observations"


def _pixels(images: Images) -> NDArray[np.uint8]:
    return (images * 255).round().astype(np.uint8)


def episode_video(
    episodes: Sequence[RecordedEpisode], make: Callable[[], Environment], path: Path, *, title: str
) -> None:
    """Episodes side by side: their image observations, or renderings of the same seeds and actions.

    Text in margins states the step and the return so far, and how an episode ended. Of an episode with more than
    ``MOST_FRAMES`` rows evenly spaced ones are shown.
    Without a video of an environment that cannot be rendered, ``path`` stays away and a warning says why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [shown_rows(len(episode.rewards)) for episode in episodes]
    try:
        clips = [_frames(episode, make, shown) for episode, shown in zip(episodes, rows, strict=True)]
    except UserError as error:
        log.warning("no video of the episodes: %s", error)
        return
    columns = [
        Column([clip], _progress(number, episode, shown), [PLAYING] * (len(shown) - 1) + [OVER])
        for number, (clip, episode, shown) in enumerate(zip(clips, episodes, rows, strict=True), start=1)
    ]
    frames = max(map(len, columns))
    drawn = captioned(columns, [[title]] * frames)
    write_video(path, progress(drawn, description="write the video", total=frames, unit="frame", delay=2))


def shown_rows(steps: int) -> list[int]:
    """The rows of an episode that a video shows: all, or evenly spaced ones and the last one of a long episode."""
    every = -(-(steps + 1) // MOST_FRAMES)
    return sorted({*range(0, steps + 1, every), steps})


def _progress(number: int, episode: RecordedEpisode, rows: Sequence[int]) -> list[list[str]]:
    """For each row: which episode it is, the step, the return so far, and how the episode ended, if it did."""
    earned = [0.0, *np.cumsum(episode.rewards)]
    name, last = f"episode {number} (seed {episode.seed})", len(earned) - 1
    end = "ended" if episode.terminated else "time limit"
    return [[name, f"step {row}, return {earned[row]:.1f}", end if row == last else ""] for row in rows]


def _frames(episode: RecordedEpisode, make: Callable[[], Environment], rows: Sequence[int]) -> NDArray[np.uint8]:
    """The images of an episode in these rows, [rows, H, W, C]; renderings have the size of the video."""
    images = [value for value in episode.observations.values() if value.dtype == np.uint8 and value.ndim == 4]
    if images:
        return np.asarray(images[0][list(rows)])
    shown, frames = set(rows), []
    with closing(make()) as environment:
        environment.reset(seed=episode.seed)
        for row in progress(range(len(episode.actions) + 1), description="render an episode", unit="step", delay=2):
            if row:
                environment.step(episode.actions[row - 1])
            if row in shown:
                frames.append(resized(np.asarray(environment.render())))
    return np.stack(frames)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Writes frames [H, W, 3] as H.264 in mp4, one after the other.

    The format requires even numbers for H and W: a black line is added where one is odd.
    """

    def write(beside: Path) -> None:
        settings: dict[str, Any] = {"fps": FRAMES_PER_SECOND, "codec": "libx264", "macro_block_size": 1}
        with imageio.v2.get_writer(beside, **settings) as video:
            for frame in frames:
                video.append_data(np.pad(frame, ((0, len(frame) % 2), (0, frame.shape[1] % 2), (0, 0))))

    save_with(path, write)
