"""Gymnasium's MuJoCo tasks (HalfCheetah, Hopper, ...) with fast rendering."""

from collections.abc import Mapping
from typing import Any, Unpack

import gymnasium

from dreamset.environments.gym import Adaptation, adapt, base
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Environment

VIDEO_SIZE = 128  # for frames that are not observations
CAMERA_SETTINGS = {"camera_id", "camera_name", "default_camera_config"}


def make(
    id: str,  # noqa: A002 - Gymnasium's own word
    *,
    settings: Mapping[str, Any] | None = None,
    **adaptation: Unpack[Adaptation],
) -> Environment:
    """A task such as ``HalfCheetah-v5``; the observation is ``state``, or the rendered ``image``.

    Frames are rendered without shadows, reflections and multisampling, many times faster on a CPU, by the model's
    tracking camera if it has one. They differ from Gymnasium's default frames.

    Args:
        id: the registered id.
        settings: further arguments of the environment, e.g. ``{camera_name: track}``.
        **adaptation: see ``gym.Adaptation``.

    Raises:
        UserError: if a package is missing or the task does not exist.
    """
    require("mujoco", extra="mujoco")
    size = adaptation.get("image_size") or VIDEO_SIZE
    options = {"width": size, "height": size, **(settings or {})}
    env = base(id, options, own_limit=adaptation.get("episode_steps") is None)
    if not CAMERA_SETTINGS & options.keys():
        _steady(env.unwrapped)
    return adapt(Frames(env), id, **adaptation)


def _steady(inner: Any) -> None:
    """Selects the model's tracking camera, or a camera that looks at the model's centre.

    Gymnasium's default camera looks at the body's position at the first frame of the process: frames would depend on
    earlier episodes, and a runner would leave the frame.
    """
    library = require("mujoco", extra="mujoco")
    renderer = inner.mujoco_renderer
    renderer.camera_id = library.mj_name2id(inner.model, library.mjtObj.mjOBJ_CAMERA, "track")
    renderer.default_cam_config = {"lookat": inner.model.stat.center.copy(), **(renderer.default_cam_config or {})}


class QuickFrames(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Renders without shadows, reflections and multisampling, which take most of the time on a CPU.

    Sets the flags at the first frame, because earlier no graphics driver is needed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._quick = False

    def model(self) -> Any:
        """The MuJoCo model of the environment."""
        raise NotImplementedError

    def scene(self) -> Any:
        """The scene of the renderer, after the first frame."""
        raise NotImplementedError

    def render(self) -> Any:
        """The rendered frame."""
        if not self._quick:
            self.model().vis.quality.offsamples = 0  # read when the renderer is made
            self.env.render()
            kinds = require("mujoco", extra="mujoco").mjtRndFlag
            flags = self.scene().flags
            flags[kinds.mjRND_SHADOW] = flags[kinds.mjRND_REFLECTION] = 0
            self._quick = True
        return self.env.render()


class Frames(QuickFrames):
    """``QuickFrames`` for Gymnasium's renderer."""

    def model(self) -> Any:
        """The MuJoCo model of the environment."""
        return self.unwrapped.model  # type: ignore[attr-defined]

    def scene(self) -> Any:
        """The scene of the viewer; it has no public attribute."""
        return self.unwrapped.mujoco_renderer._get_viewer("rgb_array").scn  # type: ignore[attr-defined]
