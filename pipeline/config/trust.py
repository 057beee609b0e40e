"""What a configuration may run: parts of this package and of PyTorch, and the user's own modules.

A configuration is code, since it names what is called. Read that of a stranger as you would read a program. But a yaml
file that someone passes on should not reach further than it must: it may name

- whatever the parts of ``PACKAGES`` define,
- modules of the user's own, which are no installed libraries: files of the project, or on ``PYTHONPATH``,
- installed libraries that the project lists in ``configurations_may_use`` of ``configs/project.yaml``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import resolve_name

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.project import MARK, Project, is_library

TARGET = "_target_"
PACKAGES = (
    *("dreamset.behaviors", "dreamset.datasets", "dreamset.environments", "dreamset.models", "dreamset.objectives"),
    *("dreamset.pipeline.artifacts", "dreamset.pipeline.training", "dreamset.vision", "torch.nn", "torch.optim"),
)
INSIDE = (*PACKAGES, "dreamset.core", "torch._C")  # where the parts of these packages may be defined


def require_trusted(node: object) -> None:
    """Checks every name in and below ``node`` before anything is imported.

    Raises:
        UserError: if a name leads elsewhere.
    """
    for key, name in named(node):
        reason = refusal(name)
        if reason is not None:
            raise UserError(f"configuration: {key} {reason}")


def named(node: object) -> Iterator[tuple[str, str]]:
    """The key and the value of everything in and below ``node`` that names something to call."""
    if isinstance(node, Mapping):
        yield from ((key, str(value)) for key, value in node.items() if key == TARGET or is_function(key, value))
        for value in node.values():
            yield from named(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from named(value)


def dotted(name: str) -> str:
    """``module.name`` of a function that is named ``module:name``; other names as they are."""
    return name.replace(":", ".")


def is_function(key: object, value: object) -> bool:
    """Whether an argument names a function, as ``module:name``."""
    return key == "function" and isinstance(value, str) and ":" in value


def refusal(name: str) -> str | None:
    """Why a configuration may not name this; None if it may, or if there is no such module."""
    target = current_name(dotted(name))
    if "." not in target:
        return None
    return _smuggled(target) if _within(target, PACKAGES) else _foreign(target, Project.here())


@cache
def _smuggled(target: str) -> str | None:
    """Why a name below ``PACKAGES`` is none of their parts; None if it is one, or if there is no such part."""
    defined = _definition(target)
    if defined is None or _within(defined, INSIDE):
        return None
    return f"is {target}, which is {defined} from elsewhere; name a part of {', '.join(PACKAGES)}"


def _foreign(target: str, project: Project | None) -> str | None:
    """Why a name of another package is refused; None if the package is the user's own, or listed by the project."""
    library = target.partition(".")[0]
    spec = _spec(library)
    installed = spec is not None and is_library(spec)
    listed = project is not None and _within(target, project.usable)
    if listed or not (installed or library in ("dreamset", "torch")):
        return None
    return (
        f"is {target}, of the installed library {library}; allowed: {', '.join(PACKAGES)} and your own modules; if you "
        f"trust it with this machine, list it in configurations_may_use of {MARK}"
    )


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _spec(library: str) -> ModuleSpec | None:
    """Where a module would be loaded from, without loading it."""
    try:
        return find_spec(library)
    except (ImportError, ValueError):
        return None


def _definition(target: str) -> str | None:
    """The name under which a part is defined; None if there is no such part, which is reported by whoever builds it."""
    try:
        part = resolve_name(target)
    except Exception:  # an import of a library that is not installed, for example
        return None
    module = getattr(part, "__module__", None)
    return None if module is None else f"{module}.{getattr(part, '__qualname__', '')}".rstrip(".")
