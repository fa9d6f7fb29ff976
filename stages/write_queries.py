"""Have the teacher write training queries for passages of the corpus."""

from typing import Annotated

import typer

import stages
from syntriever import files, params, paths


@stages.command
def write_queries(
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Print calls, tokens and cost; ask and write nothing."),
    ] = False,
) -> None:
    """Have the teacher write training queries for passages of the corpus.

    Reads data/prepared (corpus.arrow, queries, origin.json), the prompts write_situation.txt,
    write_direct.txt and write_claim.txt, and the teacher's recorded queries
    (teacher.recorded_queries); with teacher.backend openai asks a server. For the checks of what
    was written also models/untrained and data/embeddings/untrained/corpus.npy. Writes
    data/written/queries.jsonl, one query a line, in the order of the corpus, and
    metrics/write_queries.json. With write_queries.per_passage 0 nothing is asked and the file is
    empty. No query is written from the passages that `stages.init` held out for test queries.

    Example: python -m stages.write_queries
    """
    settings = params.load(params.WriteQueriesView)
    runtime = params.load_all().runtime.teacher

    from syntriever import query_writing, teacher_choice
    from syntriever.collection import Corpus, read_origin
    from syntriever.estimate import report

    writing = settings.write_queries
    if estimate:
        corpus = Corpus.open(paths.CORPUS)
        rows = query_writing.choose(corpus, writing, read_origin(paths.ORIGIN).held_out)
        requests = query_writing.requests(corpus, rows, writing)
        stages.tell(report(requests, settings.teacher, runtime))
        return
    for warning in teacher_choice.warnings(settings.teacher, query_writing.prompts_used(writing)):
        stages.warn(warning)
    queries, metrics = query_writing.write(settings, runtime)
    for warning in query_writing.warnings(metrics, writing):
        stages.warn(warning)
    files.write_jsonl(paths.WRITTEN, queries)
    files.write_json(paths.METRICS / "write_queries.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    write_queries()
