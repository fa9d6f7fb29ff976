"""Ask the teacher whether its own positives are accurate and relevant."""

from collections import Counter
from typing import Annotated

import typer

import stages
from syntriever import files, params, paths


@stages.command
def verify(
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Print calls, tokens and cost; ask and write nothing."),
    ] = False,
) -> None:
    """Ask the teacher whether its own positives are accurate and relevant.

    Reads data/synthetic/synthesized.jsonl, prompts/relabel.txt and the teacher's recorded answers
    (teacher.recorded); with teacher.backend openai asks a server. Writes
    data/synthetic/verified.jsonl, one query a line, with what verify.mode makes of refused
    positives (relabel: hard negatives), and metrics/verify.json. A positive without a clear verdict
    is left out.

    Example: python -m stages.verify
    """
    settings = params.load(params.VerifyView)
    runtime = params.load_all().runtime.teacher

    from syntriever import conversation, records, teacher_choice, verification
    from syntriever.estimate import report

    mode, reasks = settings.verify.mode, settings.teacher.reasks
    synthesized = list(records.read(paths.SYNTHESIZED, records.Synthesized))
    if estimate:
        requests = verification.requests(synthesized, mode)
        stages.tell(report(requests, settings.teacher, runtime, reasks))
        return
    for warning in teacher_choice.warnings(settings.teacher, verification.prompts_used(mode)):
        stages.warn(warning)
    counts: Counter[str] = Counter()
    with conversation.opened(settings.teacher, runtime, reasks) as talk:
        verified = verification.verify(synthesized, talk, mode, counts)
        files.write_jsonl(paths.VERIFIED, verified)
    metrics = dict(counts) | talk.metrics()
    files.write_json(paths.METRICS / "verify.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    verify()
