"""Reads the imports and the digest of a Python module from its syntax tree, without running the module."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dreamset.core.errors import UserError


@dataclass(frozen=True, slots=True)
class ModuleCode:
    """The digest and the imports of a module."""

    digest: str  # of its code, without comments, docstrings, formatting and blocks for type checkers
    references: frozenset[str]  # dotted names of all its imports, and of attributes of imported names
    offered: Mapping[str, str]  # lazily loaded name -> its origin
    names: frozenset[str]  # of its classes and imports


def read_module(path: Path, package: str) -> ModuleCode:
    """The code of the module in a file.

    Args:
        path: the file. The digest of a compiled module covers all bytes, and its imports are unknown.
        package: the package at which relative imports start.

    Raises:
        UserError: if the module is not valid Python.
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
    """As ``read_module``, but for source text. Results are cached, because parsing is slow."""
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
    """Removes docstrings, other string statements and blocks for type checkers from a tree."""

    def __init__(self) -> None:
        self.for_type_checkers: list[ast.AST] = []  # the statements in these blocks

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _is_text(node.value) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        if ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            self.for_type_checkers += node.body
            return [other for statement in node.orelse if (other := self.visit(statement)) is not None]
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _bindings(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, with its full dotted name."""
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
    """Dotted names in ``import`` statements, and in calls of ``import_module`` with a literal string."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(ast.literal_eval(argument)) for argument in node.args[:1] if _is_text(argument))


def _attributes(nodes: Iterable[ast.AST], bound: Mapping[str, str]) -> Iterator[str]:
    """``a.b.c`` of each expression that starts with an imported name. Attributes may be modules or lazily loaded."""
    for node in nodes:
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id in bound:
            yield ".".join([bound[inner.id], *reversed(names)])
