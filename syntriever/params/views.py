"""What each stage may see of the params.

A test holds the leaves of these views against the `params` of dvc.yaml, so that no stage can depend
on what DVC does not track.
"""

from pydantic import BaseModel, ConfigDict

from syntriever.params.groups import (
    BM25,
    Collection,
    ComparingTeacher,
    Compute,
    DistillLoss,
    Embed,
    Encoder,
    Loss,
    MinePairs,
    QueryWritingTeacher,
    Scoring,
    Splits,
    SplitScoring,
    Synthesize,
    TopK,
    TrainStage1,
    TrainStage2,
    UseLabels,
    Verify,
    VerifyingTeacher,
    WriteQueries,
    WritingTeacher,
)


class View(BaseModel):
    """What one stage may see of the params; its leaves are the stage's `params` in dvc.yaml."""

    model_config = ConfigDict(frozen=True)


class PrepareView(View):
    collection: Collection
    encoder: Encoder
    mine_pairs: TopK
    evaluate: Splits


class EmbedView(View):
    compute: Compute
    embed: Embed


class WriteQueriesView(View):
    compute: Compute
    embed: Embed
    teacher: QueryWritingTeacher
    write_queries: WriteQueries
    evaluate: BM25


class SynthesizeView(View):
    teacher: WritingTeacher
    synthesize: Synthesize


class VerifyView(View):
    teacher: VerifyingTeacher
    verify: Verify


class TrainStage1View(View):
    seed: int
    compute: Compute
    collection: UseLabels
    loss: DistillLoss
    train_stage1: TrainStage1


class MinePairsView(View):
    seed: int
    compute: Compute
    embed: Embed
    collection: UseLabels
    teacher: ComparingTeacher
    mine_pairs: MinePairs


class TrainStage2View(View):
    seed: int
    compute: Compute
    collection: UseLabels
    loss: Loss
    train_stage2: TrainStage2


class EvaluateView(View):
    compute: Compute
    evaluate: SplitScoring


class TransferView(View):
    compute: Compute
    embed: Embed
    evaluate: Scoring


class ReportView(View):
    """Nothing: the report is made of the other stages' outputs alone."""


VIEWS: dict[str, type[View]] = {
    "prepare": PrepareView,
    "embed": EmbedView,
    "write_queries": WriteQueriesView,
    "synthesize": SynthesizeView,
    "verify": VerifyView,
    "train_stage1": TrainStage1View,
    "mine_pairs": MinePairsView,
    "train_stage2": TrainStage2View,
    "evaluate": EvaluateView,
    "transfer": TransferView,
    "report": ReportView,
}
