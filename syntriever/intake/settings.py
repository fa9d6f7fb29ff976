"""Shows params as -S options, or sets them in params.yaml with its comments kept."""

import io
import shlex
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from syntriever import files, params
from syntriever.params.reading import PARAMS_FILE


def options(chosen: Mapping[str, object]) -> str:
    """Return params as options of `dvc exp run`.

    >>> options({"evaluate.splits": ["dev", "test"], "collection.use_labels": False})
    "-S 'evaluate.splits=[dev,test]' -S collection.use_labels=false"
    """
    return " ".join(
        f"-S {shlex.quote(f'{name}={_plain(value)}')}" for name, value in chosen.items()
    )


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def write(chosen: Mapping[str, object], path: Path = PARAMS_FILE) -> None:
    """Set these params in params.yaml, whose comments and order stay.

    Raises:
        SyntrieverError: the file would not be what the stages expect; it stays as it was.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.representer.add_representer(type(None), _null)
    values = yaml.load(path.read_text("utf-8"))
    for name, value in chosen.items():
        *groups, leaf = name.split(".")
        group = values
        for part in groups:
            group = group[part]
        if isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()
        group[leaf] = value
    text = io.StringIO()
    yaml.dump(values, text)
    with files.replacing(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")
        params.load_all(temporary)


def _null(representer, _):
    """Write null as it stands in params.yaml; by default it would become nothing."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
