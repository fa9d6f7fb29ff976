"""Ask the teacher whether its own positives are accurate and relevant."""

from collections import Counter
from pathlib import Path

import stages
from syntriever import files, params, paths


@stages.command
def verify() -> None:
    """Ask the teacher whether its own positives are accurate and relevant.

    Reads data/synthetic/synthesized.jsonl, prompts/relabel.txt and the teacher's recorded answers
    (teacher.recorded). Writes data/synthetic/verified.jsonl, one query a line, with what
    verify.mode makes of refused positives (relabel: hard negatives), and metrics/verify.json. A
    positive without a clear verdict is left out.

    Example: python -m stages.verify
    """
    settings = params.load(params.VerifyView)

    from syntriever import prompts, verification
    from syntriever.teacher import open_teacher

    recorded = Path(settings.teacher.recorded)
    names = verification.prompts_used(settings.verify.mode)
    for warning in prompts.changed_since_recording(recorded, names):
        stages.warn(warning)
    teacher = open_teacher(settings.teacher.backend, recorded)
    counts: Counter[str] = Counter()
    records = verification.verify(
        files.read_jsonl(paths.SYNTHESIZED), teacher, settings.verify.mode, counts
    )
    files.write_jsonl(paths.VERIFIED, records)
    files.write_json(paths.METRICS / "verify.json", dict(counts))
    stages.show(counts)


if __name__ == "__main__":
    verify()
