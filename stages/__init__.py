"""The pipeline's steps, one Typer script each: `python -m stages.<name> --help`.

Importing this package fixes threads and instruction sets, so it comes before torch, faiss or numpy
in every stage and every test. Nothing else sets them.
"""

import functools
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec

_lacking = [name for name in ("typer", "pydantic", "ruamel", "torch") if find_spec(name) is None]
if _lacking:
    sys.exit(
        f"error: this python ({sys.executable}) lacks {', '.join(_lacking)}. Stages need the "
        "environment's python: `make reproduce` makes it, `. .venv/bin/activate` turns it on."
    )

import typer  # noqa: E402 - only after the check above

from syntriever import params  # noqa: E402
from syntriever.errors import SyntrieverError  # noqa: E402

# What keeps each library to AVX2, so that CPUs with and without AVX-512 or AMX take one code path.
_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FAISS_SIMD_LEVEL": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}


def _fix_arithmetic() -> None:
    instructions, threads = params.read_compute()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in _AVX2:
        os.environ.pop(name, None)
    if instructions == "avx2" and platform.machine() in ("x86_64", "AMD64"):
        os.environ.update(_AVX2)


_fix_arithmetic()


def run(app: Callable[[], None]) -> None:
    """Run a Typer app; an error for people is one message and exit code 1."""
    try:
        app()
    except SyntrieverError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)


def command(stage: Callable[..., None]) -> Callable[[], None]:
    """Make `stage` the one command of its script; its docstring is the help."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(stage)
    return functools.wraps(stage)(lambda: run(app))


def show(metrics: dict) -> None:
    """Print a stage's metrics, one a line."""
    for name, value in metrics.items():
        typer.echo(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")


def tell(lines: Iterable[str]) -> None:
    """Print a report."""
    for line in lines:
        typer.echo(line)


def warn(message: str) -> None:
    """Print what deserves a look but stops nothing."""
    typer.secho(f"warning: {message}", fg="yellow", err=True)
