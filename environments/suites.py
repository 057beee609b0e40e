"""Imports packages that only some environments need, on first use."""

import importlib
import os
from types import ModuleType

from dreamset.core.errors import UserError
from dreamset.environments.frames import HEADLESS


def require(module: str, *, extra: str) -> ModuleType:
    """Imports a module of the optional dependencies ``extra``.

    Raises:
        UserError: if the module or a dependency is not installed or cannot be imported.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; run: pip install "dreamset[{extra}]"') from error
    except Exception as error:  # graphics libraries may raise anything on import
        reason = " ".join(str(error).split())
        raise UserError(
            f"{module} cannot be imported ({reason}). {HEADLESS}; MUJOCO_GL=disable turns rendering off"
        ) from error
