"""Small pieces of HTML. Every text is escaped, because names come from users and files."""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

MIME = {".png": "image/png", ".mp4": "video/mp4", ".gif": "image/gif"}

escape = html.escape


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    text: str
    best: bool = False  # marked as the best of its column
    series: int | None = None  # position of the objective whose colour stands before the text


def table(head: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, caption: str = "") -> str:
    """A table that scrolls sideways on a narrow screen. The first cell of a row is its heading."""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(_cell(cell, index) for index, cell in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table>{named}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell | str, index: int) -> str:
    cell = Cell(cell) if isinstance(cell, str) else cell
    dot = "" if cell.series is None else f'<span class="dot s{cell.series}"></span>'
    text = f"{dot}{escape(cell.text)}"
    if cell.best:
        text = f'<strong>{text}</strong><span class="best" title="best of its column"> ★</span>'
    return f'<th scope="row">{text}</th>' if index == 0 else f"<td>{text}</td>"


def section(title: str, *parts: str, intro: str = "") -> str:
    """A section with a heading that can be linked to; nothing if it has no parts."""
    content = "".join(part for part in parts if part)
    if not content:
        return ""
    anchor = "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
    lead = f"<p>{escape(intro)}</p>" if intro else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{lead}{content}</section>'


def figure(drawing: str, caption: str) -> str:
    """A drawing with its caption."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


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


def data_uri(path: Path) -> str:
    """A file as an address that contains it."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def document(title: str, body: str) -> str:
    """A whole page with its styles and its script, which plays videos in step."""
    resources = files("dreamset.pipeline.report.page")
    style, script = ((resources / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )
