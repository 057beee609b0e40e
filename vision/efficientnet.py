"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of 2020): inverted residuals without squeeze-and-excitation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.vision.networks import PatchNetwork

EPS = 1e-3  # of the batch norms, published
STEM, HEAD, CLASSES = 32, 1280, 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """A few blocks of equal width; the first one has the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int = 6


STAGES = (
    Stage(1, 16, kernel=3, stride=1, expansion=1),
    Stage(2, 24, kernel=3, stride=2),
    Stage(2, 40, kernel=5, stride=2),
    Stage(3, 80, kernel=3, stride=2),
    Stage(3, 112, kernel=5, stride=1),
    Stage(4, 192, kernel=5, stride=2),
    Stage(1, 320, kernel=3, stride=1),
)
BLOCKS = sum(stage.blocks for stage in STAGES)


class Convolution(nn.Module):
    """A convolution without bias, a batch norm and, by default, ReLU6.

    The padding is TensorFlow's "same": ceil(size / stride) positions, and the odd pixel goes to the right and below.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=EPS)
        self.kernel, self.stride, self.activation = kernel, stride, activation
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out")

    def forward(self, planes: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        height, width = (_same(size, self.kernel, self.stride) for size in planes.shape[-2:])
        planes = self.norm(self.convolution(F.pad(planes, (*width, *height))))
        return F.relu6(planes) if self.activation else planes


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after an axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Block(nn.Module):
    """An inverted residual: expand, convolve each channel by itself, and project without activation."""

    def __init__(self, inputs: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.expand = Convolution(inputs, wide) if stage.expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel=stage.kernel, stride=stride, groups=wide)
        self.project = Convolution(wide, stage.channels, activation=False)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, planes: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, channels, H / stride, W / stride]."""
        hidden = planes if self.expand is None else self.expand(planes)
        projected: Tensor = self.project(self.depthwise(hidden))
        return projected + planes if self.residual else projected


class EfficientNet(PatchNetwork):
    """The whole classifier; its patch features are the output of one block.

    Args:
        block: number of this block, from 1; block 0 does not look further than the stem.
    """

    def __init__(self, block: int) -> None:
        super().__init__()
        if not 1 <= block < BLOCKS:
            raise UserError(f"EfficientNetLite0: block is {block}; allowed: 1 to {BLOCKS - 1}")
        self.block = block
        self.stem = Convolution(3, STEM, kernel=3, stride=2)
        inputs, stride = STEM, 2
        blocks: list[Block] = []
        for stage in STAGES:
            for number in range(stage.blocks):
                own = stage.stride if number == 0 else 1
                stride *= own if len(blocks) <= block else 1
                blocks.append(Block(inputs, stage, stride=own))
                inputs = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(inputs, HEAD)
        self.classifier = nn.Linear(HEAD, CLASSES)
        self.stride = stride  # pixels per patch
        self.channels = blocks[block].project.norm.num_features

    def side(self, size: int) -> int:
        """ceil(size / stride)."""
        return -(-size // self.stride)

    def forward(self, planes: Tensor) -> Tensor:
        """Normalised images [N, 3, S, S] to the features of the block, [N, G, G, C]."""
        planes = self.stem(planes)
        for block in self.blocks[: self.block + 1]:
            planes = block(planes)
        return planes.movedim(1, -1)

    def logits(self, planes: Tensor) -> Tensor:
        """The scores of ImageNet's classes, [N, 1000]."""
        planes = self.stem(planes)
        for block in self.blocks:
            planes = block(planes)
        scores: Tensor = self.classifier(self.head(planes).mean(dim=(2, 3)))
        return scores


_PARTS = {  # names in the published file -> names here
    r"_conv_stem\.": "stem.convolution.",
    r"_bn0\.": "stem.norm.",
    r"_conv_head\.": "head.convolution.",
    r"_bn1\.": "head.norm.",
    r"_fc\.": "classifier.",
}
_PARTS_OF_BLOCK = {
    r"_expand_conv\.": "expand.convolution.",
    r"_bn0\.": "expand.norm.",
    r"_depthwise_conv\.": "depthwise.convolution.",
    r"_bn1\.": "depthwise.norm.",
    r"_project_conv\.": "project.convolution.",
    r"_bn2\.": "project.norm.",
}


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in ``EfficientNet``, from the names in the published file.

    The first block has no expansion, and yet the norms of the file keep their numbers.
    """
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    block = re.match(r"_blocks\.(\d+)\.", name)
    if block is None:
        return _replaced(name, _PARTS)
    return f"blocks.{block[1]}." + _replaced(name[block.end() :], _PARTS_OF_BLOCK)


def _replaced(name: str, parts: Mapping[str, str]) -> str:
    for published, own in parts.items():
        if (match := re.match(published, name)) is not None:
            return own + name[match.end() :]
    return name
