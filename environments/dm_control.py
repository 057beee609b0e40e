"""The DM Control suite, through Shimmy's Gymnasium environments."""

from collections.abc import Mapping
from typing import Any, Unpack

from dreamset.environments.gym import Adaptation, adapt, base
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Environment

VIDEO_SIZE = 128  # frames that no model sees


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
    """A task such as ``cartpole`` ``swingup``: observations by their own names, 1000 control steps a time limit.

    Args:
        domain: of the suite.
        task: of the domain.
        camera: number of the camera; 0 follows the body in most domains.
        drawn_size: edge in pixels at which frames are drawn before they are reduced to ``image_size``; by default
            the same. Twice to four times as much keeps thin things, such as the pole of ``cartpole``, from vanishing
            between pixels, and costs little.
        plain: frames without shadows, reflections and multisampling, some four times faster on a CPU. False for
            policies that were trained on frames as the suite draws them, such as those of V-D4RL.
        settings: further arguments of Shimmy's environment, e.g. ``{environment_kwargs: {flat_observation: true}}``.
        **adaptation: see ``gym.Adaptation``.

    Raises:
        UserError: if a package is missing or there is no such task.
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
