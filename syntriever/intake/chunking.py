"""Cuts a text into passages that an encoder reads whole, at headings, paragraphs and sentences."""

import re
from collections.abc import Callable

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from syntriever.errors import SyntrieverError

# What an encoder's tokens come close to (1.05 to 1.1 of them each, in prose and in code): every
# eight letters of a word, every sign, and every Chinese, Japanese or Korean character. So a text
# without blanks is cut too.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]{{1,8}}|[^\w\s]|_")

Splitter = Callable[[str, bool], list[str]]


def words(text: str) -> int:
    """Count words, as passages are measured: long ones count double, signs count too.

    >>> words("the oven is hot"), words("temperatures:"), words("日本語")
    (4, 3, 3)
    """
    return len(_WORD.findall(text))


def splitter(most: int, overlap: int) -> Splitter:
    """Return a function of (text, is Markdown) that gives the text's passages in order.

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
        return (marked_up if is_markdown else plain).chunks(text)

    return split
