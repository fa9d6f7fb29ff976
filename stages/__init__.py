"""The pipeline's steps, one Typer script each: `python -m stages.<name> --help`.

Importing this package fixes threads and instruction sets, so it comes before torch, faiss or numpy
in every stage and every test. Nothing else sets them.
"""

import fcntl
import functools
import inspect
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

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


_CHECK_DISK = (
    "Check the path, its permissions and the room on the disk (`df -h .`), then run the same "
    "again: nothing half-written is left."
)

# What makes the trainer another one (several processes) behind the params' back.
_DISTRIBUTED = {"WORLD_SIZE", "RANK", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}


def _fix_arithmetic() -> None:
    instructions, threads = params.read_compute()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in [n for n in os.environ if n.startswith("ACCELERATE_") or n in _DISTRIBUTED]:
        del os.environ[name]
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
        _fail(str(error))
    except OSError as error:  # no right, no room, a folder where a file should be
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}. {_CHECK_DISK}")
    except Exception as error:
        if not _disk_refused(error):
            raise
        _fail(f"a file could not be written: {str(error).splitlines()[0]}. {_CHECK_DISK}")


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    sys.exit(1)


def _disk_refused(error: Exception) -> bool:
    """Tell whether it is safetensors' or torch's way to say that a file could not be written."""
    signs = {"SafetensorError": "I/O error", "RuntimeError": "inline_container"}
    return signs.get(type(error).__name__, "\0") in str(error)


def command(stage: Callable[..., None]) -> Callable[[], None]:
    """Make `stage` the one command of its script; its docstring is the help."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(_alone(stage))
    return functools.wraps(stage)(lambda: run(app))


def _alone(stage: Callable[..., None]) -> Callable[..., None]:
    """Refuse to run a stage twice at once in one checkout: both would write the same files. A stage
    that is stopped by hand says how to go on."""

    @functools.wraps(stage)
    def run_alone(*arguments, **options) -> None:
        with Path(inspect.getfile(stage)).open("rb") as script:
            try:
                fcntl.flock(script, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                name = stage.__name__
                raise SyntrieverError(
                    f"stages.{name} is running here already. Wait for it to end."
                ) from None
            try:
                stage(*arguments, **options)
            except KeyboardInterrupt:
                raise SyntrieverError(
                    "stopped. Run the same again, or `dvc repro`: a training goes on from its last "
                    "checkpoint, and no answer of the teacher is asked for twice. All else, "
                    "`embed` too, starts over."
                ) from None

    return run_alone


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
