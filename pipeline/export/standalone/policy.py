"""Acts with an exported policy. This file needs only torch and numpy; every exported folder has a copy of it.

policy = Policy("path/of/the/folder", count=4)             # four parallel episodes
action = policy.act({"state": states}, is_first=first)     # observations [4, ...], is_first [4] -> actions [4, A]
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

TINY = torch.finfo(torch.float32).tiny
DRAWS = {  # distribution of the noise -> sampler of the noise, as in training
    "none": lambda shape, generator: torch.zeros(shape),  # noqa: ARG005 - no noise
    "normal": lambda shape, generator: torch.randn(shape, generator=generator),
    "gumbel": lambda shape, generator: -torch.rand(shape, generator=generator).clamp_min(TINY).log().neg().log(),
}


class Policy:
    """Acts row by row, and keeps a memory of earlier rows."""

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
        """Actions [N, A] in the environment's units, discrete ones one-hot. Rows with ``is_first`` reset the memory."""
        self.memory = self.step(observations, is_first, self.memory, self.generator)
        return self.memory["action"].numpy()

    def step(self, observations: Mapping[str, Any], is_first: Any, memory: Any, generator: torch.Generator) -> Any:
        """``act`` with an explicit memory: takes action and state of the previous row, returns those of this row."""
        rows = {}
        for spec in self.inputs["observations"]:  # in the order of the program's arguments
            values = np.asarray(observations[spec["name"]])
            rows[spec["name"]] = torch.from_numpy(values.astype(spec["dtype"], casting="same_kind"))
        noise = DRAWS[self.inputs["noise"]["distribution"]]((len(is_first), *self.inputs["noise"]["shape"]), generator)
        state = {name: value for name, value in memory.items() if name in self.inputs}  # some programs take no action
        return self.program(observations=rows, is_first=torch.as_tensor(is_first), noise=noise, **state)
