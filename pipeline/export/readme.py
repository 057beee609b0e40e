"""The README of an exported folder."""

import math
from collections.abc import Mapping
from string import Template
from typing import Any

from dreamset.core.disk import size_in_words

TEXT = Template("""\
# A policy for `$dataset`

Learned in the world model `$objective` (seed $seed, id `$key`) and exported by dreamset $dreamset.
It needs PyTorch and numpy, but not dreamset:

```python
import numpy as np

from policy import Policy

policy = Policy(".", count=1)  # number of parallel episodes
is_first = np.array([True])  # True for the first row of an episode; it resets the memory
observations = {
$observations
}
action = policy.act(observations, is_first)  # [1, $size]: $meaning
```

`policy.pt2` computes one step and has no memory. The class `Policy` in `policy.py` keeps the memory and samples the
noise. `policy.json` lists the shapes and types of all inputs and outputs, and the origin of the policy. Shapes exclude
the axis of the episodes.

- Pass arguments by name, and observations in the order of `policy.json`: PyTorch uses their order, not their names.
- Pass these outputs back under the same names with the next row: $memory.
- $noise
- It was exported with PyTorch $torch for the CPU. PyTorch does not guarantee that another version can read the file.
- Load the file only if you trust its source. As exported, `policy.pt2` contains no pickle. PyTorch's loader would
  unpickle a modified file, however, and so execute its code; `policy.py` is code anyway. The checksum in `policy.json`
  detects damage, but not tampering.
$serving""")
SERVING = """
## Serving

    mlflow models serve -m mlflow --env-manager local --host 127.0.0.1 --port 5001
    curl http://127.0.0.1:5001/invocations -H "Content-Type: application/json" -d @mlflow/serving_input_example.json

The service has no memory: send $memory of its answer with the next request.
`params: {"seed": 7}` fixes the noise of one request. Without a seed, equal requests may get different answers.
"""


def readme(description: Mapping[str, Any], *, served: bool) -> str:
    """Instructions for an exported folder, with the names and shapes of its ``policy.json``."""
    lineage, space = description["lineage"], description["action_space"]
    memory = ", ".join(f"`{name}`" for name in description["outputs"] if name in description["inputs"])
    return TEXT.substitute(
        {name: lineage[name] for name in ("dataset", "objective", "seed", "key")},
        **description["versions"],
        observations="\n".join(
            f'    "{spec["name"]}": np.zeros({(1, *spec["shape"])}, "{spec["dtype"]}"),'
            for spec in description["inputs"]["observations"]
        ),
        size=space["size"],
        meaning="one-hot" if space["discrete"] else f"from {space['low']} to {space['high']}",
        memory=memory,
        noise=_noise(description),
        serving=Template(SERVING).safe_substitute(memory=memory) if served else "",
    )


def _noise(description: Mapping[str, Any]) -> str:
    """What the random numbers are for, and how many a row needs."""
    if not description["plans"]:
        return "The noise samples the state, as in training and evaluation. Zeros select the most likely state."
    numbers = math.prod(description["inputs"]["noise"]["shape"])
    size = size_in_words(4 * numbers)
    return (
        f"The program plans in every row. The noise has {numbers:,} numbers ({size}) per row, for the candidates and\n"
        "  their imagined states. With zeros all candidates are equal."
    )
