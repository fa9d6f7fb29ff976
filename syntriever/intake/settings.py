"""Sets params in params.yaml, with its comments kept."""

import io
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from syntriever import files, params
from syntriever.params.reading import PARAMS_FILE


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
