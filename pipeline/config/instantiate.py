"""Builds parts from their configuration."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from dreamset.core.errors import UserError
from dreamset.pipeline.config.trust import require_trusted


def build_part(node: Mapping[str, Any], *arguments: object, **named: object) -> Any:
    """The object that ``_target_`` names. Nested parts are built first.

    Raises:
        UserError: if the target or one of its arguments is wrong or may not be named, or if the part raises one.
    """
    require_trusted(node)
    try:
        return instantiate(dict(node), *arguments, _convert_="all", **named)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"configuration: {' '.join(str(error).split())}") from error
