"""Decodes and shrinks frames of a video by time, with ffmpeg."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

Times = NDArray[np.float64]  # seconds from the beginning of a file

_TIME_BASE = re.compile(r"config in time_base: (\d+/\d+)")
_FRAME = re.compile(r"\] n: *\d+ pts: *(-?\d+) .* s:(\d+)x(\d+) ")
_PIXELS = {1: "gray", 3: "rgb24"}


def decode_frames(
    file: Path, times: Times, *, fps: float, shape: tuple[int, int, int], size: tuple[int, int] | None, where: str
) -> NDArray[np.uint8]:
    """The frame nearest to each of ``times``; it must be less than half a frame away.

    Args:
        file: the video.
        times: [N], N at least 1.
        fps: frames per second.
        shape: height, width and channels of the video.
        size: height and width of the result; None for those of the video.
        where: start of error messages.

    Returns:
        [N, height, width, channels].

    Raises:
        UserError: if the file is missing or damaged, has another image size, or lacks a frame at one of the times.
    """
    if not file.is_file():
        raise UserError(f"{where}: the video {file.name} is missing in {file.parent}; download it, or drop the episode")
    half, place = 0.5 / fps, f"{where}: {file.name}"
    start = max(0.0, float(times.min()) - half)
    height, width = size or shape[:2]
    filters = f"showinfo=checksum=0,format={_PIXELS[shape[2]]},scale={width}:{height}:flags=area"
    window = ["-ss", f"{start:.6f}", "-t", f"{times.max() + half - start:.6f}"]
    decoded = _ffmpeg(file, window, filters, most=2 * len(times) + 2)
    log = decoded.stderr.decode("utf-8", "replace")
    if decoded.returncode:
        raise UserError(f"{place}: unreadable or truncated ({_last_line(log)}); copy or download it again")
    frames = _frames(decoded.stdout, (height, width, shape[2]))
    frame_times = _frame_times(log, shape, place)[: len(frames)]
    return frames[_nearest(frame_times, times, half, place)]


def _ffmpeg(file: Path, window: list[str], filters: str, *, most: int) -> "subprocess.CompletedProcess[bytes]":
    """Decodes a time window of a file; keeps its time stamps and neither repeats nor drops frames."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-nostats", "-copyts"]
    command += ["-protocol_whitelist", "file", "-f", "mp4", *window, "-i", f"file:{file}", "-map", "0:v:0"]
    command += ["-vf", filters, "-fps_mode", "passthrough", "-frames:v", str(most), "-f", "rawvideo", "-"]
    return subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell, a fixed program


def _frames(raw: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    size = int(np.prod(shape))
    whole = len(raw) // size
    return np.frombuffer(raw, np.uint8, whole * size).reshape(whole, *shape)


def _frame_times(log: str, shape: tuple[int, int, int], place: str) -> Times:
    """The exact time of each frame, from the filter ``showinfo``; also checks the size before shrinking."""
    base, frames = _TIME_BASE.search(log), _FRAME.findall(log)
    if base is None or not frames:
        raise UserError(f"{place}: has no frame in this episode ({_last_line(log)}); copy or download it again")
    for _, width, height in frames:
        if (int(height), int(width)) != shape[:2]:
            raise UserError(
                f"{place}: has {height} x {width} pixels, info.json says {shape[0]} x {shape[1]}; fix info.json"
            )
    unit = float(Fraction(base[1]))
    return np.array([int(units) * unit for units, *_ in frames])


def _nearest(frame_times: Times, times: Times, half: float, place: str) -> NDArray[np.intp]:
    after = np.clip(np.searchsorted(frame_times, times), 1, max(len(frame_times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(frame_times) - 1)
    nearest = np.where(np.abs(frame_times[before] - times) <= np.abs(frame_times[after] - times), before, after)
    is_near = np.abs(frame_times[nearest] - times) < half
    if not is_near.all():
        step = int(np.argmin(is_near))
        raise UserError(
            f"{place}: has no frame at {times[step]:.3f} s (step {step}), the nearest is at "
            f"{frame_times[nearest[step]]:.3f} s; copy or download it again, or drop the episode"
        )
    return nearest


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output of ffmpeg"
