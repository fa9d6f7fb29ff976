"""Params by dotted names: which there are, what overrides make of them, how `-S` writes them."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from syntriever import params
from syntriever.errors import SyntrieverError

_PLAIN = re.compile(r"[A-Za-z_/.][\w./@+-]*", re.ASCII)
_WORDS = {"null", "true", "false", "nan", "inf"}

# Not part of what a run is: where it lies, what it runs on, what it is scored on.
UNFIXED = re.compile(r"(runtime|compute)\..*|collection\.path|evaluate\.(splits|collections)")


def leaves(model: type[BaseModel] = params.Params, prefix: str = "") -> set[str]:
    """Return the dotted names of a model's leaves."""
    names = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names |= leaves(inner, f"{prefix}{name}.")
        else:
            names.add(prefix + name)
    return names


def flatten(values: BaseModel, prefix: str = "") -> dict[str, object]:
    """Return the values of a model's leaves by dotted name."""
    flat = {}
    for name in type(values).model_fields:
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse what is no param, naming the nearest that is, and what is no row's to set.

    Raises:
        SyntrieverError: a name is no leaf of params.yaml, or not part of what a run is.
    """
    known = leaves()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ". params.yaml has them all"
            raise SyntrieverError(f"{where}: {name} is not a param{hint}")
        if name == "seed" or UNFIXED.fullmatch(name):
            raise SyntrieverError(
                f"{where}: {name} can't be set here. Seeds stand in `seeds`, collections in "
                "`columns` and `trained_on`; --device and --precision say what computes."
            )


def resolve(base: params.Params, overrides: dict[str, object], where: str) -> dict[str, object]:
    """Return all leaves of `base` with `overrides` over them.

    Raises:
        SyntrieverError: the outcome is refused by the params' own checks.
    """
    flat = flatten(base) | overrides
    nested: dict = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        group = nested
        for part in groups:
            group = group.setdefault(part, {})
        group[leaf] = value
    try:
        params.Params.model_validate(nested)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise SyntrieverError(
            f"{where}: {name} {message}. Mend its `set` or its presets."
        ) from None
    return flat


def options(overrides: dict[str, object], collections: dict[str, str]) -> list[str]:
    """Return the options for `dvc exp run`: `-S`, `NAME=VALUE`, and so on.

    Args:
        overrides: values by dotted name.
        collections: folders of the collections to score on besides, by name.
    """
    settings = [f"{name}={_hydra(value)}" for name, value in overrides.items()]
    settings += [f"++evaluate.collections.{n}={_hydra(path)}" for n, path in collections.items()]
    return [part for setting in settings for part in ("-S", setting)]


def _hydra(value: object) -> str:
    """Write a value as hydra's grammar reads it back, type included."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # Only quotes are escaped, and the backslashes in front of one.
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', '\\"'), value) + '"'


def without_folders(value: object) -> object:
    """Cut an absolute path down to its last part, so that no machine's folders are stored."""
    if isinstance(value, str) and value.startswith(("/", "~")):
        return Path(value).name
    return value
