"""Small pieces of HTML. Every text is escaped, because names come from users and files."""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from dreamset.pipeline.report.page.marks import color_class, marker

MIME = {".png": "image/png", ".mp4": "video/mp4", ".gif": "image/gif"}

escape = html.escape


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    text: str
    best: bool = False  # marked as the best of its column
    series: int | None = None  # position of the objective whose marker stands before the text


def table(head: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, caption: str = "", numbers: bool = True) -> str:
    """A table that scrolls sideways on a narrow screen. The first cell of a row is its heading.

    Args:
        head: the names of the columns.
        rows: the cells.
        caption: above the table.
        numbers: whether all columns but the first are aligned to the right.
    """
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(cell, index) for index, cell in enumerate(row))}</tr>" for row in rows)
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}>{named}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell | str, index: int) -> str:
    cell = Cell(cell) if isinstance(cell, str) else cell
    text = f"{key_mark(cell.series)}{escape(cell.text)}"
    if cell.best:
        text = f'<strong>{text}</strong><span class="best" title="best of its column"> ★</span>'
    return f'<th scope="row">{text}</th>' if index == 0 else f"<td>{text}</td>"


def key_mark(series: int | None) -> str:
    """The marker of an objective in its colour, as in the charts; nothing for None."""
    if series is None:
        return ""
    shape = marker(series, 7, 7, 5)
    return f'<svg class="key {color_class(series)}" viewBox="0 0 14 14" aria-hidden="true"><path d="{shape}"/></svg>'


@dataclass(frozen=True, slots=True)
class Help:
    """Reading help in plain words."""

    what: str  # is shown
    good: str  # looks like
    otherwise: str  # what to do if it does not


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading. Without content it is left out."""

    title: str
    content: str
    help: Help | None = None

    @property
    def anchor(self) -> str:
        """The address of the section within the page."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())

    def html(self) -> str:
        """The section, with its reading help first."""
        if not self.content:
            return ""
        lead = "" if self.help is None else _help(self.help)
        return f'<section id="{self.anchor}"><h2>{escape(self.title)}</h2>{lead}{self.content}</section>'


def _help(words: Help) -> str:
    rows = (("What", words.what), ("Good", words.good), ("If not", words.otherwise))
    lines = "".join(f"<dt>{name}</dt><dd>{_with_code(text)}</dd>" for name, text in rows if text)
    return f'<dl class="help">{lines}</dl>'


def contents(sections: Iterable[Section]) -> str:
    """Links to all sections that are on the page."""
    links = "".join(f'<a href="#{one.anchor}">{escape(one.title)}</a>' for one in sections if one.content)
    return f'<nav aria-label="sections">{links}</nav>'


def figure(drawing: str, caption: str, numbers: str = "") -> str:
    """A drawing with its caption, and a table of its numbers that a reader can unfold; nothing without a drawing."""
    if not drawing:
        return ""
    table_ = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption>{table_}</figure>"


def grid(parts: Iterable[str]) -> str:
    """Parts side by side where there is room; nothing without parts."""
    content = "".join(parts)
    return f'<div class="grid">{content}</div>' if content else ""


def listing(items: Iterable[str]) -> str:
    """A bulleted list. What stands between backticks is code."""
    return f"<ul>{''.join(f'<li>{_with_code(item)}</li>' for item in items)}</ul>"


def _with_code(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def data_uri(content: bytes, suffix: str) -> str:
    """The content of a file as an address that contains it."""
    return f"data:{MIME[suffix]};base64,{base64.b64encode(content).decode()}"


def document(title: str, body: str) -> str:
    """A whole page with its styles and its script, which plays videos in step and shows the values of charts."""
    resources = files("dreamset.pipeline.report.page")
    style, script = ((resources / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )
