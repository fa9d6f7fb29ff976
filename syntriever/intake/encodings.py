"""In which encoding a file is: by its mark, as UTF-8, by what it declares, else by a guess."""

import codecs
import re
from pathlib import Path

from charset_normalizer import from_bytes

from syntriever.errors import SyntrieverError

BLOCK = 1 << 20

# A share of the letters and signs. French and German text has about 0.05 of them beyond ASCII,
# Russian and Japanese nearly all.
FEW = 0.3

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What is guessed among. Not cp1250: short Western texts would be taken for Central European ones.
_GUESSES = ["cp1252", "cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
_META = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
# Control characters that no text has; tab, line feeds, backspace (man pages) and escape may stand.
_BINARY = re.compile(rb"[\x00-\x07\x0e-\x1a\x1c-\x1f]")


class UnreadableError(Exception):
    """The file is no text, or in no encoding that is known here; the message is the reason."""


def encoding_of(path: Path) -> str:
    """Return the name of a text file's encoding, read in blocks.

    Raises:
        UnreadableError: it is binary, or no encoding fits.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        head = file.read(BLOCK)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
        decoder = codecs.getincrementaldecoder("utf-8")()
        block = head
        while block:
            if _BINARY.search(block):
                raise UnreadableError("binary, or UTF-16 without a byte order mark")
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return _declared(head) or _guess(block)
            block = file.read(BLOCK)
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:  # it ends in the middle of a character
            return _guess(head)
    return "utf-8"


def chosen(name: str | None) -> str | None:
    """Return the encoding to read with where the user names one: UTF-8 with a mark or without.

    Raises:
        SyntrieverError: Python knows none of that name.
    """
    if name is None:
        return None
    if not known(name):
        raise SyntrieverError(f"--encoding {name}: unknown. Name one such as utf-8 or cp1250.")
    return "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name


def known(name: str) -> bool:
    """Tell whether Python knows an encoding of text by that name."""
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


def _declared(head: bytes) -> str | None:
    """Return what an HTML page says of itself, where that can be true."""
    found = _META.search(head[:4096])
    if not found:
        return None
    name = found[1].decode("ascii").lower()
    if name in ("iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"):
        name = "cp1252"  # as browsers read it
    return name if known(name) and not name.startswith("utf") else None


def _guess(block: bytes) -> str:
    """Guess from one block: Western European where few letters lie beyond ASCII, else by the
    likeliest sequences of letters."""
    # To whole lines, so that no character is halved at the block's end.
    lines = block[: block.rfind(b"\n") + 1] or block
    signs = lines.translate(None, b" \t\r\n")
    beyond = sum(sign >= 0x80 for sign in signs) / max(1, len(signs))
    best = None if beyond < FEW else from_bytes(lines, cp_isolation=_GUESSES).best()
    name = best.encoding if best else "cp1252"
    try:
        lines.decode(name)
    except UnicodeDecodeError:
        raise UnreadableError("in no encoding that fits") from None
    return name
