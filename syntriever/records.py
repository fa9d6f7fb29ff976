"""What stages hand each other, one JSON object a line, checked where it is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from syntriever.errors import SyntrieverError
from syntriever.files import read_numbered

Text = Annotated[str, Field(min_length=1)]


class Query(BaseModel):
    """A line of data/prepared/queries; every other record begins with the same."""

    model_config = ConfigDict(strict=True)
    one_a_query: ClassVar[bool] = True

    query_id: Text
    query: Text


class WrittenQuery(Query):
    """A query that the teacher wrote for a passage, and passages that are hard to tell from it."""

    passage_id: Text
    kind: Text
    hard_negatives: list[Text]


class Synthesized(Query):
    """What the teacher wrote for a query; null where it wrote nothing."""

    cot: Text | None
    positive: Text | None
    hard_negative: Text | None


class Verified(Query):
    """The same after self-verification."""

    cot: Text | None
    positive: Text | None
    hard_negatives: list[Text]
    verdict: Literal["yes", "no"] | None
    relabelled: bool


class Comparison(Query):
    """One pair of passages and which of them the teacher preferred, if it said so."""

    one_a_query: ClassVar[bool] = False

    passage_1: Text
    passage_2: Text
    answer: Literal[1, 2] | None
    preferred: Text | None
    rejected: Text | None


def read(path: Path, kind: type[Query]) -> Iterator[dict]:
    """Yield the records of a file.

    Raises:
        SyntrieverError: a line is not JSON, lacks what a record of this kind holds, or is a second
            record of a query that may have one only.
    """
    line_of: dict[str, int] = {}
    for number, record in read_numbered(path):
        try:
            kind.model_validate(record)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(str(part) for part in fault["loc"])
            raise SyntrieverError(
                f"{path}, line {number}: {field}: {fault['msg']}. Run the stage that makes the "
                "file again: `dvc repro`."
            ) from None
        if kind.one_a_query:
            first = line_of.setdefault(record["query_id"], number)
            if first != number:
                raise SyntrieverError(
                    f"{path}, line {number}: query_id {record['query_id']!r} stands in line "
                    f"{first} already. Run the stage that makes the file again: `dvc repro`."
                )
        yield record
