"""Text tables for a terminal."""

from collections.abc import Sequence


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """A table of left-aligned columns below their names. A column is as wide as its longest cell.

    Control characters are replaced by ``?``, because cells may come from untrusted files.
    """
    cells = [[_plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def _plain(cell: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in cell)
