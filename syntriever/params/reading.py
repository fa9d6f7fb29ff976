"""Reads params.yaml: the whole file is checked, then a stage sees its own view of it."""

import difflib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import ScalarToken

from syntriever.errors import SyntrieverError
from syntriever.params.groups import Params
from syntriever.params.views import View

PARAMS_FILE = Path("params.yaml")

SomeView = TypeVar("SomeView", bound=View)


def load(view: type[SomeView], path: Path = PARAMS_FILE) -> SomeView:
    """Check the whole of params.yaml and return one stage's view of it.

    Raises:
        SyntrieverError: the file is missing or malformed, or a name, type or value is wrong; every
            fault is listed with its line.
    """
    return view.model_validate(_restrict(load_all(path), view))


def _restrict(values: BaseModel, model: type[BaseModel]) -> dict:
    """The values of the fields that `model` declares, down to the leaves."""
    restricted = {}
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        is_group = isinstance(value, BaseModel)
        restricted[name] = _restrict(value, field.annotation) if is_group else value
    return restricted


def load_all(path: Path = PARAMS_FILE) -> Params:
    """Check params.yaml and return all of it. For `runtime` and for tests; stages use `load`."""
    values = _read(path, "safe")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = _read(path, "rt")
        faults = "\n".join(f"  {path}, {_fault(one, lines)}" for one in error.errors())
        raise SyntrieverError(f"{path} does not hold what the stages expect:\n{faults}") from None


def read_compute(path: Path = PARAMS_FILE) -> tuple[str, int]:
    """Return (instructions, threads) for the process environment, before anything is checked.

    Falls back to the defaults on a broken file, which the stage then reports properly.
    """
    try:
        compute = _read(path, "safe")["compute"]
        native = compute["instructions"] == "native"
        return ("native" if native else "avx2"), max(1, int(compute["threads"]))
    except (SyntrieverError, KeyError, TypeError, ValueError, OverflowError):
        return "avx2", 2


def _read(path: Path, kind: str) -> dict:
    """Parse by YAML 1.2 rules, as DVC does (1.1 would read 2e-5 as text)."""
    try:
        values = YAML(typ=kind, pure=True).load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SyntrieverError(
            f"{path} does not exist here. Run stages from the repository's root."
        ) from None
    except OSError as error:
        raise SyntrieverError(
            f"{path} can't be read ({error.strerror}). Put the file of params back there."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SyntrieverError(f"{path}, line {line}: not UTF-8. Convert the file.") from None
    except ReaderError as error:
        raise SyntrieverError(
            f"{path}: not YAML (the character U+{error.character:04X} at {error.position}). "
            "Remove it."
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise SyntrieverError(
            f"{path}, line {mark.line + 1 if mark else '?'}: not YAML ({error.problem}). Mend the "
            "line; `git diff` shows what was changed."
        ) from None
    except RecursionError:
        raise SyntrieverError(
            f"{path}: brackets or groups within one another beyond all sense. Remove them."
        ) from None
    except ValueError as error:  # a number of thousands of digits, the 31st of February
        line = _unreadable_line(path.read_text("utf-8"))
        raise SyntrieverError(
            f"{path}, line {line}: unreadable value ({str(error).split(';')[0]}). Give "
            "it a value that exists."
        ) from None
    if not isinstance(values, dict):
        raise SyntrieverError(f"{path} must hold groups of params, such as `loss:`.")
    return values


def _unreadable_line(text: str) -> int | str:
    """The line of the first plain value that YAML recognises but Python can't make."""
    for token in YAML(pure=True).scan(text):
        if isinstance(token, ScalarToken) and token.plain:
            try:
                YAML(typ="safe", pure=True).load(token.value)
            except ValueError:
                return token.start_mark.line + 1
            except YAMLError:
                continue
    return "?"


def _fault(fault: dict, document: dict) -> str:
    """One validation error as 'line 12: loss.tua is not a param; did you mean loss.tau?'."""
    location = [str(part) for part in fault["loc"] if isinstance(part, (str, int))]
    group, line = document, 1
    for part in location:
        if not isinstance(group, dict) or part not in group:
            break
        if part not in (group.lc.data or {}):  # merged in by <<
            break
        line = group.lc.key(part)[0] + 1
        group = group[part]
    name = ".".join(location) or "params"
    if fault["type"] == "extra_forbidden":
        nearest = _nearest(location)
        hint = f"; did you mean {nearest}?" if nearest else ""
        return f"line {line}: {name} is not a param{hint}"
    if fault["type"] == "missing":
        return f"line {line}: {name} is missing"
    found = "" if isinstance(fault["input"], dict) else f", found {_short(fault['input'])}"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"line {line}: {name} {message}{found}"


def _short(value: object) -> str:
    try:
        words = repr(value)
    except ValueError:  # so long a number that Python refuses to print it
        return "a number of thousands of digits"
    return words if len(words) <= 80 else f"{words[:77]}..."


def _nearest(location: list[str]) -> str | None:
    *groups, name = location
    model: type[BaseModel] = Params
    for group in groups:
        model = model.model_fields[group].annotation
    close = difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.5)
    return ".".join([*groups, close[0]]) if close else None
