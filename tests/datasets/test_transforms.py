"""Each transform against independently computed values, and its provenance."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, write_store
from dreamset.datasets.episode import align
from dreamset.datasets.sources import Source, SourceDescription
from dreamset.datasets.transforms import (
    AsImage,
    ClipActions,
    ClipReward,
    Crop,
    FoldActions,
    Grayscale,
    OneHotActions,
    RelabelReward,
    RenameColumns,
    RescaleActions,
    Resize,
    ScaleReward,
    SelectColumns,
    StackFrames,
    Subsample,
    TopReturns,
    Transform,
    transformed,
)

FREE = ActionSpec(1, discrete=False, low=(0.0,), high=(float("inf"),))


class Recorded:
    """Episodes in memory, described by the first one."""

    def __init__(self, *episodes: RawEpisode, action: ActionSpec = FREE, **provenance: Any) -> None:
        self.episodes = episodes
        first = episodes[0]
        observations, privileged = (
            {name: ArraySpec(values.shape[1:], str(values.dtype)) for name, values in columns.items()}
            for columns in (first.observations, first.privileged)
        )
        self.description = SourceDescription(observations, privileged, action, {"format": "memory", **provenance})

    @property
    def episode_count(self) -> int:
        return len(self.episodes)

    def describe(self) -> SourceDescription:
        return self.description

    def read(self, number: int) -> RawEpisode:
        return self.episodes[number]


def recorded_images(*shape: int, transitions: int = 3, seed: int = 0) -> Recorded:
    frames = np.random.default_rng(seed).integers(0, 256, (transitions + 1, *shape), np.uint8)
    actions, rewards = np.zeros((transitions, 1), np.float32), np.arange(transitions, dtype=np.float32)
    return Recorded(RawEpisode("episode_0", {"image": frames}, actions, rewards, True, {}))


def recorded_returns(*returns: float) -> Recorded:
    """Episodes of two steps whose rewards sum up to the returns, and whose state is their number."""
    return Recorded(
        *(
            RawEpisode(
                f"episode_{number}",
                {"state": np.full((3, 1), number, np.float32)},
                np.full((2, 1), number, np.float32),
                np.array([total - 1, 1]),
                False,
                {},
            )
            for number, total in enumerate(returns)
        )
    )


def numbers_of(source: Source) -> list[int]:
    return [int(source.read(number).observations["state"][0, 0]) for number in range(source.episode_count)]


def notes_of(source: Source) -> list[Mapping[str, Any]]:
    return list(source.describe().provenance["transforms"])


def area_weights(old: int, new: int) -> np.ndarray:
    """[new, old] the share of each new pixel that lies in each old one, by measuring overlaps of intervals."""
    weights = np.zeros((new, old))
    for row in range(new):
        begin, end = row * old / new, (row + 1) * old / new
        for column in range(old):
            weights[row, column] = max(0.0, min(end, column + 1) - max(begin, column)) / (end - begin)
    return weights


def area_average(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """[rows, height, width, channels] in float64, not rounded."""
    down, across = area_weights(frames.shape[1], height), area_weights(frames.shape[2], width)
    channels = frames.astype(np.float64).transpose(0, 3, 1, 2)
    return (down @ channels @ across.T).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((8, 12, 3), (4, 3)),  # whole factors, different ones
        ((9, 9, 1), (3, 3)),
        ((3, 3, 1), (2, 2)),
        ((7, 10, 3), (3, 5)),  # whole in one direction only
        ((10, 7, 2), (4, 7)),
        ((13, 11, 3), (12, 2)),
        ((5, 4, 3), (1, 1)),
    ],
)
def test_resize_is_the_mean_of_the_covered_area_rounded_half_up(shape, size):
    source = recorded_images(*shape)
    small = Resize(*size)(source)
    assert small.describe().observations["image"] == ArraySpec((*size, shape[2]), "uint8")
    actual = small.read(0).observations["image"]
    exact = area_average(source.episodes[0].observations["image"], *size)
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, np.floor(exact + 0.5 + 1e-9))


def test_resize_by_a_whole_factor_is_the_block_mean():
    source = recorded_images(6, 8, 3)
    frames = source.episodes[0].observations["image"].astype(np.float64)
    means = np.zeros((4, 3, 2, 3))
    for row in range(3):
        for column in range(2):
            means[:, row, column] = frames[:, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4].mean(axis=(1, 2))
    np.testing.assert_array_equal(Resize(3, 2)(source).read(0).observations["image"], np.floor(means + 0.5))


def test_resize_by_weights_and_by_blocks_agree_in_the_extremes():
    white = np.full((2, 6, 6, 1), 255, np.uint8)
    assert (Resize(4, 5).frames(white) == 255).all()
    assert (Resize(3, 2).frames(white) == 255).all()
    tie = np.array([[0, 1], [1, 0]], np.uint8)[None, :, :, None]  # the mean is exactly 0.5
    assert Resize(1, 1).frames(tie).item() == 1
    thirds = np.array([0, 0, 3], np.uint8)[None, None, :, None]  # by shares: 0 and (0.5 * 0 + 1 * 3) / 1.5 = 2
    assert Resize(1, 2).frames(thirds).ravel().tolist() == [0, 2]


def test_resize_to_the_same_size_changes_nothing():
    source = recorded_images(4, 5, 3)
    np.testing.assert_array_equal(
        Resize(4, 5)(source).read(0).observations["image"], source.episodes[0].observations["image"]
    )


@pytest.mark.parametrize("size", [(5, 4), (4, 6), (0, 2), (2, -1)])
def test_resize_only_shrinks(size):
    with pytest.raises(UserError, match=rf"Resize to {size[0]} x {size[1]}: images are 4 x 5, .* choose a smaller"):
        Resize(*size)(recorded_images(4, 5, 3))


@pytest.mark.parametrize(("corner", "rows", "columns"), [((None, None), (1, 5), (2, 5)), ((3, 0), (3, 7), (0, 3))])
def test_crop_takes_the_rectangle_or_the_centre(corner, rows, columns):
    source = recorded_images(7, 8, 3)
    frames = source.episodes[0].observations["image"]
    cut = Crop(4, 3, *corner)(source)
    actual = cut.read(0).observations["image"]
    np.testing.assert_array_equal(actual, frames[:, rows[0] : rows[1], columns[0] : columns[1]])
    assert cut.describe().observations["image"].shape == actual.shape[1:]
    assert not np.shares_memory(actual, frames)


@pytest.mark.parametrize("settings", [(8, 3), (3, 9), (4, 3, 4, 0), (4, 3, 0, -1), (0, 3)])
def test_crop_beyond_the_image_is_refused(settings):
    with pytest.raises(UserError, match="does not fit into images of 7 x 8; choose another rectangle"):
        Crop(*settings)(recorded_images(7, 8, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 6])  # 6 is more than the episode has images
def test_stacked_images_are_the_last_ones_of_their_episode_with_the_oldest_first(count):
    source = recorded_images(2, 5, 3)
    frames = source.episodes[0].observations["image"]
    stacked = StackFrames(count)(source)
    assert stacked.describe().observations["image"] == ArraySpec((2, 5, 3 * count), "uint8")
    expected = [
        np.concatenate([frames[max(row - back, 0)] for back in reversed(range(count))], axis=-1) for row in range(4)
    ]
    np.testing.assert_array_equal(stacked.read(0).observations["image"], np.stack(expected))
    assert notes_of(stacked)[-1] == {"transform": "StackFrames", "count": count, "only": None}


def test_stack_of_no_images_is_refused():
    with pytest.raises(UserError, match="StackFrames: count is 0; allowed: 1 or more"):
        StackFrames(0)


def test_grayscale_is_the_luma_of_bt601_rounded_half_up():
    source = recorded_images(16, 16, 3)
    frames = source.episodes[0].observations["image"].astype(np.int64)
    luma = (299 * frames[..., 0] + 587 * frames[..., 1] + 114 * frames[..., 2]) / 1000
    actual = Grayscale()(source).read(0).observations["image"]
    assert actual.shape == (4, 16, 16, 1)
    np.testing.assert_array_equal(actual[..., 0], np.floor(luma + 0.5 + 1e-9))
    named = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
    assert Grayscale().frames(named[None, None])[0, 0, :, 0].tolist() == [255, 76, 150, 29, 0]


def test_grayscale_of_a_stack_is_the_grayscale_of_each_frame():
    source = recorded_images(6, 5, 9)
    frames = source.episodes[0].observations["image"]
    grey = Grayscale()(source)
    actual = grey.read(0).observations["image"]
    assert grey.describe().observations["image"].shape == actual.shape[1:] == (6, 5, 3)
    for number in range(3):
        alone = Grayscale().frames(frames[..., 3 * number : 3 * number + 3])
        np.testing.assert_array_equal(actual[..., number], alone[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_grayscale_needs_three_channels_per_frame(channels):
    with pytest.raises(UserError, match=f"Grayscale needs three channels per frame, the images have {channels}"):
        Grayscale()(recorded_images(4, 4, channels))


@pytest.mark.parametrize("transform", [Resize(3, 2), Resize(2, 4), Crop(3, 2)])
@pytest.mark.parametrize("channels", [2, 4, 5, 9])
def test_channels_are_resized_and_cropped_alike(transform, channels):
    source = recorded_images(6, 8, channels)
    frames = source.episodes[0].observations["image"]
    actual = transform(source).read(0).observations["image"]
    assert transform(source).describe().observations["image"].shape == actual.shape[1:]
    for channel in range(channels):
        np.testing.assert_array_equal(actual[..., channel], transform.frames(frames[..., [channel]])[..., 0])


def recorded_vectors(rows: np.ndarray) -> Recorded:
    """Rows of any shape as a reader gives them: flat float32 vectors."""
    transitions = len(rows) - 1
    flat = rows.reshape(len(rows), -1).astype(np.float32)
    actions, rewards = np.zeros((transitions, 1), np.float32), np.zeros(transitions, np.float32)
    return Recorded(RawEpisode("episode_0", {"view": flat}, actions, rewards, True, {"view": flat}))


LEVELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("stored", "settings"),
    [
        (LEVELS / 255, {"shape": [6, 5, 3], "white": 1.0}),
        (LEVELS / 127.5 - 1, {"shape": [6, 5, 3], "black": -1.0, "white": 1.0}),
        (LEVELS.astype(np.uint16) * 40, {"shape": [6, 5, 3], "white": 10200}),
        (1 - LEVELS.transpose(0, 3, 1, 2) / 255, {"shape": [3, 6, 5], "black": 1.0, "white": 0.0}),
        (np.stack([LEVELS, LEVELS], 1)[:, :, :, :, :1], {"shape": [2, 6, 5, 1], "white": 255}),
    ],
    ids=["floats", "centred floats", "depth", "channels first, inverted", "frames"],
)
def test_vectors_become_the_images_that_they_were(stored, settings):
    source = AsImage("view", **settings)(recorded_vectors(stored))
    raw = source.read(0)
    wanted = LEVELS if settings["shape"][0] != 2 else LEVELS[..., [0, 0]]
    for columns, specs in (
        (raw.observations, source.describe().observations),
        (raw.privileged, source.describe().privileged),
    ):
        np.testing.assert_array_equal(columns["view"], wanted)
        assert columns["view"].dtype == np.uint8
        assert specs["view"] == ArraySpec(wanted.shape[1:], "uint8")


def test_value_beyond_white_is_refused_or_clipped():
    depth = LEVELS[..., 0] * 4.0
    depth[2, 0, 3] = 65535
    with pytest.raises(UserError, match=r"^episode_0: 'view' is 65535 at step 2; allowed: 0 to 1020; change .* clip"):
        AsImage("view", [6, 5], 1020)(recorded_vectors(depth)).read(0)
    image = AsImage("view", [6, 5], 1020, clip=True)(recorded_vectors(depth)).read(0).observations["view"]
    assert image[2, 0, 3] == 255
    np.testing.assert_array_equal(image[:2, ..., 0], LEVELS[:2, ..., 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sight"}, r"AsImage: 'sight' does not exist; available: \['view'\]"),
        ({"shape": [6, 5]}, r"AsImage: 'view' is float32\[90\], but images of shape \[6, 5\] have 30 numbers"),
        ({"shape": [90]}, r"AsImage: shape is \[90\]; allowed: \[H, W\]"),
        ({"white": 0.0}, r"AsImage: black is 0.0 and white is 0.0; allowed: two different numbers"),
        ({"white": float("nan")}, r"white is nan; allowed: two different numbers"),
    ],
)
def test_images_that_do_not_fit_the_vector_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AsImage(**{"name": "view", "shape": [6, 5, 3], "white": 1.0, **settings})(recorded_vectors(LEVELS / 255))


def test_observed_and_privileged_images_are_changed_unless_only_names_some(counter_source):
    def with_view(_number: int, episode: RawEpisode) -> RawEpisode:
        return replace(episode, privileged={"view": episode.observations["image"]})

    class Seen(counter_source):  # type: ignore[misc, valid-type]
        def describe(self) -> SourceDescription:
            description = super().describe()
            return replace(description, privileged={"view": description.observations["image"]})

    source = Seen([3], with_view)
    both, one = Resize(1, 1)(source), Resize(1, 1, only=["view"])(source)
    assert [s.describe().observations["image"].shape for s in (both, one)] == [(1, 1, 1), (2, 3, 1)]
    assert [s.describe().privileged["view"].shape for s in (both, one)] == [(1, 1, 1), (1, 1, 1)]
    assert one.read(0).observations["image"].shape == (4, 2, 3, 1)
    assert one.read(0).privileged["view"].shape == (4, 1, 1, 1)
    np.testing.assert_array_equal(both.read(0).observations["state"], source.read(0).observations["state"])


@pytest.mark.parametrize("name", ["state", "nothing"])
def test_image_transform_refuses_columns_that_are_not_images(counter_source, name):
    with pytest.raises(UserError, match=rf"Crop: '{name}' in 'only' is not an image; available: \['image'\]"):
        Crop(1, 1, only=[name])(counter_source([3]))


def test_image_transform_without_images_is_refused():
    with pytest.raises(UserError, match=r"Resize: there is no image among state; remove the transform"):
        Resize(1, 1)(recorded_returns(1.0))


def folded(transitions: int, repeat: int, combine: str, counter_source: Callable[..., Source]) -> RawEpisode:
    source = FoldActions(repeat, combine)(counter_source([transitions]))
    raw = source.read(0)
    assert raw.actions.shape == (len(raw.rewards), source.describe().action.size)
    return raw


@pytest.mark.parametrize(
    ("transitions", "repeat", "rows"),
    [(6, 3, [0, 3, 6]), (7, 3, [0, 3, 6, 7]), (8, 3, [0, 3, 6, 8]), (2, 5, [0, 2]), (1, 1, [0, 1]), (4, 1, range(5))],
)
def test_fold_keeps_every_repeat_th_row_and_the_last(counter_source, transitions, repeat, rows):
    raw = folded(transitions, repeat, "first", counter_source)
    assert raw.observations["state"][:, 0].tolist() == list(rows)
    assert raw.observations["image"][:, 0, 0, 0].tolist() == list(rows)
    assert raw.privileged["clock"][:, 0].tolist() == [2 * row for row in rows]
    assert raw.actions[:, 0].tolist() == [row + 0.25 for row in list(rows)[:-1]]
    sums = [sum(t + 0.5 for t in range(a, b)) for a, b in pairwise(rows)]
    assert raw.rewards.tolist() == sums
    assert raw.terminated


def test_fold_keeps_the_kind_of_end(counter_source):
    assert [FoldActions(2)(counter_source([3, 3])).read(number).terminated for number in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("combine", "actions"),
    [
        ("first", [[0.25], [3.25], [6.25]]),
        ("mean", [[1.25], [4.25], [6.25]]),  # the remainder is its one action, three times
        ("concatenate", [[0.25, 1.25, 2.25], [3.25, 4.25, 5.25], [6.25, 6.25, 6.25]]),
    ],
)
def test_fold_combines_actions_as_set(counter_source, combine, actions):
    assert folded(7, 3, combine, counter_source).actions.tolist() == actions


def test_several_numbers_per_action_are_concatenated_step_by_step():
    actions = np.arange(8, dtype=np.float32).reshape(4, 2)
    action = ActionSpec(2, discrete=False, low=(0.0, -1.0), high=(8.0, 9.0))
    state = {"state": np.arange(5, dtype=np.float32)[:, None]}
    source = FoldActions(2, "concatenate")(
        Recorded(RawEpisode("e", state, actions, np.ones(4), False, {}), action=action)
    )
    assert source.read(0).actions.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert source.describe().action == ActionSpec(
        4, discrete=False, low=(0.0, -1.0, 0.0, -1.0), high=(8.0, 9.0, 8.0, 9.0)
    )


def discrete_source() -> Recorded:
    actions = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    episode = RawEpisode("e", {"state": np.arange(4, dtype=np.float32)[:, None]}, actions, np.ones(3), False, {})
    return Recorded(episode, action=ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3))


def test_fold_of_discrete_actions_allows_first_only():
    assert FoldActions(2)(discrete_source()).read(0).actions.argmax(axis=1).tolist() == [2, 1]
    for combine in ("mean", "concatenate"):
        with pytest.raises(
            UserError, match=f"combine is '{combine}', but the actions are discrete; set combine to 'first'"
        ):
            FoldActions(2, combine)(discrete_source())


@pytest.mark.parametrize("settings", [{"repeat": 0}, {"repeat": 2, "combine": "last"}])
def test_invalid_fold_is_refused(settings):
    with pytest.raises(UserError, match=r"FoldActions: (repeat is 0|combine is 'last'); allowed"):
        FoldActions(**settings)


def numbered_actions(*actions: float) -> Recorded:
    episode = RawEpisode(
        "episode_7 of log.h5",
        {"state": np.zeros((len(actions) + 1, 1), np.float32)},
        np.array(actions, np.float32)[:, None],
        np.ones(len(actions)),
        False,
        {},
    )
    return Recorded(episode, action=ActionSpec(1, discrete=False, low=(-9.0,), high=(9.0,)))


def test_numbers_become_one_hot_rows():
    source = OneHotActions(4)(numbered_actions(3, 0, 1))
    assert source.read(0).actions.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert source.read(0).actions.dtype == np.float32
    assert source.describe().action == ActionSpec(4, discrete=True, low=(0.0,) * 4, high=(1.0,) * 4)


@pytest.mark.parametrize("wrong", [4.0, -1.0, 0.5])
def test_number_that_is_not_a_choice_is_named(wrong):
    source = OneHotActions(4)(numbered_actions(3, 0, wrong))
    with pytest.raises(UserError, match=rf"episode_7 of log\.h5: actions is {wrong:g} at step 2; allowed: .* 0 to 3"):
        source.read(0)


def test_one_hot_needs_one_number_and_a_positive_size():
    with pytest.raises(UserError, match="needs an action of one number, but the source has 3 choices already"):
        OneHotActions(3)(discrete_source())
    with pytest.raises(UserError, match="OneHotActions: size is 0; allowed: 1 or more"):
        OneHotActions(0)


def two_actions(*rows: Sequence[float], low: float = -1, high: float = 1) -> Recorded:
    episode = RawEpisode(
        "episode_7 of log.h5",
        {"state": np.arange(len(rows) + 1, dtype=np.float32)[:, None]},
        np.array(rows, np.float32),
        np.ones(len(rows)),
        False,
        {},
    )
    return Recorded(episode, action=ActionSpec(2, discrete=False, low=(low, low), high=(high, high)))


def test_actions_beyond_the_space_are_clipped_to_it_and_to_nothing_less():
    source = ClipActions()(two_actions((4.4, 0.25), (-3, -1), (1, -1.5)))
    assert source.read(0).actions.tolist() == [[1, 0.25], [-1, -1], [1, -1]]
    assert source.describe().action == ActionSpec(2, discrete=False, low=(-1, -1), high=(1, 1))
    assert notes_of(source) == [{"transform": "ClipActions", "low": (-1, -1), "high": (1, 1)}]
    align(source.read(0), source.describe())


def test_given_bounds_of_clipping_replace_those_of_the_space():
    source = ClipActions(low=-2, high=[3, 0.5])(two_actions((4, 0.25), (-3, -1)))
    assert source.read(0).actions.tolist() == [[3, 0.25], [-2, -1]]
    assert source.describe().action == ActionSpec(2, discrete=False, low=(-2, -2), high=(3, 0.5))


def test_clipping_keeps_nan_for_the_check():
    with pytest.raises(UserError, match=r"episode_7 of .*: actions is nan at step 1"):
        ClipActions()(two_actions((4, 0), (np.nan, 0))).read(0)


def test_clipping_to_an_unbounded_space_needs_bounds():
    source = two_actions((4, 0), low=-np.inf, high=np.inf)
    with pytest.raises(UserError, match="ClipActions: the actions of the source have no bounds; set low and high"):
        ClipActions()(source)
    assert ClipActions(-1, 1)(source).read(0).actions.tolist() == [[1, 0]]


def test_rescaled_actions_are_linear_between_the_bounds():
    source = RescaleActions(low=[0, -2], high=[10, 6])(two_actions((0, -2), (10, 6), (5, 0), (2.5, 2)))
    assert source.read(0).actions.tolist() == [[-1, -1], [1, 1], [0, -0.5], [-0.5, 0]]
    assert source.describe().action == ActionSpec(2, discrete=False, low=(-1, -1), high=(1, 1))
    align(source.read(0), source.describe())


def test_action_beyond_the_bounds_of_rescaling_is_named_as_recorded():
    with pytest.raises(UserError, match=r"actions is 11 at step 1, element \[0\]; allowed: \[0, 10\]: add the"):
        RescaleActions(low=[0, -2], high=[10, 6])(two_actions((0, -2), (11, 6))).read(0)


def test_clipping_to_a_range_and_rescaling_it_compose():
    source = RescaleActions(0, 4)(ClipActions(0, 4)(two_actions((-1, 3), (9, 4))))
    assert source.read(0).actions.tolist() == [[-1, 0.5], [1, 1]]


@pytest.mark.parametrize("transform", [ClipActions(1, 1), ClipActions([0, 0, 0], 1), RescaleActions(2, 1)])
def test_bounds_that_do_not_fit_the_action_are_refused(transform):
    with pytest.raises(UserError, match=rf"{type(transform).__name__} from .*: expected one number or 2 for each"):
        transform(two_actions((0, 0)))


@pytest.mark.parametrize("transform", [ClipActions(), RescaleActions(0, 1)])
def test_discrete_actions_have_no_bounds_to_change(transform):
    with pytest.raises(UserError, match="the action is discrete; remove the transform"):
        transform(discrete_source())


def test_rewards_are_scaled_and_shifted_then_rounded_once():
    rewards = np.array([0.1, -3.0, 1e6], np.float32)
    raw = RawEpisode("e", {"state": np.zeros((4, 1), np.float32)}, np.zeros((3, 1), np.float32), rewards, False, {})
    actual = ScaleReward(3.0, -0.5)(Recorded(raw)).read(0).rewards
    assert actual.tolist() == [float(r) * 3.0 - 0.5 for r in rewards]
    assert rewards.tolist() == [np.float32(0.1), -3.0, 1e6]  # the input is as it was


def test_rewards_are_clipped():
    raw = recorded_returns(0.0).episodes[0]
    raw = replace(raw, rewards=np.array([-5.0, 0.25]))
    assert ClipReward(-1, 1)(Recorded(raw)).read(0).rewards.tolist() == [-1, 0.25]
    with pytest.raises(UserError, match=r"ClipReward from 1 to 1: low must be below high"):
        ClipReward(1, 1)


def test_nan_reward_survives_clipping(counter_source, tmp_path):
    def spoil(_number: int, episode: RawEpisode) -> RawEpisode:
        return replace(episode, rewards=np.where(np.arange(3) == 1, np.nan, episode.rewards))

    source = ClipReward(0, 1)(counter_source([3, 3], spoil))
    with pytest.raises(UserError, match=r"episode_0 of counter: rewards is nan at step 1"):
        write_store(source, tmp_path / "store")


@pytest.mark.parametrize("transform", [ScaleReward(2.0), ClipReward(0, 1)])
def test_changed_rewards_remove_reference_scores(transform):
    episode = recorded_returns(1.0).episodes[0]
    source = Recorded(episode, ref_min_score=0.0, ref_max_score=9.0)
    assert {"ref_min_score", "ref_max_score"} <= Resize(1, 1)(_with_image(source)).describe().provenance.keys()
    after = transform(source).describe().provenance
    assert set(after) == {"format", "transforms"}


def _with_image(source: Recorded) -> Recorded:
    raw = replace(source.episodes[0], observations={"image": np.zeros((3, 2, 2, 3), np.uint8)})
    return Recorded(raw, **dict(source.description.provenance))


@pytest.fixture
def rewards_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a user module and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    (tmp_path / "code").mkdir()

    def write(body: str, name: str = "my_rewards") -> str:
        (tmp_path / "code" / f"{name}.py").write_text(body)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_relabelling_receives_the_whole_episode(rewards_module, counter_source):
    module = rewards_module(
        "def after(observations, privileged, actions, rewards):\n"
        "    return observations['state'][1:, 0] + 10 * actions[:, 0] + 100 * rewards + privileged['clock'][1:, 0]\n"
    )
    raw = RelabelReward(f"{module}:after")(counter_source([3, 3])).read(1)
    steps = 1000 + np.arange(3)
    np.testing.assert_allclose(raw.rewards, steps + 1 + 10 * (steps + 0.25) + 100 * (steps + 0.5) + 2 * (steps + 1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return rewards[1:]", r"returned float32\[2\], expected 3 numbers"),
        ("return rewards[:, None]", r"returned float32\[3, 1\], expected 3 numbers"),
        ("return 0.0", r"returned float64\[\], expected 3 numbers"),
        ("return ['a', 'b', 'c']", r"returned <U1\[3\], expected 3 numbers"),
        ("return rewards / no_such_name", r"failed with NameError\(.*no_such_name.*\); fix the function"),
        ("return observations['velocity']", r"failed with KeyError\('velocity'\); fix the function"),
    ],
)
def test_reward_function_that_fails_names_the_episode(rewards_module, counter_source, body, message):
    module = rewards_module(f"def wrong(observations, privileged, actions, rewards):\n    {body}\n")
    source = RelabelReward(f"{module}:wrong")(counter_source([3, 3]))
    with pytest.raises(UserError, match=rf"^episode_1 of counter: the reward function my_rewards:wrong {message}"):
        source.read(1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("my_rewards:missing", "has no attribute 'missing'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("my_rewards", "cannot be imported"),
        (".my_rewards:f", "cannot be imported"),
        (":f", "cannot be imported"),
        ("broken:f", "SyntaxError"),
        ("my_rewards:CONSTANT", "is a int, not a function"),
    ],
)
def test_missing_reward_function_is_named_immediately(rewards_module, function, message):
    rewards_module("CONSTANT = 3\n")
    rewards_module("def f(:\n", name="broken")
    with pytest.raises(UserError, match=rf"reward function '{function}' .*{message}"):
        RelabelReward(function)


def test_function_without_a_file_is_refused(rewards_module):
    module = rewards_module("exec('def unseen(**_): return 0')\n")
    with pytest.raises(UserError, match="is not in a file"):
        RelabelReward(f"{module}:unseen")


def test_changed_code_changes_the_provenance(rewards_module):
    code = "def zero(observations, privileged, actions, rewards):\n    return rewards * {}\n"
    notes = []
    for factor in (0, 0, 2):
        module = rewards_module(code.format(factor))
        notes.append(notes_of(RelabelReward(f"{module}:zero")(recorded_returns(1.0))))
    assert notes[0] == notes[1] != notes[2]
    assert notes[0][0].keys() == {"transform", "function", "code_sha256"}


def test_columns_can_be_selected_and_change_roles(counter_source):
    source = SelectColumns(["clock", "state"], privileged=["image"])(counter_source([3]))
    description, raw = source.describe(), source.read(0)
    assert list(description.observations) == list(raw.observations) == ["clock", "state"]
    assert list(description.privileged) == list(raw.privileged) == ["image"]
    assert raw.observations["clock"][:, 0].tolist() == [0, 2, 4, 6]
    assert description.privileged["image"].is_image


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (SelectColumns(["pose"]), r"SelectColumns: 'pose' does not exist; available: \['clock', 'image', 'state'\]"),
        (SelectColumns(["state"], ["pose"]), "SelectColumns: 'pose' does not exist"),
        (SelectColumns([]), "no observation is selected"),
        (RenameColumns({"pose": "x"}), r"RenameColumns: 'pose' does not exist; available: \['clock', 'image'"),
        (RenameColumns({"state": "image"}), "gives two columns the same name"),
        (RenameColumns({"state": "x", "image": "x"}), "gives two columns the same name"),
        (
            RenameColumns({"clock": "state"}),
            "gives two columns the same name",
        ),  # on the other side: statistics have names
    ],
)
def test_missing_or_clashing_columns_are_named(counter_source, transform, message):
    with pytest.raises(UserError, match=message):
        transform(counter_source([3]))


def test_columns_can_be_renamed_and_swapped(counter_source):
    source = RenameColumns({"state": "image", "image": "state", "clock": "time"})(counter_source([3]))
    description, raw = source.describe(), source.read(0)
    assert description.observations["image"] == ArraySpec((2,), "float32")
    assert raw.observations["image"][:, 0].tolist() == [0, 1, 2, 3]
    assert raw.privileged["time"][:, 0].tolist() == [0, 2, 4, 6]
    shared = SelectColumns(["state"], ["state"])(counter_source([3]))
    both = RenameColumns({"state": "pose"})(shared)
    assert [*both.read(0).observations, *both.read(0).privileged] == ["pose", "pose"]


@pytest.mark.parametrize(
    ("percent", "taken"),
    [(100, [0, 1, 2, 3, 4]), (40, [1, 3]), (50, [1, 3]), (60, [1, 2, 3]), (80, [0, 1, 2, 3]), (1, [1])],
)
def test_top_returns_keep_the_order_and_the_first_of_equals(percent, taken):
    source = TopReturns(percent)(recorded_returns(2.0, 9.0, 5.0, 9.0, 2.0))
    assert numbers_of(source) == taken
    lowest = min([2.0, 9.0, 5.0, 9.0, 2.0][number] for number in taken)
    assert notes_of(source) == [
        {"transform": "TopReturns", "percent": percent, "of": 5, "taken": len(taken), "lowest_return": lowest}
    ]


def test_first_of_equal_returns_are_kept():
    source = recorded_returns(*[1.0, 2.0] * 40)
    assert numbers_of(TopReturns(25)(source)) == list(range(1, 41, 2))


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_impossible_share_is_refused(percent):
    with pytest.raises(UserError, match=r"TopReturns: percent is .*; allowed: above 0, up to 100"):
        TopReturns(percent)


def test_top_returns_keeps_damaged_episodes_for_the_ingest_report(counter_source, tmp_path):
    def damage(number: int, episode: RawEpisode) -> RawEpisode:
        if number == 0:
            raise UserError("episode_0 of counter: unreadable")
        return replace(episode, rewards=episode.rewards * np.nan) if number == 1 else episode

    source = TopReturns(50)(counter_source([3] * 6, damage))
    store = write_store(source, tmp_path / "store", on_invalid="quarantine")
    assert [entry["reason"][:9] for entry in store.info["quarantined"]] == ["episode_0", "episode_1"]
    assert [store.read(episode)["state"][0, 0] for episode in range(2)] == [4000, 5000]  # the better half of 2 to 5
    with pytest.raises(UserError, match="episode_0 of counter: unreadable"):
        write_store(source, tmp_path / "strict")


def test_top_returns_of_damaged_episodes_only_keeps_all(counter_source):
    def damage(number: int, _episode: RawEpisode) -> RawEpisode:
        raise UserError(f"episode_{number} of counter: unreadable")

    source = TopReturns(50)(counter_source([3, 3], damage))
    assert source.episode_count == 2
    assert notes_of(source)[0]["lowest_return"] is None


def test_subsample_depends_on_the_seed_and_keeps_the_order():
    source = recorded_returns(*range(30))
    drawn = numbers_of(Subsample(10)(source))
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn) == numbers_of(Subsample(10)(source))
    assert numbers_of(Subsample(10, seed=1)(source)) != drawn
    assert numbers_of(Subsample(30)(source)) == list(range(30))
    for wrong in (0, 31):
        with pytest.raises(UserError, match=rf"Subsample: episodes is {wrong}; allowed: 1 to 30"):
            Subsample(wrong)(source)


def test_order_of_transforms_matters_and_is_recorded():
    source = recorded_returns(1.0, 4.0)
    chains: list[Sequence[Transform]] = [[ScaleReward(2.0), ClipReward(0, 3)], [ClipReward(0, 3), ScaleReward(2.0)]]
    first, second = (transformed(source, chain) for chain in chains)
    assert first.read(1).rewards.tolist() == [3, 2]  # rewards 3 and 1
    assert second.read(1).rewards.tolist() == [6, 2]
    assert [note["transform"] for note in notes_of(first)] == ["ScaleReward", "ClipReward"]
    assert notes_of(first) == notes_of(second)[::-1]
    assert "transforms" not in source.describe().provenance


def test_later_transform_gets_the_columns_of_the_earlier_one(counter_source):
    source = transformed(counter_source([6]), [RenameColumns({"image": "camera"}), Crop(1, 3, only=["camera"])])
    assert source.read(0).observations["camera"].shape == (7, 1, 3, 1)
    with pytest.raises(UserError, match="Crop: 'camera' in 'only' is not an image"):
        transformed(counter_source([6]), [Crop(1, 3, only=["camera"]), RenameColumns({"image": "camera"})])


def test_invalid_episode_is_reported_with_its_recorded_step(counter_source, nan_in):
    source = FoldActions(2)(counter_source([6, 6], nan_in(1)))
    assert len(source.read(0).rewards) == 3
    with pytest.raises(UserError, match=r"episode_1 of counter: observation 'state' is nan at step 3, element \[1\]"):
        source.read(1)


def test_equal_transforms_give_equal_bytes_and_different_ones_different_bytes(counter_source, tmp_path):
    def digest(name: str, *transforms: Transform) -> str:
        return write_store(transformed(counter_source([5, 6, 7, 8]), transforms), tmp_path / name).digest

    usual = digest("a", Resize(1, 2), FoldActions(2))
    assert digest("b", Resize(1, 2), FoldActions(2)) == usual
    others = {
        digest("c", Resize(1, 1), FoldActions(2)),
        digest("d", Resize(1, 2), FoldActions(3)),
        digest("e", FoldActions(2), Resize(1, 2)),
        digest("f", Resize(1, 2)),
        digest("g", Resize(1, 2), FoldActions(2), ScaleReward(1.0)),
    }
    assert len(others | {usual}) == 6
