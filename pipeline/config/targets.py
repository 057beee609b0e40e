"""Checks nodes with ``_target_``: the target must exist, and accept the arguments and their values."""

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt
from pydantic import ConfigDict, InstanceOf, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.mistakes import ALLOWED, Mistake, allowed, hint, yaml_text
from dreamset.pipeline.config.trust import TARGET, is_function, refusal

OF_HYDRA = {TARGET, "_partial_", "_args_", "_recursive_", "_convert_"}
GIVEN_ARGUMENTS = {  # parts that get positional arguments from a stage
    *("world_model", "objective", "behavior", "finetuning.explorer.behavior"),
}
SUPPLIED = {"dataset.fetch": {"on_bytes"}}  # part -> arguments that a stage passes by name
ONLY_AT_RUN_TIME = "needs_python_object"  # pydantic's type of error for classes without a form in yaml
BOUNDED = ("dreamset.", "torch.")  # packages to which BOUNDS applies; other parts annotate their arguments
UNLIMITED = {"limit", "max_std"}  # arguments in BOUNDS that may be infinite

_ARGUMENTS: dict[tuple[BaseMetadata, ...], str] = {  # bounds -> the arguments that have them
    (Ge(1),): """
    action_code action_repeat action_size bins block blocks candidates classes conservative_samples depth distance
    elites episode_steps episodes every execute expansion group groups head_size heads hidden history horizon
    image_size iterations kernel longest_hold members over pool prior_layers sampling_steps size steps transitions
    variables vector_code window workers
    """,
    (Gt(0), Le(1)): """
    tau
    """,
    (Gt(0),): """
    initial initial_std limit max_std mean_scale ratio temperature
    """,
    (Ge(0), Lt(1)): """
    ema forgetting persistence threshold
    """,
    (Ge(0), Le(1)): """
    alpha continue_discount decay demonstration_share discount dropout entropy_share eta lambda_ meetings momentum
    randomness rate rho severity share smoothing unimix
    """,
    (Ge(0),): """
    beta cloning_weight conservative_weight continue_weight dyn entropy_weight eps floor free_bits free_nats
    further_weight kl_weight layers lr min_std output_scale pessimism pixels proposals redundancy regularise rep
    replay_critic_weight reward_weight skip total_iters value_weight vector_weight warmup weight weight_decay
    """,
}
BOUNDS = {  # argument -> bounds of its number, unless its annotation has bounds
    name: bounds for bounds, names in _ARGUMENTS.items() for name in names.split()
}


def mistakes(node: object, key: str = "", *, parent: str | None = None) -> Iterator[Mistake]:
    """All mistakes in the parts in and below ``node``.

    Args:
        node: any value of the configuration.
        key: dotted key of ``node``, for the messages.
        parent: target of the part that takes ``node`` as an argument, if any.
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
    arguments = {name: value for name, value in node.items() if name not in OF_HYDRA}
    yield from _unknown(target, parameters, arguments, key)
    if "_args_" not in node:
        partial = bool(node.get("_partial_", False))
        supplied = arguments.keys() | SUPPLIED.get(key, set()) | (_passed_by(parent) if parent and partial else set())
        complete = not partial and key not in GIVEN_ARGUMENTS
        yield from _missing(target, parameters, supplied, key, positional=complete)
    for name, value in arguments.items():
        reason = refusal(value) if is_function(name, value) else None
        if reason is not None:
            yield Mistake(f"{key}.{name}", reason)
        elif name in parameters and not _holds_part(value):
            yield from _value_mistakes(target, parameters[name], value, f"{key}.{name}")


@cache
def _passed_by(target: str) -> frozenset[str]:
    """Arguments that the module of ``target`` passes by name in its calls, and so perhaps to its partial parts."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[str(getattr(located(target), "__module__", ""))]))
    except (KeyError, OSError, TypeError, UserError):
        return frozenset()
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return frozenset(keyword.arg for call in calls for keyword in call.keywords if keyword.arg is not None)


def _unknown(
    target: str, parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any], key: str
) -> Iterator[Mistake]:
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    takes = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in sorted(arguments.keys() - set(takes)):
        nearest = hint(f"{key}.{name}", (f"{key}.{argument}" for argument in takes))
        yield Mistake(f"{key}.{name}", f"is no argument of {target}{nearest}")


def _missing(
    target: str, parameters: Mapping[str, inspect.Parameter], supplied: set[str], key: str, *, positional: bool
) -> Iterator[Mistake]:
    """Required arguments that are missing. Parts that another part or a stage calls get their first ones there."""
    for name, parameter in parameters.items():
        needed = parameter.kind is parameter.KEYWORD_ONLY or (
            positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        )
        if needed and parameter.default is parameter.empty and name not in supplied:
            yield Mistake(f"{key}.{name}", f"is missing, but {target} needs it; set it")


def _value_mistakes(target: str, parameter: inspect.Parameter, value: object, key: str) -> Iterator[Mistake]:
    bounds = BOUNDS.get(parameter.name, ()) if target.startswith(BOUNDED) else ()
    finite = target.startswith("torch.") or (bool(bounds) and parameter.name not in UNLIMITED)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    adapter = _adapter(parameter.annotation, bounds if number else (), finite)
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != ONLY_AT_RUN_TIME]
        kinds = " or ".join(dict.fromkeys(allowed(detail) for detail in details))
        yield Mistake(key, f"is {yaml_text(value)}; allowed: {kinds or ALLOWED['callable_type']({})}", of_value=True)


@cache
def _adapter(annotation: Any, bounds: tuple[BaseMetadata, ...], finite: bool) -> TypeAdapter[Any] | None:
    """A check for plain values; None for types that exist only at run time, such as a network."""
    if annotation is inspect.Parameter.empty:
        annotation = Any
    if is_dataclass(annotation):  # a part; pydantic would take a mapping for its fields
        return TypeAdapter(InstanceOf[annotation])
    if bounds and not _has_bounds(annotation):
        annotation = Annotated[(annotation, *bounds)]
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=not finite))
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
    """Parameters by name, with evaluated annotations; None for parts without a signature, such as some written in C."""
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):
        return None
    try:
        hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations with names that only type checkers import
        hints = {}
    own = {
        name: parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in parameters.items()
    }
    return _inherited(part, parameters) | own


def _inherited(part: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    """The optional arguments that a class with ``**settings`` may pass on to the constructor of its parent."""
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not (open_ended and inspect.isclass(part)):
        return {}
    parent = next((base for base in part.__mro__[1:] if "__init__" in vars(base)), object)
    if not parent.__module__.startswith(BOUNDED[0]):
        return {}
    passed_on = (_parameters(parent) or {}).items()
    return {name: p.replace(default=None) for name, p in passed_on if p.kind is not p.VAR_KEYWORD}


def located(target: str) -> Callable[..., Any] | None:
    """The object that ``target`` names; None if a library is not installed, which the stage reports when it runs.

    Raises:
        UserError: if a configuration may not name it, there is no such module, or the module has no such name.
    """
    reason = refusal(target)
    if reason is not None:
        raise UserError(reason)
    names = current_name(target).split(".")
    module: Any = None
    for count in range(1, len(names)):
        try:
            module = importlib.import_module(".".join(names[:count]))
        except ModuleNotFoundError as error:
            missing = ".".join(names[:count])
            if error.name is not None and not f"{missing}.".startswith(f"{error.name}."):
                return None  # the module exists, but one of its imports does not
            if count == 1:
                raise UserError(f"is {target}, but no module {missing} exists; check the spelling") from None
            return _attribute(module, names[count - 1 :], target)
        except ImportError:
            return None
        except Exception as error:  # a user's module may fail in any way
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"is {target}, but {'.'.join(names[:count])} cannot be imported: {reason}; fix it"
            ) from error
    return _attribute(module, names[len(names) - 1 :], target)


def _attribute(module: Any, names: Sequence[str], target: str) -> Callable[..., Any]:
    value = module
    for name in names:
        if not hasattr(value, name):
            where = getattr(value, "__name__", str(value))
            public = [known for known in getattr(value, "__dict__", ()) if not known.startswith("_")]
            raise UserError(f"is {target}, but {where} has no {name}{hint(name, public)}")
        value = getattr(value, name)
    if not callable(value):
        raise UserError(f"is {target}, which is neither a class nor a function; name one of these")
    return value  # type: ignore[no-any-return]
