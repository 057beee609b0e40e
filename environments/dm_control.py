"""The DM Control suite, as Gymnasium environments of Shimmy."""

from collections.abc import Mapping
from typing import Any, Unpack

from dreamset.environments.gym import Adaptation, adapt, base
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Environment

VIDEO_SIZE = 128  # for frames that are not observations


def make(
    domain: str,
    task: str,
    *,
    camera: int = 0,
    drawn_size: int | None = None,
    plain: bool = True,
    settings: Mapping[str, Any] | None = None,
    **adaptation: Unpack[Adaptation],
) -> Environment:
    """A task such as ``cartpole`` ``swingup``; observations keep their names, the time limit is 1000 steps.

    Args:
        domain: the domain of the suite.
        task: the task of the domain.
        camera: number of the camera; 0 follows the body in most domains.
        drawn_size: edge in pixels of rendered frames, before they are shrunk to ``image_size``; by default the same.
            Two to four times ``image_size`` keeps thin objects such as the pole of ``cartpole`` visible, at little
            cost.
        plain: whether to render without shadows, reflections and multisampling, about four times faster on a CPU.
            Use False for policies trained on the suite's default frames, such as those of V-D4RL.
        settings: further arguments of Shimmy's environment, e.g. ``{environment_kwargs: {flat_observation: true}}``.
        **adaptation: see ``gym.Adaptation``.

    Raises:
        UserError: if a package is missing or the task does not exist.
    """
    require("dm_control", extra="dmc")
    require("shimmy", extra="dmc")
    size = drawn_size or adaptation.get("image_size") or VIDEO_SIZE
    flags = {"shadow": False, "reflection": False} if plain else {}
    drawing = {"height": size, "width": size, "camera_id": camera, "render_flag_overrides": flags}
    name = f"dm_control/{domain}-{task}-v0"
    env = base(name, {"render_kwargs": drawing, **(settings or {})}, own_limit=adaptation.get("episode_steps") is None)
    if plain:
        env.unwrapped.physics.model.vis.quality.offsamples = 0  # type: ignore[attr-defined]
    return adapt(env, name, **adaptation)
