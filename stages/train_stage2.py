"""Align the encoder with the teacher's preferences (stage 2)."""

import shutil

import stages
from syntriever import params, paths

INPUTS = (
    paths.model("stage1"),
    paths.COMPARISONS,
    paths.VERIFIED,
    paths.WRITTEN,
    paths.CORPUS,
    paths.queries("train"),
    paths.qrels("train"),
)


@stages.command
def train_stage2() -> None:
    """Align the stage-1 encoder with the teacher's preferences (stage 2).

    Reads models/stage1, data/preferences/comparisons.jsonl and the training judgements (to mask
    labelled passages); with train_stage2.replay also what stage 1 trained on. Writes models/stage2
    (a SentenceTransformer folder), metrics/train_stage2.json and the curves in plots/train_stage2.
    Without a pair (mine_pairs.pairs and mine_pairs.written_negatives 0) stage 2 is stage 1. A
    killed run goes on from its last checkpoint.

    Example: python -m stages.train_stage2
    """
    settings = params.load(params.TrainStage2View)
    runtime = params.load_all().runtime

    from syntriever import card, encoder, training
    from syntriever.alignment import Alignment
    from syntriever.files import replacing, write_json

    encoder.autocast(settings.compute)
    objective = Alignment(settings)
    if not objective.rows:
        _stay_at_stage1()
        return
    model = encoder.load(paths.model("stage1"), settings.compute.device)
    before = objective.ordered_share(model, settings.compute)
    log = training.train(
        model,
        objective,
        settings.train_stage2,
        settings.compute,
        settings.seed,
        training.checkpoint_folder("train_stage2", settings, INPUTS),
        runtime,
        paths.PLOTS / "train_stage2",
    )
    metrics = {
        "rows": len(objective.rows),
        "pairs": sum(len(row.pairs) for row in objective.rows),
        "ordered_before": round(before, 6),
        "ordered_after": round(objective.ordered_share(model, settings.compute), 6),
        **training.summary(log),
    }
    with replacing(paths.model("stage2")) as folder:
        encoder.save(model, folder)
        card.write(folder, "stage2", settings, metrics)
    write_json(paths.METRICS / "train_stage2.json", metrics)
    stages.show(metrics)


def _stay_at_stage1() -> None:
    from syntriever.files import replacing, write_json

    with replacing(paths.model("stage2")) as folder:
        shutil.copytree(paths.model("stage1"), folder)
    with replacing(paths.PLOTS / "train_stage2") as curves:
        (curves / "plots/metrics").mkdir(parents=True)
        (curves / "plots/metrics/loss.tsv").write_text("step\tloss\n", "utf-8")
    metrics = {"rows": 0, "pairs": 0, "steps": 0}
    write_json(paths.METRICS / "train_stage2.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    train_stage2()
