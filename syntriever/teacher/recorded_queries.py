"""Queries that a teacher wrote for passages earlier, read from a file.

The format is described in data/teacher/README.md.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Answer, Request
from syntriever.teacher.recorded import NOT_RECORDED, RecordFile

# Which field of a record answers which prompt.
QUERY_FIELDS = {"write_situation": "situation", "write_direct": "direct", "write_claim": "claim"}


class Queries(BaseModel):
    """The queries of one passage, one a kind. What is missing or null was never recorded."""

    model_config = ConfigDict(strict=True, frozen=True)

    passage_id: Annotated[str, Field(min_length=1)]
    situation: str | None = None
    direct: str | None = None
    claim: str | None = None


class RecordedQueries(RecordFile[Queries]):
    """Answers requests by their prompt and passage from a JSON Lines file, one record a passage.

    The file holds a few sentences a passage.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; see `RecordFile`."""
        super().__init__(path, Queries, "passage_id")

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield the recorded query for each request; see `Teacher.answer`.

        Raises:
            SyntrieverError: a second query of one kind is asked for a passage; or the requests are
                over and none of them was answered.
        """
        answered = False
        kinds: dict[str, None] = {}  # asked, in order
        passages: set[str] = set()  # asked, until the first answer
        for request in requests:
            if request.sample:
                raise SyntrieverError(
                    f"{self._path} holds one query of a kind for a passage, and no more can be "
                    "asked of it. Set write_queries.per_passage: 1, or ask a live teacher."
                )
            field, (passage_id,) = QUERY_FIELDS[request.prompt], request.passage_ids
            record = self._records.get(passage_id)
            text = None if record is None else getattr(record, field)
            answer = NOT_RECORDED if text is None else Answer(text)
            answered = self._count(answer) or answered
            if not answered:
                kinds[field] = None
                passages.add(passage_id)
            yield answer
        if passages and not answered:
            raise self._nothing(list(kinds), passages)

    def _nothing(self, asked: list[str], passages: set[str]) -> SyntrieverError:
        fields = QUERY_FIELDS.values()
        every = self._records.values()
        known = [kind for kind in fields if any(getattr(one, kind) is not None for one in every)]
        if not set(known) & set(asked):
            return SyntrieverError(
                f"{self._path} holds no query of the kinds asked ({', '.join(asked)}); on record: "
                f"{', '.join(known) or 'none'}. Set write_queries.kinds to kinds on record, or "
                "teacher.recorded_queries to another file."
            )
        return SyntrieverError(
            f"{self._path} answered nothing that was asked: it knows "
            f"{len(passages & self._records.keys())} of the {len(passages)} passages, by id. Set "
            "teacher.recorded_queries to queries that were written for this collection: "
            "data/teacher/<collection>_written_queries.jsonl."
        )
