"""Ask the teacher for a chain of thought, a positive and a hard negative for each query."""

from collections import Counter
from pathlib import Path

import stages
from syntriever import files, params, paths


@stages.command
def synthesize() -> None:
    """Ask the teacher for a chain of thought, a positive and a hard negative for each query.

    Reads data/prepared/queries/train.jsonl, prompts/cot.txt, positive.txt and negative.txt, and the
    teacher's recorded answers (teacher.recorded). Writes data/synthetic/synthesized.jsonl, one
    query a line, in the order of the queries, null where there is no text, and
    metrics/synthesize.json.

    Example: python -m stages.synthesize
    """
    settings = params.load(params.SynthesizeView)

    from syntriever import prompts, synthesis
    from syntriever.collection import read_queries
    from syntriever.teacher import open_teacher

    use_cot, use_passages = settings.synthesize.cot, settings.synthesize.passages
    recorded = Path(settings.teacher.recorded)
    names = synthesis.prompts_used(use_cot, use_passages).values()
    for warning in prompts.changed_since_recording(recorded, names):
        stages.warn(warning)
    teacher = open_teacher(settings.teacher.backend, recorded)
    queries = read_queries(paths.queries("train"))
    counts: Counter[str] = Counter()
    records = synthesis.synthesize(queries, teacher, use_cot, use_passages, counts)
    files.write_jsonl(paths.SYNTHESIZED, records)
    files.write_json(paths.METRICS / "synthesize.json", dict(counts))
    stages.show(counts)


if __name__ == "__main__":
    synthesize()
