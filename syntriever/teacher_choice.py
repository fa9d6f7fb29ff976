"""Which teacher the params choose, and opening it: recorded answers, or a server that is asked.

`syntriever.teacher` knows nothing of params.yaml; here its params become a teacher's settings.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from syntriever import params, prompts
from syntriever.errors import SyntrieverError
from syntriever.teacher import RecordedQueries, RecordedTeacher, open_live
from syntriever.teacher.base import Teacher
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.settings import Limits, LiveSettings, Sampling

KEY = "OPENAI_API_KEY"

# Variables by which other programs choose a teacher, and the param that does so here. DVC sees no
# variable: one that had a say could pass one model's answers off as another's.
NOT_PARAMS = {
    "OPENAI_BASE_URL": "base_url",
    "OPENAI_API_BASE": "base_url",
    "OPENAI_MODEL": "model",
    "OPENAI_MODEL_NAME": "model",
}


def open_teacher(chosen: params.AnyTeacher, runtime: params.RuntimeTeacher) -> Teacher:
    """Return the teacher that the params choose.

    Raises:
        SyntrieverError: recorded answers cannot be read, there is no key, or an environment
            variable contradicts the params.
    """
    if chosen.backend == "recorded":
        writes = isinstance(chosen, params.QueryWritingTeacher)
        return (RecordedQueries if writes else RecordedTeacher)(recorded_file(chosen))
    refuse_variables(chosen, os.environ)
    key = os.environ.get(KEY, "").strip() or None
    return open_live(live_settings(chosen), limits(runtime), runtime.mode, key)


def recorded_file(chosen: params.AnyTeacher) -> Path:
    """Return the file of recorded answers to what a stage asks; of queries, to those that write."""
    if isinstance(chosen, params.QueryWritingTeacher):
        return Path(chosen.recorded_queries)
    return Path(chosen.recorded)


def refuse_variables(chosen: params.AnyTeacher, environment: Mapping[str, str]) -> None:
    """Refuse environment variables that name another teacher than the params do.

    Raises:
        SyntrieverError: there is one.
    """
    for variable, name in NOT_PARAMS.items():
        said, param = environment.get(variable), getattr(chosen, name)
        if said and said != param and not (name == "base_url" and _same_server(said, param)):
            raise SyntrieverError(
                f"the environment variable {variable} names another teacher than params.yaml, "
                f"where teacher.{name} is {'null' if param is None else param}; params alone "
                f"choose it. Unset {variable}, or set teacher.{name} to what you want."
            )


def _same_server(said: str, param: str | None) -> bool:
    try:
        return normalised_url(said) == normalised_url(param)
    except SyntrieverError:
        return False


def live_settings(chosen: params.AnyTeacher) -> LiveSettings:
    """Return what determines a live teacher's answers, of the prompts that a stage asks."""
    return LiveSettings(
        base_url=chosen.base_url,
        model=chosen.model,
        sampling={name: Sampling(one.temperature, one.max_tokens) for name, one in chosen.sampling},
        seed=chosen.seed,
        max_tokens_field=chosen.max_tokens_field,
    )


def limits(runtime: params.RuntimeTeacher) -> Limits:
    """Return what only limits the asking."""
    return Limits(**runtime.model_dump(exclude={"mode"}))


def warnings(chosen: params.AnyTeacher, names: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each of these prompts that is not the one whose answers were recorded."""
    if chosen.backend == "recorded":
        yield from prompts.changed_since_recording(recorded_file(chosen), names)
