"""Videos name what they show in margins beside the images."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from dreamset.pipeline.report.captions import text_width, with_captions
from dreamset.pipeline.report.videos import open_loop_video


@pytest.mark.parametrize("size", [(96, 8), (32, 480), (480, 480)])
def test_captions_leave_the_image_whole_and_no_text_clipped(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 77, np.uint8)
    captioned = with_captions(frame, ["step 3: open loop +1"], ["truth"])
    assert (captioned == 77).all(axis=-1).sum() >= frame.shape[0] * frame.shape[1]
    left = text_width(["truth"])
    assert (captioned[-size[0] :, left : left + size[1]] == 77).all()
    assert captioned[: -size[0]].max() == 255
    assert captioned[: -size[0], -3:].max() == 0


def test_an_open_loop_video_says_in_text_when_observing_ends(tmp_path: Path) -> None:
    images = np.zeros((1, 4, 32, 32, 1), np.float32)
    open_loop_video(images, images, 2, tmp_path / "video.mp4")
    video = iio.imread(tmp_path / "video.mp4").astype(int)
    head = video[:, :18]
    assert np.abs(head[2] - head[1])[:, 50:].max() > 100


def test_frames_of_a_video_are_equally_wide_whatever_their_texts() -> None:
    frame, heads = np.zeros((32, 8, 3), np.uint8), (["short"], ["a head that is a good deal longer than that"])
    width = max(map(text_width, heads))
    assert len({with_captions(frame, head, ["row"]).shape for head in heads}) == 2
    assert {with_captions(frame, head, ["row"], least_width=width).shape[1] for head in heads} == {width}
