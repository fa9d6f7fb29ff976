"""How fast a live teacher asks, and whether its memory stays flat: python benchmarks/teacher.py

Starts a server with 200 ms latency as a process of its own, asks it one at a time and 64 at once,
and prints the ratio: below 50 (64 less what client, server and disk take of the CPU) the exit code
is 1. Then asks 1,000 and 100,000 questions of a server without latency, each in a process of its
own, and prints the peak memory of both. `--quick` takes a tenth of everything.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


@contextmanager
def server(latency: float):
    """Yield the base URL of a server in another process."""
    command = [sys.executable, str(ROOT / "tests/openai_server.py"), "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def ask(url: str, count: int, concurrency: int) -> float:
    """Ask so many questions, with a new journal; return the seconds without the start."""
    from live_teacher import ask as question
    from live_teacher import teacher

    with tempfile.TemporaryDirectory() as folder:
        one = teacher(url, Path(folder), concurrency=concurrency, timeout_s=60.0)
        next(iter(one.answer([question("warm up")])))
        start = time.perf_counter()
        for answer in one.answer(question(f"{number} " + "word " * 200) for number in range(count)):
            assert answer.text
        seconds = time.perf_counter() - start
        one.close()
    return seconds


def throughput(scale: float) -> float:
    """Print the requests a second at concurrency 1 and 64; return their ratio."""
    with server(0.2) as url:
        rates = {}
        for concurrency, count in ((1, int(60 * scale)), (64, int(3000 * scale))):
            rates[concurrency] = count / ask(url, count, concurrency)
            print(f"concurrency {concurrency:2}: {rates[concurrency]:.1f} requests a second")
    ratio = rates[64] / rates[1]
    print(f"ratio: {ratio:.1f}")
    return ratio


def memory(scale: float) -> None:
    """Print the peak memory after 1,000 and after 100,000 requests."""
    with server(0.0) as url:
        for count in (1000, int(100_000 * scale)):
            command = [sys.executable, __file__, "--ask", str(count), "--url", url]
            print(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        seconds = ask(options.url, options.ask, 64)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{options.ask} requests: peak memory {peak:.0f} MiB, {seconds:.0f} s", end="")
        return
    scale = 0.1 if options.quick else 1.0
    ratio = throughput(scale)
    memory(scale)
    if ratio < 50:
        sys.exit("64 at once should be at least 50 times as fast as one at a time")


if __name__ == "__main__":
    main()
