"""Reads the imports and the digest of a Python module from its syntax tree, without running the module."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError

BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)  # what a list of statements, or of their branches, consists of


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
    code = ast.parse(content)
    for_type_checkers = _strip(code)
    nodes, text = _written(code)
    bound = dict(_bindings(nodes, package))
    return ModuleCode(
        digest=hashlib.sha256(text.encode()).hexdigest(),
        references=frozenset({*bound.values(), *_imported(nodes), *_attributes(nodes, bound)}),
        offered=dict(_bindings(for_type_checkers, package)),
        names=frozenset(bound) | {node.name for node in code.body if isinstance(node, ast.ClassDef)},
    )


def _strip(node: ast.AST) -> list[ast.stmt]:
    """Removes docstrings, other string statements and blocks for type checkers from the statements below a node.

    Returns:
        the statements in the blocks for type checkers.
    """
    removed: list[ast.stmt] = []
    for part in vars(node).values():
        if isinstance(part, list) and part and isinstance(part[0], BLOCKS):
            removed += _strip_block(part)
    return removed


def _strip_block(block: list[Any]) -> list[ast.stmt]:
    removed: list[ast.stmt] = []
    kept = []
    for statement in block:
        if isinstance(statement, ast.If) and _name(statement.test) == "TYPE_CHECKING":
            removed += [*statement.body, *_strip_block(statement.orelse)]
            kept += statement.orelse
        elif not (isinstance(statement, ast.Expr) and _is_text(statement.value)):
            removed += _strip(statement)
            kept.append(statement)
    block[:] = kept
    return removed


def _name(node: ast.expr) -> str:
    """The last name of ``a.b.name``; empty if the expression is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _written(tree: ast.AST) -> tuple[list[ast.AST], str]:
    """All nodes of a tree, and a text that no other tree has. This loop sees every node, so it takes most of the time.

    A field without content is left out, so that the text is the same in a version of Python that has other such fields.
    """
    nodes, words = [tree], []
    for node in nodes:  # which grows
        words.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                if not isinstance(value, ast.expr_context):  # follows from the place of the expression
                    words.append(field)
                    nodes.append(value)
            elif isinstance(value, list):
                inner = [item for item in value if isinstance(item, ast.AST)]
                if len(inner) == len(value):
                    words += [f"{field}:{len(value)}"] if value else []
                else:  # names, or a dictionary without the keys of what it unpacks
                    words.append(f"{field}:{[None if isinstance(item, ast.AST) else [item] for item in value]}")
                nodes += inner
            elif value is not None and field != "kind":  # of a string: with or without a u before it
                words.append(f"{field}={value!r}")
    return nodes, "\n".join(words)


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
        elif isinstance(node, ast.Call) and _name(node.func).endswith(("import_module", "__import__")):
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
