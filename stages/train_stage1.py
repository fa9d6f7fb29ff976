"""Distil the teacher's texts into the encoder (stage 1)."""

import stages
from syntriever import params, paths

INPUTS = (
    paths.model("untrained"),
    paths.VERIFIED,
    paths.WRITTEN,
    paths.CORPUS,
    paths.queries("train"),
    paths.qrels("train"),
)


@stages.command
def train_stage1() -> None:
    """Distil the teacher's texts into the encoder (stage 1).

    Reads models/untrained, data/synthetic/verified.jsonl, data/written/queries.jsonl and the
    training split of data/prepared.
    Writes models/stage1 (a SentenceTransformer folder), metrics/train_stage1.json and the curves in
    plots/train_stage1. A killed run goes on from its last checkpoint.

    Example: python -m stages.train_stage1
    """
    settings = params.load(params.TrainStage1View)
    runtime = params.load_all().runtime

    from syntriever import card, encoder, training
    from syntriever.distillation import Distillation
    from syntriever.files import replacing, write_json

    encoder.autocast(settings.compute)
    use_labels = settings.collection.use_labels
    objective = Distillation(settings.loss, use_labels, settings.train_stage1.chunk_size)
    model = encoder.load(paths.model("untrained"), settings.compute.device)
    log = training.train(
        model,
        objective,
        settings.train_stage1,
        settings.compute,
        settings.seed,
        training.checkpoint_folder("train_stage1", settings, INPUTS),
        runtime,
        paths.PLOTS / "train_stage1",
    )
    texts = objective.synthetic_texts()
    cut = encoder.share_over_limit(model, paths.model("untrained"), texts) if texts else None
    metrics = {
        "rows": len(objective.rows),
        "synthetic_over_limit": cut,
        **training.summary(log),
    }
    with replacing(paths.model("stage1")) as folder:
        encoder.save(model, folder)
        card.write(folder, "stage1", settings, metrics)
    write_json(paths.METRICS / "train_stage1.json", metrics)
    stages.show(metrics)
    if cut:
        stages.warn(f"synthetic texts longer than encoder.max_length, which get cut: {cut:.1%}")


if __name__ == "__main__":
    train_stage1()
