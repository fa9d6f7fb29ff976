"""Title and text of Markdown and HTML."""

import re
from itertools import pairwise
from typing import NamedTuple

from markdown_it import MarkdownIt
from selectolax.lexbor import LexborHTMLParser, LexborNode


class Page(NamedTuple):
    """What a file says: its own title ('' where it has none) and its text."""

    title: str
    text: str


# Markdown

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE_LINE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def markdown(source: str) -> Page:
    """Return the first heading (or the front matter's title) and the text, still as Markdown."""
    title = ""
    if front := _FRONT_MATTER.match(source):
        source = source[front.end() :]
        line = _TITLE_LINE.search(front[1])
        if line and line[1][0] not in ">|":  # a block, which only a YAML parser reads
            title = line[1].strip("\"'")
    return Page(title or _first_heading(source), source.strip())


def _first_heading(source: str) -> str:
    tokens = MarkdownIt("commonmark").parse(source)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            # A line break has no content; it must still part two words.
            return " ".join("".join(p.content or " " for p in inline.children or ()).split())
    return ""


# HTML

# What a reader does not read: code, navigation, forms, signs beside headings.
_NOT_TEXT = (
    "script, style, noscript, template, svg, iframe, nav, footer, button, select, "
    "[role=navigation], [role=search], [role=banner], [role=contentinfo], a.headerlink"
)
_MAIN = "main, [role=main], article"
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details dialog div dl dt fieldset
    figcaption figure form h1 h2 h3 h4 h5 h6 header hr li main ol p pre section summary table
    tbody tfoot thead tr ul""".split()  # noqa: SIM905
)
_CLOSE = {"li": "\n", "tr": "\n", "dt": "\n", "dd": "\n"}


def html(source: str) -> Page:
    """Return <title> and the text of the main part, a blank line after each block, without scripts,
    styles and navigation.

    The first <h1> goes before a title that holds it and more, which is mostly the site's name.
    """
    tree = LexborHTMLParser(source)
    for node in tree.css(_NOT_TEXT):
        node.decompose()
    title, heading = (_line(tree.css_first(name)) for name in ("title", "h1"))
    if heading in title or not title:
        title = heading or title
    candidates = [tree.css_first(_MAIN), tree.body]
    texts = (_text(node) for node in candidates if node is not None)
    return Page(title, next((text for text in texts if text), ""))


def _line(node: LexborNode | None) -> str:
    return " ".join(node.text().split()) if node is not None else ""


def _text(root: LexborNode) -> str:
    """Lay out a tree as text. Not recursive: a malformed page may nest ten thousand deep."""
    parts: list[str] = []
    waiting: list[tuple[LexborNode | str, bool]] = [(root, False)]
    while waiting:
        item, as_is = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
        elif item.is_text_node:
            text = item.text_content or ""
            parts.append(text if as_is else re.sub(r"\s+", " ", text))
        elif item.is_element_node:
            as_is = as_is or item.tag == "pre"
            if item.tag in _BLOCKS:
                waiting.append((_CLOSE.get(item.tag, "\n\n"), as_is))
            children = [(child, as_is) for child in item.iter(include_text=True)]
            waiting += reversed(children)
            parts.append(_opening(item.tag))
    text = re.sub(r"[ \t]*\n[ \t]*(?=\n)|[ \t]+(?=\n)", "\n", "".join(parts))
    text = re.sub(r"(?m)^-\s+", "- ", text)  # an item whose text is a paragraph
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _opening(tag: str) -> str:
    if tag in ("td", "th"):
        return "  "
    if tag == "li":
        return "\n- "
    return "\n" if tag in _BLOCKS or tag == "br" else ""
