"""The teacher: a black-box LLM, known by its text answers alone. Knows nothing of retrieval."""

from typing import Literal

from syntriever.teacher.base import Answer, Request, Teacher, Usage
from syntriever.teacher.recorded import RecordedTeacher
from syntriever.teacher.recorded_queries import RecordedQueries
from syntriever.teacher.settings import Limits, LiveSettings

__all__ = [
    "Answer",
    "RecordedQueries",
    "RecordedTeacher",
    "Request",
    "Teacher",
    "Usage",
    "open_live",
]


def open_live(
    settings: LiveSettings, limits: Limits, mode: Literal["live", "batch"], api_key: str | None
) -> Teacher:
    """Return a teacher that asks a server and keeps every answer in the journal.

    Args:
        settings: what determines its answers.
        limits: pace, patience and money.
        mode: `live` asks at once, `batch` through the Batch API.
        api_key: None where there is none; needed once something is asked that OpenAI must answer.

    Raises:
        SyntrieverError: the journal cannot be opened, or `settings` name no server.
    """
    # Late: the client takes a second to import, and recorded answers need none of it.
    from syntriever.teacher import journal

    path = journal.default_path()
    if mode == "batch":
        from syntriever.teacher.batch import BatchTeacher

        return BatchTeacher(settings, limits, path, api_key)
    from syntriever.teacher.live import LiveTeacher

    return LiveTeacher(settings, limits, path, api_key)
