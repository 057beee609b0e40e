"""The noise schedule of a diffusion model, its loss, and sampling in a fixed number of steps.

Library schedulers keep state and branch on values. These lines are functions of tensors with loops of fixed length, so
that a controller that samples can be traced into a program and repeats for equal random numbers.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError

Denoise = Callable[[Tensor, Tensor], Tensor]  # x [N, ...] and its step [N] -> the predicted noise [N, ...]
Draw = Callable[..., Tensor]  # sizes -> standard normal numbers [N, *sizes]

LARGEST_BETA = 0.999
CLEAN = -1  # the step before step 0: no noise


class Diffusion(nn.Module):
    """x_k = sqrt(a_k) x + sqrt(1 - a_k) noise with the cosine schedule (Nichol and Dhariwal 2021), for x in [-1, 1].

    With a(u) = cos^2((u + .008) / 1.008 * pi / 2), beta_k = min(1 - a((k + 1) / K) / a(k / K), .999), and a_k is the
    product of 1 - beta_0 ... 1 - beta_k. A network predicts the noise.

    Sampling moves from step k to an earlier step j, where a_j = 1 if no noise is left::

        x^ = clip((x_k - sqrt(1 - a_k) noise^) / sqrt(a_k), -1, 1)
        x_j = sqrt(a_j) x^ + sqrt(1 - a_j - s^2) noise' + s n
        s = eta sqrt((1 - a_j) / (1 - a_k) (1 - a_k / a_j))

    noise' is the noise that leads from x^ to x_k. ``eta`` = 1 is ancestral sampling (DDPM), also with fewer moves than
    steps; 0 is DDIM, which draws only the first x and keeps the errors of the noisiest steps.

    Args:
        steps: K.
        sampling_steps: the number of moves; None: K.
        eta: share of new noise in every move.

    Raises:
        UserError: if there are more moves than steps, or a number is out of its range.
    """

    signal: Tensor  # [K] a_k

    def __init__(self, *, steps: int = 100, sampling_steps: int | None = None, eta: float = 1.0) -> None:
        super().__init__()
        moves = steps if sampling_steps is None else sampling_steps
        if not 1 <= moves <= steps:
            raise UserError(
                f"behavior.diffusion.sampling_steps is {moves}; allowed: 1 to behavior.diffusion.steps={steps}; set it "
                "in this range"
            )
        if not 0 <= eta <= 1:
            raise UserError(f"behavior.diffusion.eta is {eta}; allowed: 0 (DDIM) to 1 (DDPM); set it in this range")
        self.steps, self.eta = steps, eta
        self.visited = evenly_spaced(steps, moves)
        signal = cosine_signal(steps)  # on the CPU, also where networks are built without memory
        self.register_buffer("signal", signal, persistent=False)  # a function of the number of steps
        self._signal = [*signal.tolist(), 1.0]  # the last one is that of CLEAN

    def noised(self, x: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """x_k, shaped as ``x`` [N, ...], for steps [N]."""
        signal = self.signal[step].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return signal.sqrt() * x + (1 - signal).sqrt() * noise

    def errors(self, denoise: Denoise, x: Tensor, generator: torch.Generator) -> Tensor:
        """Squared errors of the predicted noise at a random step for each of N, shaped as ``x`` [N, ...]."""
        step = torch.randint(self.steps, (len(x),), generator=generator, device=x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (denoise(self.noised(x, step, noise), step) - noise).square()

    def sample(self, denoise: Denoise, sizes: tuple[int, ...], draw: Draw) -> Tensor:
        """Samples [N, *sizes] in [-1, 1].

        Args:
            denoise: predicts the noise.
            sizes: of one sample.
            draw: gives the random numbers, those of the start first.
        """
        x = draw(*sizes)
        for step, earlier in self._moves():
            at = torch.full_like(x.flatten(1)[:, 0], step, dtype=torch.long)
            x = self._moved(x, denoise(x, at), step, earlier, lambda: draw(*sizes))
        return x

    def _moves(self) -> Iterator[tuple[int, int]]:
        return pairwise([*self.visited, CLEAN])

    def _moved(self, x: Tensor, noise: Tensor, step: int, earlier: int, fresh: Callable[[], Tensor]) -> Tensor:
        now, then = self._signal[step], self._signal[earlier]
        guess = ((x - math.sqrt(1 - now) * noise) / math.sqrt(now)).clamp(-1, 1)
        if earlier == CLEAN:
            return guess
        spread = self.eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
        remaining = (x - math.sqrt(now) * guess) / math.sqrt(1 - now)
        moved = math.sqrt(then) * guess + math.sqrt(max(1 - then - spread**2, 0)) * remaining
        return moved + spread * fresh() if spread else moved


def cosine_signal(steps: int) -> Tensor:
    """a_0 ... a_{K - 1}, float64 [K]; see ``Diffusion``."""
    edges = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    kept = torch.cos((edges + 0.008) / 1.008 * math.pi / 2).square()
    beta = (1 - kept[1:] / kept[:-1]).clamp_max(LARGEST_BETA)
    return (1 - beta).cumprod(0)


def evenly_spaced(steps: int, count: int) -> list[int]:
    """``count`` different steps from K - 1 down to 0; the last step alone for a count of one."""
    if count == 1:
        return [steps - 1]
    return [round(place * (steps - 1) / (count - 1)) for place in reversed(range(count))]
