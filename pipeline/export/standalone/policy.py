"""Acts with an exported policy: needs torch and numpy, nothing else. Every exported folder has a copy of this file.

policy = Policy("path/of/the/folder", count=4)             # four episodes side by side
action = policy.act({"state": states}, is_first=first)     # [4, ...] by name and [4] bool to [4, A]
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

TINY = torch.finfo(torch.float32).tiny
DRAWS = {  # of the latent state, as in training
    "none": lambda shape, generator: torch.zeros(shape),  # noqa: ARG005 - nothing is drawn
    "normal": lambda shape, generator: torch.randn(shape, generator=generator),
    "gumbel": lambda shape, generator: -torch.rand(shape, generator=generator).clamp_min(TINY).log().neg().log(),
}


class Policy:
    """Acts row by row and remembers what it saw."""

    def __init__(self, folder: str | Path, *, count: int = 1, seed: int = 0) -> None:
        self.about = json.loads((Path(folder) / "policy.json").read_text(encoding="utf-8"))
        self.inputs, outputs = self.about["inputs"], self.about["outputs"]
        self.program = torch.export.load(Path(folder) / "policy.pt2").module()
        self.generator = torch.Generator().manual_seed(seed)
        self.memory = {
            name: torch.zeros(count, *spec["shape"], dtype=getattr(torch, spec["dtype"]))
            for name, spec in outputs.items()
        }

    def act(self, observations: Mapping[str, Any], is_first: Any) -> Any:
        """Actions [N, A] in the environment's units, of a choice one-hot; ``is_first`` rows forget what came before."""
        self.memory = self.step(observations, is_first, self.memory, self.generator)
        return self.memory["action"].numpy()

    def step(self, observations: Mapping[str, Any], is_first: Any, memory: Any, generator: torch.Generator) -> Any:
        """``act`` without a memory of its own: action and state of the row before in, those of this row out."""
        rows = {}
        for spec in self.inputs["observations"]:  # the program takes them in this order
            seen = np.asarray(observations[spec["name"]])
            rows[spec["name"]] = torch.from_numpy(seen.astype(spec["dtype"], casting="same_kind"))
        noise = DRAWS[self.inputs["noise"]["distribution"]]((len(is_first), *self.inputs["noise"]["shape"]), generator)
        remembered = {name: value for name, value in memory.items() if name in self.inputs}  # perhaps not the action
        return self.program(observations=rows, is_first=torch.as_tensor(is_first), noise=noise, **remembered)
