"""Tables of text for a terminal."""

from collections.abc import Sequence


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Left-aligned columns, as wide as their longest cell, below their names.

    Characters that move a terminal's cursor are shown as ``?``: cells may come from other people's files.
    """
    cells = [[_plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def _plain(cell: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in cell)
