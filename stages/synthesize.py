"""Ask the teacher for a chain of thought, a positive and a hard negative for each query."""

from collections import Counter
from typing import Annotated

import typer

import stages
from syntriever import files, params, paths


@stages.command
def synthesize(
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Print calls, tokens and cost; ask and write nothing."),
    ] = False,
) -> None:
    """Ask the teacher for a chain of thought, a positive and a hard negative for each query.

    Reads data/prepared/queries/train.jsonl, prompts/cot.txt, positive.txt and negative.txt, and the
    teacher's recorded answers (teacher.recorded); with teacher.backend openai asks a server. Writes
    data/synthetic/synthesized.jsonl, one query a line, in the order of the queries, null where
    there is no text, and metrics/synthesize.json.

    Example: python -m stages.synthesize
    """
    settings = params.load(params.SynthesizeView)
    runtime = params.load_all().runtime.teacher

    from syntriever import conversation, synthesis, teacher_choice
    from syntriever.collection import read_queries
    from syntriever.estimate import report

    use_cot, use_passages = settings.synthesize.cot, settings.synthesize.passages
    queries = read_queries(paths.queries("train"))
    if estimate:
        requests = synthesis.requests(queries, use_cot, use_passages)
        stages.tell(report(requests, settings.teacher, runtime))
        return
    names = synthesis.prompts_used(use_cot, use_passages).values()
    for warning in teacher_choice.warnings(settings.teacher, names):
        stages.warn(warning)
    counts: Counter[str] = Counter()
    with conversation.opened(settings.teacher, runtime) as talk:
        records = synthesis.synthesize(queries, talk, use_cot, use_passages, counts)
        files.write_jsonl(paths.SYNTHESIZED, records)
    metrics = dict(counts) | talk.metrics()
    files.write_json(paths.METRICS / "synthesize.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    synthesize()
