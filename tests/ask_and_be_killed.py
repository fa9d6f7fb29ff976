"""Asks so many questions of a server: what a test starts, and kills."""

import sys
from pathlib import Path

from live_teacher import asks, teacher


def main() -> None:
    """Arguments: base URL, folder of the journal, number of questions."""
    url, folder, count = sys.argv[1:]
    one = teacher(url, Path(folder), concurrency=16, timeout_s=2.0, said=_Said(), price_input=1.0)
    texts = [answer.text for answer in one.answer(asks(int(count)))]
    one.close()
    print(f"answered {sum(text is not None for text in texts)}", flush=True)


class _Said(list):
    def append(self, line: str) -> None:
        print(line, flush=True)


if __name__ == "__main__":
    main()
