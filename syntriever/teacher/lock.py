"""One process asks at a time: a file lock that also tells what a killed run had in flight."""

import fcntl
import json
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from syntriever.errors import SyntrieverError

POLL_S = 0.2
NOTE_BYTES = 128


@dataclass(frozen=True)
class Note:
    """What the asking process keeps in the lock's file.

    Attributes:
        pid: of that process.
        in_flight: requests sent whose answers are not in the journal yet.
        usd: what these cost at most.
    """

    pid: int = 0
    in_flight: int = 0
    usd: float = 0.0


class AskingLock:
    """An exclusive `flock`, which the system releases when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Open the lock's file, making it if need be.

        Raises:
            SyntrieverError: it cannot be opened.
        """
        self._path = Path(path)
        self._file: int | None = None
        self._note: mmap.mmap | None = None

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[Note]:
        """Hold the lock for the block; yield what the last holder left, all zero if it ended well.

        Args:
            say: is told once that another process must be waited for.

        Raises:
            SyntrieverError: the lock's file cannot be opened.
        """
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise SyntrieverError(
                f"{self._path} cannot be opened ({error.strerror}). Mend its permissions, or free "
                "its disk."
            ) from None
        try:
            self._wait(say)
            left = self._read()
            os.ftruncate(self._file, NOTE_BYTES)
            with mmap.mmap(self._file, NOTE_BYTES) as self._note:
                self.note(0, 0.0)
                yield left
                self.note(0, 0.0)
        finally:
            os.close(self._file)
            self._file = self._note = None

    def note(self, in_flight: int, usd: float) -> None:
        """Write down what is in flight. It outlives a kill, though not a power failure.

        Memory mapped and not synced: this happens twice a request, and only a number is at stake.
        """
        if self._note is not None:
            line = json.dumps(asdict(Note(os.getpid(), in_flight, round(usd, 6))))
            self._note[:] = line.ljust(NOTE_BYTES).encode()

    def _wait(self, say: Callable[[str], None]) -> None:
        told = False
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not told:
                    told = True
                    say(
                        f"process {self._read().pid} is asking the teacher; waiting until it is "
                        "done, to use its answers"
                    )
                time.sleep(POLL_S)

    def _read(self) -> Note:
        try:
            return Note(**json.loads(os.pread(self._file, NOTE_BYTES, 0)))
        except (ValueError, TypeError):  # a new file, or one that was torn
            return Note()
