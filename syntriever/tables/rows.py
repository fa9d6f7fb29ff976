"""The files in tables/: what a row is, what a table is, and what is wrong with one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from syntriever.errors import SyntrieverError
from syntriever.tables.overrides import check_names

FOLDER = Path("tables")

MEASURES = (
    *(f"ndcg_at_{cut}" for cut in (1, 3, 5, 10, 100)),
    *("map_at_100", "recall_at_10", "recall_at_100", "mrr_at_10", "ndcg_at_10_unseen"),
)
"""What is measured of a system in percent: the `metrics` that a table can show."""


def _each_once(values: list) -> list:
    doubled = next((value for value in values if values.count(value) > 1), None)
    if doubled is not None:
        raise ValueError(f"{doubled} stands there twice")
    return values


def _param(value: object) -> object:
    texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if not (value is None or texts or isinstance(value, bool | int | float | str)):
        raise ValueError("should be a number, a text, a list of texts, true, false or null")
    return value


def _one_line(text: str) -> str:
    if "\n" in text.strip():
        raise ValueError("should be one line")
    return text


Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_each_once)]
Percent = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Overrides = dict[str, Annotated[object, BeforeValidator(_param)]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Tolerance(_Strict):
    """How far from the published value, in points, still agrees with it, and why."""

    by: Annotated[float, Field(gt=0)]
    why: str


class Row(_Strict):
    """One row of a table: the params that make it and the system of that run that it shows."""

    name: Name
    label: Annotated[str, AfterValidator(_one_line)]
    system: Literal["bm25", "untrained", "stage1", "stage2"] | None = None
    """None: the row has published values only."""
    uses: list[str] = []
    """Names of presets, whose overrides come first."""
    set: Overrides = {}
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_each_once)] = [0]
    columns: Names | None = None
    """Of the table's columns those that it is about; None: all."""
    trained_on: str | None = None
    """The columns are other collections, which the encoder trained on this one is scored on."""
    published: dict[str, Percent | list[Percent | None] | None] = {}
    """By column, in percent; a list has one value a metric of the table."""
    tolerance: Tolerance | None = None
    needs: str | None = None
    """What keeps it from being run where the repository is at home."""
    against: str | None = None
    """The row that its gain is measured over."""


class Table(_Strict):
    """One table."""

    name: str
    title: str
    about: str
    source: str = ""
    """Of the published values; empty for a table of our own."""
    columns: Names
    metrics: Names = ["ndcg_at_10"]
    split: Literal["dev", "test"] = "test"
    uses: list[str] = []
    """Names of presets for every row, after its own and before its `set`."""
    extras: dict[str, str] = {}
    """More to show of each run: heading -> a metric of metrics/, such as verify.refused."""
    rows: Annotated[list[Row], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Table":
        names = [row.name for row in self.rows]
        unknown = [metric for metric in self.metrics if metric not in MEASURES]
        if unknown and any(row.system for row in self.rows):
            raise ValueError(f"metrics: {unknown[0]} is not measured; {', '.join(MEASURES)} are")
        for row in self.rows:
            if names.count(row.name) > 1:
                raise ValueError(f"two rows are called {row.name}")
            if row.trained_on and self.split != "test":
                raise ValueError(f"row {row.name}: trained_on: other collections have test alone")
            others = {other.name for other in self.rows if other.system and other is not row}
            if row.against is not None and row.against not in others:
                raise ValueError(
                    f"row {row.name}: against: {row.against} is no other row with a system"
                )
            made = row.set or row.uses or row.trained_on or row.columns
            if row.system is None and (made or not row.published):
                raise ValueError(
                    f"row {row.name}: without a system it can have published values only"
                )
            for column in row.columns or []:
                if column not in self.columns:
                    raise ValueError(f"row {row.name}: columns: {column} is no column")
            for column, value in row.published.items():
                if column not in self.columns:
                    raise ValueError(f"row {row.name}: published: {column} is no column")
                count = len(value) if isinstance(value, list) else 1
                if value is not None and count != len(self.metrics):
                    raise ValueError(
                        f"row {row.name}: published: {column} has {count} values for "
                        f"{len(self.metrics)} metrics"
                    )
        return self

    def row(self, name: str) -> Row:
        """Return the row of this name.

        Raises:
            SyntrieverError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise SyntrieverError(f"{self.name} has no row {name!r}. It has {known}.")

    def columns_of(self, row: Row) -> list[str]:
        """Return the columns that a row has a cell in."""
        return [c for c in self.columns if row.columns is None or c in row.columns]

    def with_presets(self, names: list[str]) -> "Table":
        """Return the table with more presets for every row."""
        more = f"{self.title}, with {' and '.join(names)}"
        update = {"uses": self.uses + names, "title": more}
        return self.model_copy(update=update) if names else self

    def published(self, row: Row, column: str, metric: str) -> float | None:
        """Return a published value in percent, None where there is none."""
        value = row.published.get(column)
        return value[self.metrics.index(metric)] if isinstance(value, list) else value


class Collection(_Strict):
    """A collection as tables/collections.yaml knows it."""

    path: str | None = None
    """Its folder where it is committed; else it is looked for by name."""
    set: Overrides = {}
    presets: dict[str, Overrides] = {}
    """What a preset sets otherwise on this collection, by the preset's name."""
    needs: str | None = None
    """What training on it takes that most machines lack."""
    scoring_needs: str | None = None
    """What scoring on it takes; None: the same."""
    made_by: str | None = None
    """How its folder gets here, in a sentence, where `stages.collection get` can't bring it."""


class Presets(RootModel[dict[Name, Overrides]]):
    """What tables/presets.yaml holds."""

    model_config = ConfigDict(strict=True, frozen=True)


@dataclass(frozen=True)
class Book:
    """All of tables/."""

    tables: dict[str, Table]
    collections: dict[str, Collection]
    presets: dict[str, Overrides]

    def table(self, name: str) -> Table:
        """Return the table of this name.

        Raises:
            SyntrieverError: there is none.
        """
        if name not in self.tables:
            raise SyntrieverError(
                f"there is no table {name!r}. There are {', '.join(self.tables)}."
            )
        return self.tables[name]

    def overrides(self, table: Table, row: Row, collection: str) -> Overrides:
        """Return what a row changes on a collection: the collection's, its presets', its own."""
        chosen = dict(self.collections[collection].set)
        for preset in row.uses + table.uses:
            chosen |= self.presets[preset]
            chosen |= self.collections[collection].presets.get(preset, {})
        chosen |= row.set
        return chosen | ({"evaluate.splits": ["dev"]} if table.split == "dev" else {})


def load(folder: Path = FOLDER) -> Book:
    """Read and check tables/.

    Raises:
        SyntrieverError: a file is missing or malformed; it says which, which line and which row.
    """
    with lines_named():
        return _load(folder)


@contextmanager
def lines_named() -> Iterator[None]:
    """Add the line to errors that name a file of tables/ and, first of all, a row or key of it."""
    try:
        yield
    except SyntrieverError as error:
        found = re.fullmatch(r"(.*?\.yaml)([,:] (?:row )?([\w.-]+).*)", str(error), re.DOTALL)
        lines, name = (_lines(Path(found[1])), found[3]) if found else ({}, "")
        line = lines.get(name) or lines.get(name.split(".")[0])  # loss.tau of a preset: the preset
        if line is None:
            raise
        raise SyntrieverError(f"{found[1]}, line {line}{found[2]}") from None


def _lines(file: Path) -> dict[str, int]:
    """Return where each row and each key of the file stands; nothing where it can't be parsed."""
    try:
        document = YAML().load(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, YAMLError):
        return {}
    if not isinstance(document, CommentedMap):
        return {}
    lines = {str(key): place[0] + 1 for key, place in (document.lc.data or {}).items()}
    rows = document.get("rows")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, CommentedMap):
            lines[str(row.get("name"))] = row.lc.line + 1
    return lines


def _load(folder: Path) -> Book:
    collections = {
        str(name): checked(Collection, entry, f"{folder}/collections.yaml, {name}")
        for name, entry in read(folder / "collections.yaml").items()
    }
    presets = checked(Presets, read(folder / "presets.yaml"), f"{folder}/presets.yaml").root
    for name, preset in presets.items():
        check_names(preset, f"{folder}/presets.yaml, {name}")
    for name, collection in collections.items():
        where = f"{folder}/collections.yaml, {name}"
        check_names(collection.set, where)
        for preset, values in collection.presets.items():
            refuse_unknown(preset, presets, f"{where}: presets", "presets.yaml")
            check_names(values, f"{where}: presets, {preset}")
    tables = {}
    for file in sorted(folder.glob("*.yaml"), key=_reading_order):
        if file.name not in ("collections.yaml", "presets.yaml"):
            tables[file.stem] = _table(file, collections, presets)
    return Book(tables, collections, presets)


def _table(file: Path, collections: dict[str, Collection], presets: dict[str, Overrides]) -> Table:
    table = checked(Table, read(file) | {"name": file.stem}, str(file))
    for preset in table.uses:
        refuse_unknown(preset, presets, f"{file}: uses", "presets.yaml")
    for column in table.columns:
        refuse_unknown(column, collections, f"{file}: columns", f"{FOLDER}/collections.yaml")
    for row in table.rows:
        where = f"{file}, row {row.name}"
        check_names(row.set, where)
        if row.trained_on is not None:
            refuse_unknown(row.trained_on, collections, f"{where}: trained_on", "collections.yaml")
        for preset in row.uses:
            refuse_unknown(preset, presets, f"{where}: uses", "presets.yaml")
    return table


def refuse_unknown(name: str, known: dict, where: str, file: str) -> None:
    """Raise SyntrieverError where a name is not among those known, and say which are."""
    if name not in known:
        raise SyntrieverError(f"{where}: {name} is not in {file}, which has {', '.join(known)}.")


def checked(model: type[BaseModel], values: object, where: str) -> BaseModel:
    """Return the values as a model; raise SyntrieverError with the place of the first fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = list(fault["loc"])
        if place[:1] == ["rows"] and len(place) > 1:
            row = values["rows"][place[1]]
            name = row.get("name") if isinstance(row, dict) else None
            where += f", row {name or place[1] + 1}"
            place = place[2:]
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if fault["type"] == "extra_forbidden":
            message = f"is not known; known are {', '.join(_fields(model, fault['loc']))}"
        spot = ".".join(str(part) for part in place)
        raise SyntrieverError(f"{where}: {spot} {message}".replace(":  ", ": ")) from None


def _fields(model: type[BaseModel], place: tuple) -> list[str]:
    if model is Table and place[0] == "rows":
        model = Row if len(place) == 3 else Tolerance  # a row's only field that is a model
    return list(model.model_fields)


def read(file: Path) -> dict:
    """Parse by YAML 1.2 rules, as params.yaml is (1.1 would read 2e-5 as text).

    Raises:
        SyntrieverError: the file is missing or is no YAML of names and values.
    """
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise SyntrieverError(
            f"{file} does not exist here. Run this from the repository's root."
        ) from None
    except UnicodeDecodeError as error:
        raise SyntrieverError(f"{file}: not UTF-8 (at byte {error.start}). Convert it.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else "?"
        problem = str(getattr(error, "problem", error)).strip().splitlines()[0]
        raise SyntrieverError(f"{file}, line {line}: not YAML ({problem}).") from None
    except (ValueError, RecursionError) as error:  # the 31st of February, a thousand brackets
        raise SyntrieverError(f"{file}: a value can't be read ({error}). Remove it.") from None
    if not isinstance(values, dict):
        raise SyntrieverError(f"{file}: names and values are expected, such as `title: …`.")
    return values


def _reading_order(file: Path) -> tuple:
    number = re.fullmatch(r"table(\d+)", file.stem)
    return (0, int(number[1]), "") if number else (1, 0, file.stem)
