"""Text tables for a terminal."""

from collections.abc import Container, Sequence


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "", right: Container[int] = ()) -> str:
    """A table of columns below their names. A column is as wide as its longest cell.

    Control characters are replaced by ``?``, because cells may come from untrusted files.

    Args:
        head: the names of the columns.
        rows: the cells.
        indent: before every line.
        right: numbers of the columns that are aligned to the right; the others are aligned to the left.
    """
    cells = [[plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def plain(cell: str) -> str:
    """A cell without control characters."""
    return "".join(character if character.isprintable() else "?" for character in cell)
