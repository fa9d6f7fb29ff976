"""A journal's place and a server for tests of the batch teacher."""

from collections.abc import Callable, Iterator
from pathlib import Path

from batch_server import KEY, BatchServer

from syntriever.teacher.base import Request
from syntriever.teacher.batch import BatchTeacher
from syntriever.teacher.batch_run import BatchLimits
from syntriever.teacher.settings import Limits, LiveSettings, Sampling

FREE = Limits(price_input=0.0, price_output=0.0, max_attempts=4)


class Project:
    """A journal's place, a server, and what was said."""

    def __init__(self, server: BatchServer, path: Path) -> None:
        self.server = server
        self.journal_path = path / ".journal" / "teacher.sqlite"
        self.said: list[str] = []
        self.slept: list[float] = []

    def teacher(
        self,
        limits: Limits = FREE,
        batch_limits: BatchLimits | None = None,
        sampling: Sampling = Sampling(0.7, 100),  # noqa: B008
        key: str = KEY,
        sleep: Callable[[float], None] | None = None,
        **settings: object,
    ) -> BatchTeacher:
        known = {"base_url": self.server.url, "model": "gpt-test", "sampling": {"cot": sampling}}
        return BatchTeacher(
            LiveSettings(**(known | settings)),
            limits,
            self.journal_path,
            key,
            batch_limits,
            sleep=sleep or self.slept.append,
            say=self.said.append,
        )

    def ask(self, texts: list[str] | range, **options: object) -> list[str | None]:
        """Ask and return the answers' texts."""
        teacher = self.teacher(**options)
        try:
            return [answer.text for answer in teacher.answer(requests(texts))]
        finally:
            teacher.close()

    @property
    def words(self) -> str:
        return "\n".join(self.said)


def requests(texts: list[str] | range) -> Iterator[Request]:
    for number, text in enumerate(texts):
        messages = ({"role": "system", "content": "s"}, {"role": "user", "content": str(text)})
        yield Request("cot", messages, str(number), str(text))


def replies(texts: list[str] | range) -> list[str]:
    return [f"re: {text}" for text in texts]


def small(count: int) -> BatchLimits:
    return BatchLimits(max_requests=count)


class Stopped(Exception):
    """Stands for a kill."""


def die(seconds: float) -> None:
    """Sleep no more: the batches are submitted, and the process is gone."""
    raise Stopped
