"""Answers that a teacher gave earlier, read from a file: no network, no key, no cost.

The format is described in data/teacher/README.md.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from syntriever.errors import SyntrieverError
from syntriever.files import read_numbered
from syntriever.teacher import base
from syntriever.teacher.base import Answer, Request, Usage

# Which field of a record answers which prompt.
TEXT_FIELDS = {"cot": "cot", "positive": "positive", "negative": "hard_negative"}

NOT_RECORDED = Answer(None, base.NOT_RECORDED)
OTHER_QUERY = Answer(None, base.OTHER_QUERY)

CHOICES = {1: "Passage #1", 2: "Passage #2"}


def _each_once(ids: list[str]) -> list[str]:
    doubled = sorted({one for one in ids if ids.count(one) > 1})
    if doubled:
        raise ValueError(f"holds {', '.join(doubled)} more than once")
    return ids


def _each_pair_once(comparisons: list[tuple]) -> list[tuple]:
    _each_once([f"[{one}, {two}]" for one, two, _ in comparisons])
    return comparisons


# Passages in the order shown, and which one was chosen; null: the answer named neither.
Choice = Annotated[int, Field(strict=True, ge=1, le=2)]
Comparison = Annotated[tuple[str, str, Choice | None], Field(strict=False)]


class Record(BaseModel):
    """All answers about one query. What is missing or null was never recorded."""

    model_config = ConfigDict(strict=True, frozen=True)

    query_id: Annotated[str, Field(min_length=1)]
    query: Annotated[str, Field(min_length=1)]
    cot: str | None = None
    positive: str | None = None
    hard_negative: str | None = None
    verdict: Literal["yes", "no"] | None = None
    preference_order: Annotated[list[str], AfterValidator(_each_once)] | None = None
    comparisons: Annotated[list[Comparison], AfterValidator(_each_pair_once)] | None = None

    def answer(self, request: Request) -> Answer:
        """Answer one request about this query."""
        if _squeezed(self.query) != _squeezed(request.query):
            return OTHER_QUERY
        text = None
        if request.prompt in TEXT_FIELDS:
            text = getattr(self, TEXT_FIELDS[request.prompt])
        elif request.prompt == "relabel":
            text = self.verdict and self.verdict.capitalize()
        elif request.prompt == "compare":
            text = self._compare(*request.passage_ids)
        return NOT_RECORDED if text is None else Answer(text)

    def _compare(self, passage_1: str, passage_2: str) -> str | None:
        """As asked, else as asked in the other order, else by the preference order."""
        asked = {(one, two): choice for one, two, choice in self.comparisons or []}
        if (passage_1, passage_2) in asked:
            return CHOICES.get(asked[passage_1, passage_2])
        if (passage_2, passage_1) in asked:
            choice = asked[passage_2, passage_1]
            return choice and CHOICES[3 - choice]
        order = self.preference_order or []
        if passage_1 not in order or passage_2 not in order:
            return None
        return CHOICES[1 if order.index(passage_1) < order.index(passage_2) else 2]


Line = TypeVar("Line", bound=BaseModel)


class RecordFile(Generic[Line]):
    """A JSON Lines file of records, one a key, read whole, and how many answers came from it.

    What teachers of recorded answers have in common: the rest of a `Teacher` but for `answer`.
    """

    def __init__(self, path: Path, kind: type[Line], key: str) -> None:
        """Read the file.

        Args:
            path: JSON Lines.
            kind: what a line holds.
            key: the field by which a record is found, `query_id` or `passage_id`.

        Raises:
            SyntrieverError: the file is missing or empty, a line is malformed, or a key stands
                twice.
        """
        self._path = Path(path)
        self._records = _read_records(self._path, kind, key)
        self._calls = 0

    @property
    def usage(self) -> Usage:
        """How many answers there were; nobody counted their tokens."""
        return Usage(self._calls, None, None)

    def close(self) -> None:
        """Nothing is held open."""

    def _count(self, answer: Answer) -> bool:
        """Count an answer if it has a text; tell whether it has."""
        found = answer.text is not None
        self._calls += found
        return found


def _read_records(path: Path, kind: type[Line], key: str) -> dict[str, Line]:
    """Return the records by their key; see `RecordFile`."""
    records: dict[str, Line] = {}
    line_of: dict[str, int] = {}
    for number, line in read_numbered(path):
        try:
            record = kind.model_validate(line)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            raise SyntrieverError(
                f"{path}, line {number}: {field}: {message}. "
                "The format is described in data/teacher/README.md."
            ) from None
        found = getattr(record, key)
        if found in line_of:
            raise SyntrieverError(
                f"{path}, line {number}: {key} {found!r} stands in line {line_of[found]} already. "
                f"Keep one record a {key.removesuffix('_id')}."
            )
        line_of[found] = number
        records[found] = record
    if not records:
        raise SyntrieverError(
            f"{path} holds no recorded answers. Restore it, or name another file."
        )
    return records


class RecordedTeacher(RecordFile[Record]):
    """Answers requests by their query from a JSON Lines file, one record a query.

    The file holds texts for the training queries only.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; see `RecordFile`."""
        super().__init__(path, Record, "query_id")

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield the recorded answer to each request; see `Teacher.answer`.

        Raises:
            SyntrieverError: the requests are over and none of them was answered.
        """
        answered = False
        asked: dict[str, bool] = {}  # query id -> is it recorded, until the first answer
        for request in requests:
            record = self._records.get(request.query_id)
            answer = NOT_RECORDED if record is None else record.answer(request)
            answered = self._count(answer) or answered
            if not answered:
                asked[request.query_id] = record is not None and answer != OTHER_QUERY
            yield answer
        if asked and not answered:
            known = sum(asked.values())
            but = ", but not what was asked of them (of these passages)" if known else ""
            raise SyntrieverError(
                f"{self._path} answered nothing that was asked: it knows {known} of the "
                f"{len(asked)} queries, by id and text{but}. Set teacher.recorded to answers that "
                "were recorded for this collection (data/teacher/<collection>.jsonl), or ask a "
                "live teacher. To train on the labels alone, without an LLM: docs/your-data.md."
            )


def _squeezed(text: str) -> str:
    """`text` without what white space may have lost on its way through a collection."""
    return " ".join(text.split())
