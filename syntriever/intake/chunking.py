"""Cuts a text into passages that an encoder reads whole, at headings, paragraphs and sentences."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from syntriever.errors import SyntrieverError

# What an encoder's tokens come close to (1.05 to 1.1 of them each, in prose and in code): every
# eight letters of a word, every sign, and every Chinese, Japanese or Korean character. So a text
# without blanks is cut too.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]{{1,8}}|[^\w\s]|_")

# Words. Lines so short that stand by themselves and end no sentence are taken for headings.
HEADING = 12
_LAST_BLOCK = re.compile(r"(?:\A|\n[ \t]*\n)[ \t]*(?![-*+] )([^\n]*[^\s.!?:;,…])[ \t]*\Z")
_LINE_ENDS = re.compile(r"[ \t]*\n")

# Characters of a line, for each word of a passage, up to which the splitter gets it whole. For each
# passage it looks for a sentence's end in all that is left of the line: with none, its time grows
# with the square of the line's length.
LINE = 100

Splitter = Callable[[str, bool], list[str]]
Parts = list[tuple[int, str]]


def words(text: str) -> int:
    """Count words, as passages are measured: long ones count double, signs count too.

    >>> words("the oven is hot"), words("temperatures:"), words("日本語")
    (4, 3, 3)
    """
    return len(_WORD.findall(text))


def splitter(most: int, overlap: int) -> Splitter:
    """Return a function of (text, is Markdown) that gives the text's passages in order.

    A heading never ends a passage whose successor begins with what it heads: it goes there, as up
    to 12 words more.

    Args:
        most: words of a passage.
        overlap: words that a passage may repeat of the one before: as many whole sentences or
            lines as fit in.

    Raises:
        SyntrieverError: the overlap leaves no room for anything new.
    """
    if overlap >= most:
        raise SyntrieverError(
            f"--overlap {overlap} leaves no room in passages of {most} words (--chunk-words). "
            f"Lower it, to {most // 4} for instance."
        )
    plain = TextSplitter.from_callback(words, most, overlap=overlap)
    marked_up = MarkdownSplitter.from_callback(words, most, overlap=overlap)

    def split(text: str, is_markdown: bool) -> list[str]:
        parts = _cut(text, (marked_up if is_markdown else plain).chunk_indices, LINE * most)
        return _headed(text, list(parts), min(HEADING, most // 4))

    return split


def _cut(text: str, cut: Callable[[str], Parts], longest: int) -> Iterator[tuple[int, str]]:
    """Yield the passages of a text, each with its place in it; one without long lines is cut whole.

    Else a window ends within each long line, and the next one begins where the last passage of the
    one before did: that one alone could have gone on, so that hardly a passage differs. Only what
    Markdown the long line stands in, such as a block of code, the next window doesn't know.

    Args:
        text: the whole text.
        cut: gives the passages of a text.
        longest: characters of a line beyond which the window ends.
    """
    lines = re.compile(rf"[^\r\n]{{1,{longest + 1}}}")
    start = reached = 0
    while start < len(text):
        ends = (line.end() for line in lines.finditer(text, start) if len(line[0]) > longest)
        end = next(ends, len(text))
        parts = [(start + place, part) for place, part in cut(text[start:end])]
        start = end
        if end < len(text) and len(parts) > 1:
            start, _ = parts.pop()
        for place, part in parts:
            if place + len(part) > reached:  # not only what the passage before repeats
                reached = place + len(part)
                yield place, part


def _headed(text: str, parts: Sequence[tuple[int, str]], most: int) -> list[str]:
    """Move headings at a passage's end to the next one, which may repeat them anyway.

    Args:
        text: the whole text.
        parts: its passages, each with its place in the text.
        most: words of headings that are moved.
    """
    passages, waiting = [], ""
    for (start, part), (following, _) in pairwise([*parts, (-1, "")]):
        end = len(part)
        # where the passage ends within a line, that line is no heading
        if following >= 0 and _LINE_ENDS.match(text, start + len(part.rstrip())):
            end = _headings(part, most - words(waiting))
        if part[:end].strip():
            passages.append(waiting + part[:end])
            waiting = ""
        moved = part[end:].lstrip()
        if moved and start + len(part) - len(moved) < following:  # not repeated, or not all of it
            waiting += moved.rstrip() + "\n\n"
    return passages


def _headings(part: str, most: int) -> int:
    """Return where the headings begin that end a passage."""
    end = len(part)
    while (last := _LAST_BLOCK.search(part, 0, end)) and words(part[last.start() :]) <= most:
        end = last.start()
    return end
