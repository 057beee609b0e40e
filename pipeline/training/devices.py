"""The device that tensors are on."""

import torch

from dreamset.core.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU if there is one, otherwise the CPU.

    Raises:
        UserError: for an unknown name, or ``cuda`` without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {name!r}; allowed: auto, cpu or cuda; change the setting")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but PyTorch finds no GPU; use device=auto or install a CUDA build of PyTorch")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
