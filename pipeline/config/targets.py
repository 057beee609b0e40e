"""Checks nodes with ``_target_`` against what they name: it must exist, and take these arguments with these values."""

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.mistakes import WORDS, Mistake, allowed, hint, shown

TARGET = "_target_"
OF_HYDRA = {TARGET, "_partial_", "_args_", "_recursive_", "_convert_"}
GIVEN_ARGUMENTS = {  # parts that a stage gives positional arguments to
    *("world_model", "objective", "behavior", "finetuning.explorer.behavior"),
}
SUPPLIED = {"dataset.fetch": {"on_bytes"}}  # arguments that a stage gives by name
ONLY_AT_RUN_TIME = "needs_python_object"  # pydantic's word for a class that yaml cannot write
BOUNDED = ("dreamset.", "torch.")  # whose arguments have the meaning below; other parts annotate theirs

_WHOLE, _COUNT, _POSITIVE, _SHARE = (Ge(0),), (Ge(1),), (Gt(0),), (Ge(0), Le(1))
BOUNDS: dict[str, tuple[BaseMetadata, ...]] = {  # of a number by the argument's name, unless its annotation has some
    **dict.fromkeys(("action_repeat", "bins", "block", "blocks", "classes", "depth", "episode_steps"), _COUNT),
    **dict.fromkeys(("episodes", "every", "hidden", "horizon", "image_size", "longest_hold", "members"), _COUNT),
    **dict.fromkeys(("prior_layers", "size", "variables", "workers"), _COUNT),
    **dict.fromkeys(("initial_std", "limit", "max_std", "mean_scale", "ratio"), _POSITIVE),
    **dict.fromkeys(("alpha", "continue_discount", "decay", "discount", "lambda_", "randomness", "rho"), _SHARE),
    **dict.fromkeys(("share", "unimix"), _SHARE),
    **dict.fromkeys(("cloning_weight", "continue_weight", "dyn", "entropy_weight", "eps", "floor"), _WHOLE),
    **dict.fromkeys(("free_bits", "free_nats", "layers", "lr", "min_std", "output_scale", "regularise"), _WHOLE),
    **dict.fromkeys(
        ("rep", "replay_critic_weight", "reward_weight", "total_iters", "warmup", "weight", "weight_decay"), _WHOLE
    ),
}


def mistakes(node: object, key: str = "", *, parent: str | None = None) -> Iterator[Mistake]:
    """Everything wrong with the parts in ``node``, which stands at ``key``, and below.

    Args:
        node: any value of the configuration.
        key: dotted, for the messages.
        parent: target of the part that ``node`` is an argument of, if it is one.
    """
    if isinstance(node, Mapping):
        if TARGET in node:
            yield from _part_mistakes(node, key, parent=parent)
        target = str(node[TARGET]) if TARGET in node else parent
        for name, value in node.items():
            yield from mistakes(value, f"{key}.{name}" if key else str(name), parent=target)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for number, value in enumerate(node):
            yield from mistakes(value, f"{key}[{number}]", parent=parent)


def _part_mistakes(node: Mapping[str, Any], key: str, *, parent: str | None) -> Iterator[Mistake]:
    target = str(node[TARGET])
    try:
        part = located(target)
    except UserError as error:
        yield Mistake(f"{key}.{TARGET}", str(error))
        return
    parameters = None if part is None else _parameters(part)
    if parameters is None:
        return
    given = {name: value for name, value in node.items() if name not in OF_HYDRA}
    yield from _unknown(target, parameters, given, key)
    if "_args_" not in node:
        partial = bool(node.get("_partial_", False))
        supplied = given.keys() | SUPPLIED.get(key, set()) | (_passed_by(parent) if parent and partial else set())
        complete = not partial and key not in GIVEN_ARGUMENTS
        yield from _missing(target, parameters, supplied, key, positional=complete)
    for name, value in given.items():
        if name in parameters and not _holds_part(value):
            yield from _value_mistakes(target, parameters[name], value, f"{key}.{name}")


@cache
def _passed_by(target: str) -> frozenset[str]:
    """Arguments that the module of ``target`` passes by name in any call: to the parts that it is given, perhaps."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[str(getattr(located(target), "__module__", ""))]))
    except (KeyError, OSError, TypeError, UserError):
        return frozenset()
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return frozenset(keyword.arg for call in calls for keyword in call.keywords if keyword.arg is not None)


def _unknown(
    target: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any], key: str
) -> Iterator[Mistake]:
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    takes = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in sorted(given.keys() - set(takes)):
        meant = hint(f"{key}.{name}", (f"{key}.{taken}" for taken in takes))
        yield Mistake(f"{key}.{name}", f"is no argument of {target}{meant}")


def _missing(
    target: str, parameters: Mapping[str, inspect.Parameter], supplied: set[str], key: str, *, positional: bool
) -> Iterator[Mistake]:
    """Arguments without a default that nobody gives. What is called by a part or a stage is given the first ones."""
    for name, parameter in parameters.items():
        needed = parameter.kind is parameter.KEYWORD_ONLY or (
            positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        )
        if needed and parameter.default is parameter.empty and name not in supplied:
            yield Mistake(f"{key}.{name}", f"is missing; {target} needs it")


def _value_mistakes(target: str, parameter: inspect.Parameter, value: object, key: str) -> Iterator[Mistake]:
    bounded = target.startswith(BOUNDED) and isinstance(value, int | float) and not isinstance(value, bool)
    adapter = _adapter(parameter.annotation, BOUNDS.get(parameter.name, ()) if bounded else ())
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != ONLY_AT_RUN_TIME]
        kinds = " or ".join(dict.fromkeys(allowed(detail) for detail in details))
        yield Mistake(key, f"is {shown(value)}, allowed is {kinds or WORDS['callable_type']({})}", of_value=True)


@cache
def _adapter(annotation: Any, bounds: tuple[BaseMetadata, ...]) -> TypeAdapter[Any] | None:
    """Checks values of a plain kind; nothing checks what only exists at run time, such as a module."""
    if annotation is inspect.Parameter.empty:
        annotation = Any
    if bounds and not _has_bounds(annotation):
        annotation = Annotated[(annotation, *bounds)]
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError, NameError):
        return None


def _has_bounds(annotation: Any) -> bool:
    return any(isinstance(entry, BaseMetadata | FieldInfo) for entry in getattr(annotation, "__metadata__", ()))


def _holds_part(value: object) -> bool:
    if isinstance(value, Mapping):
        return TARGET in value or any(_holds_part(entry) for entry in value.values())
    return isinstance(value, Sequence) and not isinstance(value, str) and any(_holds_part(entry) for entry in value)


@cache
def _parameters(part: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """By name, with annotations that are types; None where the part cannot tell, as some that are written in C."""
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):
        return None
    try:
        hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names that only type checkers import
        hints = {}
    return {
        name: parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in parameters.items()
    }


def located(target: str) -> Callable[..., Any] | None:
    """What ``target`` names; None if a library that it needs is not installed, which the stage that uses it says.

    Raises:
        UserError: if there is no such module, or nothing of that name in it.
    """
    names = current_name(target).split(".")
    found: Any = None
    for count in range(1, len(names)):
        try:
            found = importlib.import_module(".".join(names[:count]))
        except ModuleNotFoundError as error:
            module = ".".join(names[:count])
            if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
                return None  # the module is there, another one that it imports is not
            if count == 1:
                raise UserError(f"is {target}, but there is no module {module}; check its spelling") from None
            return _attribute(found, names[count - 1 :], target)
        except ImportError:
            return None
        except Exception as error:  # a user's module may fail in any way
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"is {target}, but {'.'.join(names[:count])} cannot be imported: {reason}") from error
    return _attribute(found, names[len(names) - 1 :], target)


def _attribute(module: Any, names: Sequence[str], target: str) -> Callable[..., Any]:
    found = module
    for name in names:
        if not hasattr(found, name):
            where = getattr(found, "__name__", str(found))
            offered = [known for known in getattr(found, "__dict__", ()) if not known.startswith("_")]
            raise UserError(f"is {target}, but there is no {name} in {where}{hint(name, offered)}")
        found = getattr(found, name)
    if not callable(found):
        raise UserError(f"is {target}, which can be neither built nor called")
    return found  # type: ignore[no-any-return]
