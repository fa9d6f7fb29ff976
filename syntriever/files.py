"""Files that are written whole or not at all, and JSON Lines that say where they are broken."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from syntriever.errors import SyntrieverError

_HALF = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)  # how JSON escapes half of a surrogate pair


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` once the block has ended well.

    Works for a file and for a folder (which the block makes itself). What stood at `path` is
    replaced; after an error it is untouched and the temporary is removed.

    Raises:
        SyntrieverError: a folder stands where a file is to be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.part"
    old = path.parent / f".{path.name}.old.part"
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir() and not temporary.is_dir():
            raise SyntrieverError(f"{path} is a folder, and a file is to be there. Move it away.")
        if path.is_dir():  # a folder can't be replaced: move it aside, so that nothing is lost
            _remove(old)
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        _remove(temporary)
        _remove(old)


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Clear the way for a folder that the block fills under its own name, to be watched meanwhile;
    after an error, or in the run after a kill, what stood there before comes back."""
    old = folder.parent / f".{folder.name}.old.part"
    if not old.exists() and folder.exists():
        os.replace(folder, old)
    _remove(folder)
    try:
        yield
    except BaseException:
        _remove(folder)
        if old.exists():
            os.replace(old, folder)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Write one JSON object a line."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """Read one JSON file that holds an object.

    Raises:
        SyntrieverError: the file is missing, can't be read, or is not a JSON object.
    """
    with opened(path) as file:
        content = file.read()
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SyntrieverError(
            f"{path} is not JSON ({error}). Restore it, or run the stage that makes it again."
        ) from None
    if not isinstance(value, dict):
        raise SyntrieverError(
            f"{path}: a JSON object is expected, found {type(value).__name__}. Restore it, or run "
            "the stage that makes it again."
        )
    return value


def read_jsonl(path: Path) -> Iterator[dict]:
    """Yield the objects of a JSON Lines file (see `read_numbered`)."""
    return (record for _, record in read_numbered(path))


def read_numbered(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number from 1, object) of a UTF-8 JSON Lines file; empty lines are passed over.

    Raises:
        SyntrieverError: the file is missing or can't be read, or a line is not UTF-8, not a JSON
            object, or holds half a character.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _parse(line, f"{path}, line {number}")


def _parse(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SyntrieverError(
            f"{where}: not UTF-8 ({error.reason} at byte {error.start}). Convert the file to UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise SyntrieverError(
            f"{where}: not JSON ({error.msg} at column {error.colno}). Each line must hold one "
            "JSON object."
        ) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond all sense
        raise SyntrieverError(
            f"{where}: unreadable JSON ({error}). Mend the line or remove it."
        ) from None
    if not isinstance(record, dict):
        raise SyntrieverError(
            f"{where}: a JSON object is expected, found {type(record).__name__}. Each line must "
            'look like {"_id": …}.'
        )
    if _HALF.search(line):
        _refuse_half_characters(record, where)
    return record


def _refuse_half_characters(record: dict, where: str) -> None:
    """Half of a surrogate pair is legal in JSON, but no text: it can't be written as UTF-8."""
    for name, value in record.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise SyntrieverError(
                f"{where}: {name!a} holds half a character ({error.object[error.start]!a}). Remove "
                "it, or write the whole character."
            ) from None


def opened(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        SyntrieverError: it is missing, is a folder or can't be read.
    """
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> SyntrieverError:
    """Return the error for an input that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return missing(path)
    if isinstance(error, IsADirectoryError):
        return SyntrieverError(f"{path} is a folder, but a file is expected. Name a file.")
    return SyntrieverError(
        f"{path} can't be read ({error.strerror}). Check the path and its permissions."
    )


def missing(path: Path) -> SyntrieverError:
    """Return the error for an input that is not there."""
    return SyntrieverError(
        f"{path} does not exist. Run `dvc repro`, which makes it, or check the path."
    )
