"""Documents of a folder of text files, of one such file, or of a table."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from syntriever import files
from syntriever.errors import SyntrieverError
from syntriever.intake import encodings, markup, tables
from syntriever.intake.encodings import UnreadableError, encoding_of

PLAIN, MARKDOWN, HTML = (".txt",), (".md", ".markdown"), (".html", ".htm")
TEXT_SUFFIXES = PLAIN + MARKDOWN + HTML

# What documentation tools put beside the pages: their sources a second time, and long indexes.
GENERATED = ("_sources", "genindex*", "*modindex.html", "index-all.html", "search.html")


class Document(NamedTuple):
    """One file or row: its id, its title, its text, and how the text is to be cut."""

    id: str
    title: str
    text: str
    is_markdown: bool = False


@dataclass
class Notes:
    """What reading met on its way.

    Attributes:
        read: files or rows read.
        skipped: reason -> names of the files that were left out.
        encodings: encoding -> how many files.
        guessed: files that are neither UTF-8 nor marked, and their encodings.
        columns: of a table: what each role is read from.
        generated: pattern of `GENERATED` -> how many files were read that match it.
    """

    read: int = 0
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    encodings: Counter[str] = field(default_factory=Counter)
    guessed: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    generated: Counter[str] = field(default_factory=Counter)


def safe_id(name: str) -> str:
    """Write what an id can't hold (blanks, control characters, %, #) as %XX, as in an address.

    >>> safe_id("guide/my oven.md")
    'guide/my%20oven.md'
    """
    return re.sub(
        r"[\s%#\x00-\x1f\x7f]",
        lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode("utf-8")),
        name,
    )


def documents(
    path: Path,
    columns: Mapping[str, str | None],
    encoding: str | None,
    exclude: Sequence[str],
    notes: Notes,
) -> Iterator[Document]:
    """Yield the documents at `path`, files in the order of their paths, rows in their own.

    Args:
        path: a folder (.txt, .md and .html files in it, hidden ones passed over), one such file, or
            a .csv, .tsv or .jsonl file.
        columns: of a table, those named by the user: role (`id`, `title`, `text`) -> column.
        encoding: of all files; None: found out for each.
        exclude: patterns such as `_sources` or `*index*`; files of a folder are skipped whose path,
            or a part of it, matches one.
        notes: filled on the way.

    Raises:
        SyntrieverError: there is nothing to read, or a table has a fault.
    """
    if not path.exists():
        raise SyntrieverError(f"{path} does not exist. Check the path.")
    encoding = encodings.chosen(encoding)
    if path.is_dir():
        yield from _of_folder(path, encoding, exclude, notes)
    elif path.suffix.lower() in tables.SUFFIXES:
        yield from _of_table(path, columns, encoding, notes)
    elif path.suffix.lower() in TEXT_SUFFIXES:
        yield from _of_files(path.parent, [path.name], encoding, (), notes)
    else:
        suffixes = ", ".join(TEXT_SUFFIXES + tables.SUFFIXES)
        raise SyntrieverError(f"{path}: a folder, or a file that ends in {suffixes}, is expected.")


# Files


def _of_folder(
    folder: Path, encoding: str | None, exclude: Sequence[str], notes: Notes
) -> Iterator[Document]:
    yield from _of_files(folder, _names(folder), encoding, exclude, notes)
    if not notes.read:
        reasons = "; ".join(f"{why}: {len(names)}" for why, names in notes.skipped.items())
        raise SyntrieverError(
            f"{folder} holds no file that can be read ({reasons or 'it is empty'}). Text files end "
            f"in {', '.join(TEXT_SUFFIXES)}; name a table ({', '.join(tables.SUFFIXES)}) itself."
        )


def _names(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, sorted, with / between their parts."""
    found = []
    for place, subfolders, names in os.walk(folder, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        linked = [name for name in subfolders if (Path(place) / name).is_symlink()]
        names += linked  # not followed: a link may lead back; named among what is skipped
        found += [(inside / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise files.unreadable(Path(error.filename), error) from None


def _of_files(
    folder: Path, names: list[str], encoding: str | None, exclude: Sequence[str], notes: Notes
) -> Iterator[Document]:
    for name in names:
        suffix = Path(name).suffix.lower()
        try:
            if pattern := _excluding(name, exclude):
                raise UnreadableError(f"excluded ({pattern})")
            if _shown(name) != name:
                raise UnreadableError("its name is not UTF-8")
            if (folder / name).is_dir():
                raise UnreadableError("a link to a folder")
            if suffix in tables.SUFFIXES:
                raise UnreadableError("a table, to be named by itself")
            if suffix not in TEXT_SUFFIXES:
                raise UnreadableError(f"no text format ({suffix or 'no suffix'})")
            document = _of_file(folder / name, name, encoding, notes)
        except UnreadableError as reason:
            notes.skipped[str(reason)].append(_shown(name))
        except OSError as error:
            notes.skipped[f"can't be read ({error.strerror})"].append(_shown(name))
        else:
            notes.read += 1
            if pattern := _excluding(name, GENERATED):
                notes.generated[pattern] += 1
            yield document


def _of_file(path: Path, name: str, encoding: str | None, notes: Notes) -> Document:
    if path.exists() and not path.is_file():
        raise UnreadableError("no ordinary file")
    found = encoding or encoding_of(path)
    try:
        source = path.read_text(found)
    except (UnicodeDecodeError, UnicodeError):
        raise UnreadableError(f"not {found} throughout") from None
    notes.encodings[found] += 1
    if encoding is None and not found.startswith("utf"):
        notes.guessed[name] = found
    suffix = path.suffix.lower()
    if suffix in MARKDOWN:
        page = markup.markdown(source)
    else:
        page = markup.html(source) if suffix in HTML else markup.Page("", source.strip())
    return Document(safe_id(name), page.title or path.stem, page.text, suffix in MARKDOWN)


def _excluding(name: str, exclude: Sequence[str]) -> str | None:
    """The first pattern that a path, or a part of it, matches."""
    return next(
        (one for one in exclude for part in (name, *name.split("/")) if fnmatchcase(part, one)),
        None,
    )


def _shown(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")


# Tables


def _of_table(
    path: Path, chosen: Mapping[str, str | None], encoding: str | None, notes: Notes
) -> Iterator[Document]:
    is_json = path.suffix.lower() == ".jsonl"
    found = "utf-8" if is_json else encoding or tables.table_encoding(path)
    notes.encodings[found] += 1
    if encoding is None and not found.startswith("utf"):
        notes.guessed[path.name] = found
    lines: dict[str, int] = {}
    for number, (line, row) in enumerate(tables.rows(path, found), start=1):
        where = f"{path}, line {line}"
        cells = _cells(row, chosen, where, notes)
        own = cells.get("id", f"row-{number}").strip()
        if not own:
            raise SyntrieverError(f"{where}: the id is empty. Give the row one of its own.")
        if own in lines:
            raise SyntrieverError(
                f"{where}: the id {own!r} stands already in line {lines[own]}. Give each row its "
                "own, or name another column with --id-column."
            )
        lines[own] = line
        notes.read += 1
        title, text = " ".join(cells.get("title", "").split()), cells["text"].strip()
        # A row of a title alone is that title.
        yield Document(safe_id(own), title if text else "", text or title)
    if not notes.read:
        raise SyntrieverError(f"{path} holds no rows. There must be one a document.")


def _cells(
    row: dict[str, object], chosen: Mapping[str, str | None], where: str, notes: Notes
) -> dict[str, str]:
    """Return what a row holds for each role; lines of JSON may differ in their fields."""
    columns = tables.choose(list(row), ("id", "title", "text"), chosen, where)
    if "text" not in columns:
        raise tables.needed("text", list(row), where, "Name it with --text-column.")
    if columns.get("title") == columns["text"]:
        del columns["title"]  # --text-column names what would be the title
    notes.columns |= columns
    return {
        role: tables.text_of(row[column], f"{where}: {column!r}")
        for role, column in columns.items()
    }
