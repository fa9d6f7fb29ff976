"""Files that are written whole or not at all, and JSON Lines that say where they are broken."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from syntriever.errors import SyntrieverError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` once the block has ended well.

    Works for a file and for a folder (which the block makes itself). What stood at `path` is
    replaced; after an error it is untouched and the temporary is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.part"
    old = path.parent / f".{path.name}.old.part"
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir():  # a folder can't be replaced: move it aside, so that nothing is lost
            _remove(old)
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        _remove(temporary)
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
    """Read one JSON file.

    Raises:
        SyntrieverError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SyntrieverError(f"{path} is not JSON ({error}).") from None


def read_jsonl(path: Path) -> Iterator[dict]:
    """Yield the objects of a JSON Lines file (see `read_numbered`)."""
    return (record for _, record in read_numbered(path))


def read_numbered(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number from 1, object) of a UTF-8 JSON Lines file; empty lines are passed over.

    Raises:
        SyntrieverError: the file is missing, or a line is not UTF-8 or not a JSON object.
    """
    if not Path(path).is_file():
        raise missing(path)
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise SyntrieverError(
                    f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}). "
                    "Convert the file to UTF-8."
                ) from None
            except json.JSONDecodeError as error:
                raise SyntrieverError(
                    f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}). "
                    "Each line must hold one JSON object."
                ) from None
            except (ValueError, RecursionError) as error:  # a number or a nesting beyond all sense
                raise SyntrieverError(
                    f"{path}, line {number}: unreadable JSON ({error})."
                ) from None
            if not isinstance(record, dict):
                raise SyntrieverError(
                    f"{path}, line {number}: a JSON object is expected, found "
                    f'{type(record).__name__}. Each line must look like {{"_id": …}}.'
                )
            yield number, record


def missing(path: Path) -> SyntrieverError:
    """Return the error for an input that is not there."""
    return SyntrieverError(
        f"{path} does not exist. Run `dvc repro`, which makes it, or check the path."
    )
