"""Rows of CSV, TSV and JSON Lines files, and which of their columns mean what."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from syntriever import files
from syntriever.errors import SyntrieverError
from syntriever.intake.encodings import UnreadableError, encoding_of

SUFFIXES = (".csv", ".tsv", ".jsonl")

csv.field_size_limit(2**31 - 1)  # a whole document in one cell is no error

# A first line that tells Excel the delimiter.
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*')
# Lines that the delimiter is found out from.
_HEAD = 100

# Names that a column of that meaning has, best first; case, blanks and hyphens don't matter.
NAMES = {
    "id": ("_id", "id", "doc_id", "docid", "document_id", "passage_id", "pid", "key"),
    "title": ("title", "heading", "name", "subject"),
    "text": ("text", "contents", "content", "body", "passage", "document", "abstract", "answer"),
    "query id": ("_id", "id", "query_id", "qid", "question_id"),
    "query": ("text", "query", "question", "contents", "content"),
    "labelled query": ("query_id", "qid", "query", "question_id"),
    "labelled passage": (
        *("corpus_id", "doc_id", "docid", "document_id", "passage_id", "pid"),
        *("file", "path", "document", "passage"),
    ),
    "score": ("score", "relevance", "grade", "label", "rel"),
}

Row = tuple[int, dict[str, object]]


def rows(path: Path, encoding: str | None = None) -> Iterator[Row]:
    """Yield (line, {column: value}) of a CSV, TSV or JSON Lines file; empty lines are passed over.

    The delimiter of a .csv file is the one of a first line `sep=;`, else whichever of comma,
    semicolon, tab and | divides its first line into columns that fit most of the lines after it.
    Quotes in a .tsv file hold cells together, as Excel writes them, unless the rows fit the columns
    only where quotes are signs like others.

    Args:
        path: the file.
        encoding: of a CSV or TSV file; None: found out. JSON is UTF-8.

    Raises:
        SyntrieverError: the file is missing or empty, is no text, has another suffix, a row has
            more or fewer cells than there are columns, or a quote is not closed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SyntrieverError(f"{path}: a file that ends in {', '.join(SUFFIXES)} is expected.")
    if path.suffix.lower() == ".jsonl":
        yield from files.read_numbered(path)
    else:
        yield from _csv_rows(path, encoding or table_encoding(path))


def table_encoding(path: Path) -> str:
    """Return the encoding of a CSV or TSV file.

    Raises:
        SyntrieverError: it is missing, or no text.
    """
    try:
        return encoding_of(path)
    except UnreadableError as reason:
        raise SyntrieverError(f"{path} can't be read: it is {reason}.") from None
    except OSError as error:
        raise files.unreadable(path, error) from None


def choose(
    columns: Sequence[str], roles: Sequence[str], chosen: Mapping[str, str | None], where: str
) -> dict[str, str]:
    """Return which column plays which role; roles that no column plays are left out.

    Args:
        columns: the file's.
        roles: keys of `NAMES`.
        chosen: columns named by the user, by role.
        where: for messages.

    Raises:
        SyntrieverError: a column that the user named is not there.
    """
    plain = {name.strip().casefold().replace(" ", "_").replace("-", "_"): name for name in columns}
    found = {}
    for role in roles:
        own = chosen.get(role)
        if own is not None and own not in columns:
            raise SyntrieverError(
                f"{where}: there is no column {own!r}. There are {_listed(columns)}; choose one "
                "of them."
            )
        name = own or next((plain[name] for name in NAMES[role] if name in plain), None)
        if name is not None:
            found[role] = name
    return found


def needed(role: str, columns: Sequence[str], where: str, mend: str) -> SyntrieverError:
    """Return the error for a role that no column plays."""
    names = ", ".join(dict.fromkeys(name.lstrip("_") for name in NAMES[role]))
    return SyntrieverError(
        f"{where}: no column is the {role}. There are {_listed(columns)}; known names are {names}. "
        f"{mend}"
    )


def text_of(value: object, where: str) -> str:
    """Return a cell as text: '' for null, an integer as its digits.

    Raises:
        SyntrieverError: it is something else, such as a list.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise SyntrieverError(
        f"{where} is of type {type(value).__name__}. Text, a whole number or null is expected."
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in columns[:12]) + (" …" if columns[12:] else "")


def _csv_rows(path: Path, encoding: str) -> Iterator[Row]:
    start = 1
    try:
        with path.open(encoding=encoding, newline="") as file:
            dialect, start = _dialect(path, encoding)
            lines = islice(file, start - 1, None)
            # strict: an open quote is a fault, and not a cell that holds all rows after it
            reader = csv.reader(lines, strict=True, **dialect)
            columns = [name.strip() for name in next(reader, [])]
            if not any(columns):
                raise SyntrieverError(f"{path} is empty. Its first line must name the columns.")
            if len(set(columns)) < len(columns):
                raise SyntrieverError(
                    f"{path}, line {start}: two columns have one name ({_listed(columns)}). Rename "
                    "one."
                )
            before, start = start, start + reader.line_num
            for cells in reader:
                line, start = start, before + reader.line_num
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise SyntrieverError(
                        f"{path}, line {line}: {len(cells)} cells, but the first line names "
                        f"{len(columns)} columns ({_listed(columns)}). Put a cell that holds the "
                        "delimiter, a quote or a line break in double quotes."
                    )
                yield line, dict(zip(columns, cells, strict=True))
    except UnicodeError:  # of UTF-16 without its mark no UnicodeDecodeError
        raise SyntrieverError(
            f"{path} is not {encoding} throughout. Name its encoding (--encoding; UTF-16 without a "
            "mark is utf-16-le or utf-16-be), or convert it to UTF-8."
        ) from None
    except csv.Error as error:
        raise SyntrieverError(
            f"{path}, line {start}: the row that begins here is none ({error}). A cell that begins "
            'with a double quote must end with one, and a quote in it is written twice: "".'
        ) from None


def _dialect(path: Path, encoding: str) -> tuple[dict, int]:
    """Find out the delimiter, of a .tsv file whether quotes in it are signs like others, and in
    which line the columns are named."""
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline()
        if path.suffix.lower() == ".tsv":
            tabs = first.count("\t")
            plain = all(line.count("\t") == tabs for line in file if line.strip())
            file.seek(0)
            signs = plain and not _fits_quoted(file)
            return {
                "delimiter": "\t",
                "quoting": csv.QUOTE_NONE if signs else csv.QUOTE_MINIMAL,
            }, 1
        if named := _SEP_LINE.fullmatch(first):
            return {"delimiter": named[1]}, 2
        head = [first, *islice(file, _HEAD)]

    def fit(sign: str) -> tuple[bool, int, int]:
        header, *rows = csv.reader(head, delimiter=sign)
        fitting = sum(len(row) == len(header) for row in rows)
        return len(header) > 1, fitting, len(header)

    return {"delimiter": max(",;\t|", key=fit)}, 1


def _fits_quoted(file: TextIO) -> bool:
    """Whether the rows of a .tsv file fit its columns where quotes hold cells together."""
    reader = csv.reader(file, delimiter="\t", strict=True)
    try:
        columns = len(next(reader, []))
        return all(len(cells) == columns and not _joins(cells) for cells in reader if cells)
    except csv.Error:
        return False


def _joins(cells: Sequence[str]) -> bool:
    """Whether a cell holds the end of one row and the beginning of the next: its text begins with a
    quote that is a sign, and some later cell's ends with one."""
    return any("\t" in cell and re.search(r"[\r\n]", cell) for cell in cells)
