"""Runs an exported policy for one episode of a Gymnasium environment; needs torch, numpy and gymnasium only.

dreamset export dataset=pendulum_state --output my_policy
python examples/run_policy.py my_policy Pendulum-v1

With the address of a server as a third argument, the server computes the actions (see policy_client.py).
"""

import json
import sys
from pathlib import Path

import gymnasium

folder, name, *address = sys.argv[1:]
about = json.loads((Path(folder) / "policy.json").read_text(encoding="utf-8"))
if address:
    from policy_client import PolicyClient

    policy = PolicyClient(folder, *address)
else:
    sys.path.insert(0, folder)
    from policy import Policy  # policy.py is in the folder

    policy = Policy(folder)
environment = gymnasium.make(name)
column = about["inputs"]["observations"][0]["name"]
repeat = (about["environment"] or {}).get("action_repeat", 1)  # as in the recordings
observation, _ = environment.reset(seed=0)
total, is_first, over = 0.0, True, False
while not over:
    action = policy.act({column: observation[None]}, [is_first])[0]
    for _ in range(repeat):
        native = action.argmax() if about["action_space"]["discrete"] else action
        observation, reward, terminated, truncated, _ = environment.step(native)
        total, over = total + float(reward), terminated or truncated
        if over:
            break
    is_first = False
print(f"return {total:.2f} in the rewards of {name}")  # noqa: T201
evaluated = (about["environment"] or {}).get("_target_")
if evaluated:  # its rewards may have another scale, as those of the recordings
    print(f"`dreamset evaluate` counts the rewards of {evaluated} instead")  # noqa: T201
