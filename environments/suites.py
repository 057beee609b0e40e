"""Packages that only some environments need, imported when they are asked for."""

import importlib
import os
from types import ModuleType

from dreamset.core.errors import UserError
from dreamset.environments.frames import HEADLESS


def require(module: str, *, extra: str) -> ModuleType:
    """The module, which the optional dependencies ``extra`` of this project bring.

    Raises:
        UserError: if it, or something it needs, is not installed or cannot be loaded on this machine.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; run: pip install "dreamset[{extra}]"') from error
    except Exception as error:  # graphics libraries raise anything while they are loaded
        reason = " ".join(str(error).split())
        raise UserError(f"{module} cannot be loaded ({reason}). {HEADLESS}; or none, with MUJOCO_GL=disable") from error
