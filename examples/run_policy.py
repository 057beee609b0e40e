"""Runs an exported policy for one episode of a Gymnasium environment; needs torch, numpy and gymnasium only.

dreamset export dataset=pendulum_state --output my_policy
python examples/run_policy.py my_policy Pendulum-v1
"""

import sys

import gymnasium

folder, environment = sys.argv[1], gymnasium.make(sys.argv[2])
sys.path.insert(0, folder)
from policy import Policy  # noqa: E402 - policy.py is in the folder

policy = Policy(folder)
name = policy.inputs["observations"][0]["name"]
repeat = (policy.about["environment"] or {}).get("action_repeat", 1)  # as in the recordings
observation, _ = environment.reset(seed=0)
total, is_first, over = 0.0, True, False
while not over:
    action = policy.act({name: observation[None]}, [is_first])[0]
    for _ in range(repeat):
        native = action.argmax() if policy.about["action_space"]["discrete"] else action
        observation, reward, terminated, truncated, _ = environment.step(native)
        total, over = total + float(reward), terminated or truncated
        if over:
            break
    is_first = False
print(f"return {total:.2f}")  # noqa: T201
