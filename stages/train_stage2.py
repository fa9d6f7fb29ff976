"""Align the encoder with the teacher's preferences (stage 2)."""

import stages
from syntriever import params, paths

INPUTS = (
    paths.model("stage1"),
    paths.COMPARISONS,
    paths.CORPUS,
    paths.qrels("train"),
)


@stages.command
def train_stage2() -> None:
    """Align the stage-1 encoder with the teacher's preferences (stage 2).

    Reads models/stage1, data/preferences/comparisons.jsonl and the training judgements (to mask
    labelled passages). Writes models/stage2 (a SentenceTransformer folder),
    metrics/train_stage2.json and the curves in plots/train_stage2. A killed run goes on from its
    last checkpoint.

    Example: python -m stages.train_stage2
    """
    settings = params.load(params.TrainStage2View)
    runtime = params.load_all().runtime

    from syntriever import card, encoder, training
    from syntriever.alignment import Alignment
    from syntriever.files import replacing, write_json

    encoder.autocast(settings.compute)
    objective = Alignment(settings)
    model = encoder.load(paths.model("stage1"), settings.compute.device)
    before = objective.ordered_share(model, settings.compute)
    log = training.train(
        model,
        objective,
        settings.train_stage2,
        settings.compute,
        settings.seed,
        training.checkpoint_folder("train_stage2", settings, INPUTS),
        runtime.checkpoint_every_steps,
        paths.PLOTS / "train_stage2",
    )
    metrics = {
        "rows": len(objective.rows),
        "pairs": sum(len(row.pairs) for row in objective.rows),
        "ordered_before": round(before, 6),
        "ordered_after": round(objective.ordered_share(model, settings.compute), 6),
        **training.summary(log, settings.train_stage2.epochs),
    }
    with replacing(paths.model("stage2")) as folder:
        encoder.save(model, folder)
        card.write(folder, "stage2", settings, metrics)
    write_json(paths.METRICS / "train_stage2.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    train_stage2()
