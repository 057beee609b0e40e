import pytest

from dreamset.core.images import ImageAxes, image_axes, likely_image

IMAGES = {  # shape of a row -> [H, W, C]
    (40, 32, 3): (40, 32, 3),
    (3, 40, 32): (40, 32, 3),
    (2, 64, 64): (64, 64, 2),
    (7, 7, 3): (7, 7, 3),
    (2, 3, 1): (2, 3, 1),
    (7, 7, 7): (7, 7, 7),
    (40, 32): (40, 32, 1),
    (4, 40, 32, 1): (40, 32, 4),
    (3, 40, 32, 3): (40, 32, 9),
    (4, 3, 40, 32): (40, 32, 12),
    (40, 32, 3, 2): (40, 32, 6),
}


@pytest.mark.parametrize("shape", IMAGES)
def test_sides_are_the_longest_neighbours_and_the_other_axes_are_channels(shape):
    axes = image_axes("uint8", shape)
    assert axes is not None
    assert axes.shape == IMAGES[shape]
    assert sorted(axes.order) == list(range(len(shape)))
    assert tuple(shape[axis] for axis in axes.order[:2]) == axes.shape[:2]
    assert list(axes.order[2:]) == sorted(axes.order[2:])


@pytest.mark.parametrize("shape", [(), (4096,), (31, 40), (5, 7), (2, 31, 31, 3), (40, 40, 40, 3), (2, 2, 2, 40, 40)])
def test_other_shapes_of_bytes_are_vectors(shape):
    assert image_axes("uint8", shape) is None


@pytest.mark.parametrize("dtype", ["float32", "bool", "uint16", "int8"])
def test_only_bytes_are_images_by_themselves(dtype):
    assert image_axes(dtype, (64, 64, 3)) is None
    assert likely_image(dtype, (64, 64, 3)) == (64, 64, 3)


@pytest.mark.parametrize(
    ("dtype", "shape", "likely"),
    [
        ("float32", (6912,), (48, 48, 3)),  # CARLA's images in D4RL
        ("uint8", (6912,), (48, 48, 3)),
        ("uint8", (7056,), (84, 84)),
        ("float32", (7056,), None),  # embeddings have such sizes, too
        ("float32", (32, 32), (32, 32)),
        ("float32", (31, 32), None),
        ("float32", (2, 40, 32, 3), (2, 40, 32, 3)),
        ("float32", (7, 7, 3), None),
        ("float32", (27,), None),
    ],
)
def test_likely_images_are_large_or_square_and_flat(dtype, shape, likely):
    assert likely_image(dtype, shape) == likely
    assert likely is None or ImageAxes.of(likely) is not None
