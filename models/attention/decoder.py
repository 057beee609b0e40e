"""Images from patch features, for display."""

from itertools import pairwise
from math import isqrt

from torch import Tensor, nn
from torch.nn.functional import interpolate

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.models.decoders import ObservationDecoder
from dreamset.models.distributions import UnitNormal
from dreamset.models.layers import RELU, Style, images_to_planes, initialize_convolutions


class PatchImageDecoder(ObservationDecoder):
    """Convolutions on the map of the patches, which is doubled until it has almost the size of the frame.

    An image is decoded place by place, with few weights for any number of patches. Features beyond those of the patches
    are not read. DINO-WM decodes from the tokens, too, with a network of its own.

    Args:
        features: F; the first ``patches`` * ``channels`` are those of the patches, row by row.
        spec: the image's specification.
        depth: channels at the full size; each smaller level has twice as many, up to eight times.
        patches: P, a square number.
        channels: C.
        style: of the convolutions.

    Raises:
        UserError: if the patches are no square, or more than pixels in a row.
    """

    def __init__(
        self, features: int, spec: ArraySpec, *, depth: int, patches: int, channels: int, style: Style = RELU
    ) -> None:
        super().__init__()
        side = isqrt(patches)
        if side * side != patches or side > min(spec.shape[:2]) or patches * channels > features:
            raise UserError(
                f"an image of {spec.shape} cannot be decoded from {patches} patches; allowed: a square number, with no "
                "more patches in a row than pixels"
            )
        self.map_shape, self.image_size = (channels, side, side), spec.shape[:2]
        levels = (min(spec.shape[:2]) // side).bit_length() - 1  # doublings
        widths = [depth * min(2**level, 8) for level in reversed(range(levels + 1))]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), *style.after_planes(widths[0])]
        for before, after in pairwise(widths):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), *style.after_planes(after)]
        self.layers = nn.Sequential(*layers)
        self.pixels = nn.Conv2d(widths[-1], spec.shape[2], 3, padding=1)
        initialize_convolutions(self, style.initialize)

    def forward(self, features: Tensor) -> UnitNormal:
        """Features [..., F] to N(mean, I) over pixels in [-0.5, 0.5], shaped [..., C, H, W]."""
        channels, rows, columns = self.map_shape
        patches = features[..., : channels * rows * columns].reshape(-1, rows, columns, channels)
        planes = self.layers(patches.movedim(-1, 1))
        planes = self.pixels(interpolate(planes, size=self.image_size, mode="bilinear", align_corners=False))
        return UnitNormal(planes.reshape(*features.shape[:-1], *planes.shape[1:]), event_axes=3)

    def target(self, observation: Tensor) -> Tensor:
        """The recorded image [..., H, W, C] as planes."""
        planes = images_to_planes(observation)
        return planes.reshape(*observation.shape[:-3], *planes.shape[1:])
