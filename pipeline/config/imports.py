"""What a Python module imports and what its code is, read from its syntax tree; nothing of it is run."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dreamset.core.errors import UserError


@dataclass(frozen=True, slots=True)
class ModuleCode:
    """What matters of a module's source."""

    digest: str  # without comments, docstrings, formatting and blocks for type checkers
    references: frozenset[str]  # dotted names that it imports, wherever in it, and attributes of what it imports
    offered: Mapping[str, str]  # name -> where it comes from, of names that it may load when they are asked for
    names: frozenset[str]  # of its classes and of what it imports


def read_module(path: Path, package: str) -> ModuleCode:
    """The module in a file.

    Args:
        path: its file; of a compiled module every byte counts, and its imports are not seen.
        package: the package that relative imports start from.

    Raises:
        UserError: if it is not valid Python.
    """
    content = path.read_bytes()
    if path.suffix != ".py":
        return ModuleCode(hashlib.sha256(content).hexdigest(), frozenset(), {}, frozenset())
    try:
        return parse_module(content, package)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not valid Python ({error}); fix it") from None


@lru_cache(maxsize=4096)
def parse_module(content: bytes, package: str) -> ModuleCode:
    """``read_module`` for source text. Reading a file again is cheap, parsing it again is not."""
    stripped = _Code()
    code = stripped.visit(ast.parse(content))
    nodes = list(ast.walk(code))
    bound = dict(_bindings(nodes, package))
    return ModuleCode(
        digest=hashlib.sha256(ast.unparse(code).encode()).hexdigest(),
        references=frozenset({*bound.values(), *_imported(nodes), *_attributes(nodes, bound)}),
        offered=dict(_bindings(stripped.for_type_checkers, package)),
        names=frozenset(bound) | {node.name for node in code.body if isinstance(node, ast.ClassDef)},
    )


class _Code(ast.NodeTransformer):
    """Takes docstrings, other lone strings and blocks for type checkers out of a tree."""

    def __init__(self) -> None:
        self.for_type_checkers: list[ast.AST] = []  # the statements in these blocks

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _is_text(node.value) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        if ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            self.for_type_checkers += node.body
            return [kept for statement in node.orelse if (kept := self.visit(statement)) is not None]
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _bindings(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, and the dotted name that it stands for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, package)
            yield from ((alias.asname or alias.name, f"{origin}.{alias.name}") for alias in node.names)


def _origin(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Dotted names that ``import`` names, and ``import_module`` where it is called with a text."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(ast.literal_eval(argument)) for argument in node.args[:1] if _is_text(argument))


def _attributes(nodes: Iterable[ast.AST], bound: Mapping[str, str]) -> Iterator[str]:
    """``a.b.c`` of every expression that starts with an imported name: attributes may be modules, or loaded lazily."""
    for node in nodes:
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id in bound:
            yield ".".join([bound[inner.id], *reversed(names)])
