"""Videos name what they show in margins beside the images."""

from itertools import pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.report import videos
from dreamset.pipeline.report.captions import BORDER, LINE, WIDEST, Column, captioned, text_width, with_captions
from dreamset.pipeline.report.frames import resized
from dreamset.pipeline.report.videos import MOST_FRAMES, episode_video, open_loop_video, shown_rows


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
    open_loop_video(images, images, 2, tmp_path / "video.mp4", title="any", episodes=["episode 7, return 1.5"])
    video = iio.imread(tmp_path / "video.mp4").astype(int)
    step = video[:, LINE : 2 * LINE]  # the title is above
    assert np.abs(step[2] - step[1])[:, 50:].max() > 100


def test_frames_of_a_video_are_equally_wide_whatever_their_texts() -> None:
    frame, heads = np.zeros((32, 8, 3), np.uint8), (["short"], ["a head that is a good deal longer than that"])
    width = max(map(text_width, heads))
    assert len({with_captions(frame, head, ["row"]).shape for head in heads}) == 2
    assert {with_captions(frame, head, ["row"], least_width=width).shape[1] for head in heads} == {width}


@pytest.mark.parametrize("shape", [(32, 32, 3), (84, 84, 3), (48, 64, 1), (480, 480, 3), (32, 480, 3), (480, 32, 1)])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_no_text_or_border_covers_an_image_of_any_size(shape: tuple[int, int, int], count: int) -> None:
    """Every image has a grey of its own, so that all its rows and columns are found whole."""
    greys = np.arange(2 * count).reshape(count, 2) + 60
    columns = [
        Column(
            [np.full((2, *shape), grey, np.uint8) for grey in pair],
            [["episode 12, return 1234.5"]] * 2,
            [(9, 9, 9)] * 2,
        )
        for pair in greys
    ]
    frames = list(
        captioned(columns, [["step 1"], ["step 2, with a text that is longer than a small image"]], ["a", "b"])
    )
    height, width, _ = resized(np.zeros(shape, np.uint8)).shape
    assert len({frame.shape for frame in frames}) == 1
    for grey in greys.flat:
        image = (frames[1] == grey).all(-1)
        assert ((image.sum(1) >= width).sum(), (image.sum(0) >= height).sum()) == (height, width)
    assert frames[1][:LINE].max() == 255
    assert frames[1][:, -3:].max() in (0, 9)
    assert max(frame.shape[1] for frame in frames) < WIDEST + 200


def test_each_column_has_its_text_above_and_room_for_it() -> None:
    images = [np.full((1, 4, 8, 3), grey, np.uint8) for grey in (60, 61)]
    texts = ["short", "a text that is much wider than its image"]
    columns = [Column([image], [[text]], [(9, 9, 9)]) for image, text in zip(images, texts, strict=True)]
    (frame,) = captioned(columns, [["head"]])
    lefts = [int(np.flatnonzero((frame[-9] == grey).all(-1))[0]) - BORDER for grey in (60, 61)]
    assert lefts[1] - lefts[0] >= text_width(texts)
    upper = frame[LINE : -(resized(images[0][0]).shape[0] + 2 * BORDER)]
    assert upper[:, : lefts[1]].max() == upper[:, lefts[1] :].max() == 255


def test_large_images_are_reduced_by_means_and_small_ones_repeated() -> None:
    large = np.random.default_rng(0).integers(0, 256, (480, 640, 1), np.uint8)
    expected = large[..., 0].reshape(240, 2, 320, 2).mean((1, 3))
    np.testing.assert_allclose(resized(large)[..., 1], expected, atol=0.51)
    small = large[:32, :32]
    np.testing.assert_array_equal(resized(small)[::4, ::4, 2], small[..., 0])
    assert resized(large[:32]).shape == (32, 640, 3)


def test_episodes_show_step_and_return_so_far_and_how_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Column] = []

    def capture(columns: list[Column], heads: list[list[str]], rows: tuple[str, ...] = ()) -> object:
        drawn.extend(columns)
        return captioned(columns, heads, rows)

    monkeypatch.setattr(videos, "captioned", capture)
    episodes = [
        RecordedEpisode(
            seed=7 + size,
            observations={"image": np.full((size + 1, 16, 16, 1), size, np.uint8)},
            infos={},
            actions=np.zeros((size, 1), np.float32),
            rewards=np.arange(size) + 0.5,
            terminated=size == 2,
        )
        for size in (2, 4)
    ]
    episode_video(episodes, lambda: pytest.fail("the images need no rendering"), tmp_path / "a.mp4", title="any")
    assert iio.imread(tmp_path / "a.mp4").shape[0] == 5
    assert drawn[0].lines == [
        ["episode 1 (seed 9)", "step 0, return 0.0", ""],
        ["episode 1 (seed 9)", "step 1, return 0.5", ""],
        ["episode 1 (seed 9)", "step 2, return 2.0", "ended"],
    ]
    assert [lines[2] for lines in drawn[1].lines] == ["", "", "", "", "time limit"]
    np.testing.assert_array_equal(drawn[0].frame(4), drawn[0].frame(2))


@pytest.mark.parametrize("size", [(33, 35), (32, 36)])
def test_videos_keep_every_pixel_of_odd_frames(size: tuple[int, int], tmp_path: Path) -> None:
    videos.write_video(tmp_path / "a.mp4", iter(np.full((3, *size, 3), 200, np.uint8)))
    video = iio.imread(tmp_path / "a.mp4")
    assert video.shape == (3, 34 if size[0] == 33 else 32, 36, 3)
    assert np.abs(video[:, : size[0], : size[1]].astype(int) - 200).max() < 100  # a black line would differ by 200


@pytest.mark.parametrize("steps", [1, 998, 999, 1000, 2500, 100_000])
def test_a_video_shows_every_row_of_a_short_episode_and_evenly_spaced_rows_of_a_long_one(steps: int) -> None:
    rows = shown_rows(steps)
    assert (rows[0], rows[-1]) == (0, steps)
    assert len(rows) <= MOST_FRAMES + 1
    apart = {after - before for before, after in pairwise(rows[:-1])}
    assert len(apart) <= 1
    assert rows == list(range(steps + 1)) or steps >= MOST_FRAMES
