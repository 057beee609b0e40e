"""The text that lies in every exported folder."""

from collections.abc import Mapping
from string import Template
from typing import Any

TEXT = Template("""\
# A policy for `$dataset`

Learned in the world model `$objective` (seed $seed, id `$key`), exported by dreamset $dreamset.
It needs PyTorch and numpy, not dreamset:

```python
import numpy as np

from policy import Policy

policy = Policy(".", count=1)  # episodes side by side
is_first = np.array([True])  # where an episode begins: what came before is forgotten
observations = {
$observations
}
action = policy.act(observations, is_first)  # [1, $size]: $meaning
```

`policy.pt2` is one step without memory; the class `Policy` in `policy.py` keeps the state and draws the noise. In
`policy.json` are the shapes and types of everything, without the axis of the episodes, and where the policy comes from.

- Arguments are given by name, observations in the order of `policy.json`: PyTorch goes by their order, not their names.
- What comes out under a name goes in under it with the next row: $memory.
- The noise makes the state a random draw, as in training and evaluation. Zeros instead take the likeliest state.
- Exported with PyTorch $torch, for the CPU. PyTorch does not promise that another version reads the file.
- Load it only if you trust whoever gave it to you. As written here `policy.pt2` holds no pickle, but PyTorch's loader
  unpickles, and so runs, whatever a changed file asks it to; `policy.py` is code anyway. The checksum in `policy.json`
  shows damage, not intent.
$serving""")
SERVING = """
## Serving

    mlflow models serve -m mlflow --env-manager local --host 127.0.0.1 --port 5001
    curl http://127.0.0.1:5001/invocations -H "Content-Type: application/json" -d @mlflow/serving_input_example.json

The service remembers nothing: send $memory of its answer with the next request.
`params: {"seed": 7}` fixes the noise of one request; without it no two answers have to be alike.
"""


def readme(description: Mapping[str, Any], *, served: bool) -> str:
    """How to use the folder whose ``policy.json`` this is, with its own names and shapes."""
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
        serving=Template(SERVING).safe_substitute(memory=memory) if served else "",
    )
