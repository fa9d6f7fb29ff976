"""The teacher: a black-box LLM, known by its text answers alone. Knows nothing of retrieval."""

from pathlib import Path

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Answer, Request, Teacher
from syntriever.teacher.recorded import RecordedTeacher

__all__ = ["Answer", "RecordedTeacher", "Request", "Teacher", "open_teacher"]


def open_teacher(backend: str, recorded: Path) -> Teacher:
    """Return the teacher that `teacher.backend` names.

    Args:
        backend: `recorded`.
        recorded: the file of recorded answers.

    Raises:
        SyntrieverError: there is no such backend, or its file cannot be read.
    """
    if backend == "recorded":
        return RecordedTeacher(Path(recorded))
    raise SyntrieverError(f"teacher.backend: {backend!r} is none. There is: recorded.")
