"""What was measured: one JSON file a run in metrics/tables/, and whether it still holds.

A run is a collection, overrides and a seed. Its file has the scores of all four systems, so that
rows and tables that share a run share it. The scores of the same run on another collection
(transfer) are a file beside it.
"""

import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from syntriever import params, paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, replacing
from syntriever.tables import rows
from syntriever.tables.overrides import UNFIXED, leaves, without_folders

FOLDER = paths.METRICS / "tables"

# The stages that a system's scores come from; what other stages depend on can't make them stale.
UPSTREAM = {
    "bm25": ("prepare",),
    "untrained": ("prepare", "embed"),
    "stage1": ("prepare", "embed", "write_queries", "synthesize", "verify", "train_stage1"),
    "stage2": (
        *("prepare", "embed", "write_queries", "synthesize", "verify", "train_stage1"),
        *("mine_pairs", "train_stage2"),
    ),
}


_MEND = "Remove the file, so that it is measured again, or `git checkout` it."


@dataclass(frozen=True)
class Run:
    """A collection to train on, overrides by dotted name, a seed."""

    collection: str
    overrides: dict[str, object] = field(hash=False)
    seed: int

    @property
    def key(self) -> str:
        """12 hex digits of a hash of the overrides and the seed."""
        chosen = {name: without_folders(value) for name, value in self.overrides.items()}
        text = json.dumps([chosen, self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def file(self, scored_on: str | None = None) -> Path:
        """Where its scores are stored: on its own collection, or on another one."""
        other = "" if scored_on in (None, self.collection) else f"-{scored_on}"
        return FOLDER / self.collection / f"{self.key}{other}.json"

    def stored(self, scored_on: str | None = None) -> dict | None:
        """Return its record, None where it was never run; see `read` for errors."""
        file = self.file(scored_on)
        return read(file) if file.exists() else None


class _MadeFrom(BaseModel):
    model_config = ConfigDict(strict=True)

    params: dict[str, object]
    code: dict[str, str]
    inputs: dict[str, dict[str, str | None]]
    collections: dict[str, str]


class _Stored(BaseModel):
    """What a record holds, for its check; a failed run has no scores."""

    model_config = ConfigDict(strict=True, extra="allow")

    collection: str
    seed: int
    overrides: dict[str, object]
    failed: list[str] | None = None
    scores: dict[str, dict[str, dict[str, float | list[float]]]] | None = None
    per_query: dict[str, dict[str, list[str] | list[float]]] = {}
    scored_on: str | None = None
    device: str = ""
    cpu: str = ""
    seconds: float = 0
    stages_run: list[str] = []
    compute: dict[str, object] = {}
    made_from: _MadeFrom | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "_Stored":
        if "failed" in self.model_fields_set and self.failed is None:
            raise ValueError("failed should be a list of lines")
        if self.failed is None and not (self.scores and self.made_from and self.device):
            raise ValueError("has neither scores with their origin nor a failure")
        for split, systems in (self.scores or {}).items():
            if any("ndcg_at_10" not in systems.get(system, {}) for system in UPSTREAM):
                raise ValueError(f"scores.{split} lacks the nDCG@10 of a system")
        if self.per_query and self.per_query.keys() != (self.scores or {}).keys():
            raise ValueError("per_query has other splits than scores")
        for split, table in self.per_query.items():
            if {len(values) for values in table.values()} != {len(table.get("queries", ()))}:
                raise ValueError(f"per_query.{split} has lists of different lengths")
        return self


def read(file: Path) -> dict:
    """Return a stored record.

    Raises:
        SyntrieverError: it is no record, or of another run than its name says.
    """
    record = read_json(file)
    try:
        found = rows.checked(_Stored, record, str(file))
    except SyntrieverError as error:
        raise SyntrieverError(f"{error}. {_MEND}") from None
    run = Run(found.collection, found.overrides, found.seed)
    if run.file(found.scored_on).name != file.name or file.parent.name != found.collection:
        raise SyntrieverError(f"{file} holds another run than its name says. {_MEND}")
    return record


def store(file: Path, record: dict) -> None:
    """Write a record as JSON that a person can read: a list of values takes one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\n[^\[\]{}]*\]", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text)
    with replacing(file) as temporary:
        temporary.write_text(text + "\n", "utf-8")


def made_from(root: Path, values: dict[str, object], folders: dict[str, Path]) -> dict:
    """Return what decides a run's scores, as it is in `root` now.

    Args:
        root: the repository or a copy of it.
        values: all leaves of its params.
        folders: those of the collections that are here, by name.

    Returns:
        params: leaf -> value. code: stage -> hash of its modules. inputs: stage -> file -> hash of
        prompts and recorded answers. collections: name -> hash.
    """
    definitions = _definitions(root / "dvc.yaml")
    return {
        "params": {
            name: without_folders(value)
            for name, value in sorted(values.items())
            if not UNFIXED.fullmatch(name) and name != "seed"
        },
        "code": {name: _code(root, deps) for name, deps in definitions.items()},
        "inputs": {name: _inputs(root, deps, values) for name, deps in definitions.items()},
        "collections": {name: _collection_hash(folder) for name, folder in folders.items()},
    }


def changes(then: dict, now: dict, system: str, scored_on: str | None) -> tuple[str, bool]:
    """Compare two outcomes of `made_from` for one system's scores.

    A collection or a teacher's file that is not here now can't have its hash compared.

    Returns:
        What makes the scores stale, in words, empty where nothing does; and whether modules differ.
    """
    stages = (*UPSTREAM[system], "transfer" if scored_on else "evaluate")
    read = set().union(*(leaves(params.VIEWS[stage]) for stage in stages))
    stale = [
        f"{name} was {json.dumps(value)}"
        for name, value in then["params"].items()
        if name in read and name in now["params"] and now["params"][name] != value
    ]
    stale += [
        f"{file} has changed"
        for stage in stages
        for file, value in then["inputs"].get(stage, {}).items()
        if value != (now["inputs"].get(stage, {}).get(file) or value)
    ]
    stale += [
        f"the collection {name} has changed"
        for name, value in then["collections"].items()
        if value != now["collections"].get(name, value)
    ]
    known = then["params"].keys() ^ now["params"].keys()
    older = any(then["code"].get(s) != now["code"].get(s) for s in stages) or bool(known & read)
    return "; ".join(dict.fromkeys(stale)), older


class _Stage(BaseModel):
    deps: list[str] = []


class _StageOrLoop(_Stage):
    do: _Stage | None = None


class _Definitions(BaseModel):
    """What of dvc.yaml is read here."""

    stages: dict[str, _StageOrLoop]


def _definitions(file: Path) -> dict[str, list[str]]:
    """Each stage's deps as dvc.yaml has them, params unfilled."""
    try:
        stages = rows.checked(_Definitions, rows.read(file), str(file)).stages
    except SyntrieverError as error:
        raise SyntrieverError(f"{error}. Restore it: `git checkout {file}`.") from None
    return {name: (stage.do or stage).deps for name, stage in stages.items()}


def _code(root: Path, deps: list[str]) -> str:
    code = sorted(dep for dep in deps if dep.endswith(".py") or dep == "requirements.lock")
    lines = [f"{dep} {_hash(root / dep)}\n" for dep in code]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def _inputs(root: Path, deps: list[str], values: dict[str, object]) -> dict[str, str | None]:
    """Hash prompts, recorded answers and whatever file is named by a param of the teacher."""
    chosen = [dep for dep in deps if re.match(r"prompts/|data/teacher/|\$\{teacher\.", dep)]
    filled = [re.sub(r"\$\{([\w.]+)\}", lambda m: str(values.get(m[1])), dep) for dep in chosen]
    return {str(without_folders(dep)): _hash(root / dep) for dep in filled}


@functools.cache
def _hash_of(file: Path, size: int, time: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def _hash(file: Path) -> str | None:
    """Hash a file, each state of it once; None where it does not exist."""
    if not file.is_file():
        return None
    stat = file.stat()
    return _hash_of(file, stat.st_size, stat.st_mtime_ns)


def _collection_hash(folder: Path) -> str:
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", *sorted(folder.glob("qrels/*.tsv"))]
    lines = [f"{file.relative_to(folder)} {_hash(file)}\n" for file in files]
    if not files[0].is_file():
        raise SyntrieverError(f"{files[0]} does not exist: {folder} is no collection.")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
