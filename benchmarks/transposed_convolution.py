"""Measures the decoder's transposed convolutions: pixel shuffle against torch, forward and backward.

    OMP_NUM_THREADS=1 python benchmarks/transposed_convolution.py

Prints milliseconds (median) and the ratio; both alternate in one process.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from dreamset.core.spec import ArraySpec
from dreamset.models.decoders import KERNELS, ImageDecoder, TransposedConvolution

FRAMES, FEATURES, REPEATS = 320, 230, 15


def torch_twin(decoder: ImageDecoder) -> nn.Module:
    """The same decoder with torch's transposed convolutions and the same weights."""
    layers: list[nn.Module] = []
    for layer in decoder.layers:
        if isinstance(layer, TransposedConvolution):
            inputs, outputs, kernel, _ = layer.weight.shape
            twin = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2)
            twin.load_state_dict(layer.state_dict())
            layers.append(twin)
        else:
            layers.append(layer)
    return nn.Sequential(decoder.dense, nn.Unflatten(1, (decoder.inputs, 1, 1)), *layers)


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Prints one line per frame size and depth."""
    print(f"{torch.get_num_threads()} thread(s), {FRAMES} frames, forward and backward")
    for edge in KERNELS:
        for depth in (8, 32):
            decoder = ImageDecoder(FEATURES, ArraySpec((edge, edge, 3), "uint8"), depth=depth)
            twin = torch_twin(decoder)
            features = torch.randn(FRAMES, FEATURES, requires_grad=True)
            difference = (decoder(features).mean - twin(features)).abs().max().item()

            def ours(decoder: ImageDecoder = decoder, features: torch.Tensor = features) -> None:
                decoder(features).mean.square().mean().backward()

            def theirs(twin: nn.Module = twin, features: torch.Tensor = features) -> None:
                twin(features).square().mean().backward()

            pairs = [(seconds(ours), seconds(theirs)) for _ in range(REPEATS)][2:]
            mine, torchs = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
            ratio = statistics.median(theirs / ours for ours, theirs in pairs)
            print(
                f"{edge:3d} px, depth {depth:2d}: {mine:7.1f} ms, torch {torchs:7.1f} ms, "
                f"torch / ours {ratio:.2f}, largest difference {difference:.1e}"
            )


if __name__ == "__main__":
    main()
