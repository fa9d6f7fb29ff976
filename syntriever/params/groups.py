"""The groups of params.yaml as typed, validated models.

Where a stage may see only part of a group, that part is a model of its own, which the group
extends.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Group(BaseModel):
    """A group of params: no unknown names, no coerced types, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Compute(Group):
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bf16"]
    instructions: Literal["avx2", "native"]
    threads: Annotated[int, Field(ge=1, le=1024)]

    @model_validator(mode="after")
    def _bf16_needs_native(self) -> "Compute":
        if self.precision == "bf16" and self.device == "cpu" and self.instructions != "native":
            raise ValueError("precision: bf16 on a CPU needs instructions: native")
        return self


class UseLabels(Group):
    use_labels: bool


class Collection(UseLabels):
    path: Name
    dev_share: Share


class Encoder(Group):
    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    pooling: Literal["mean", "cls", "max"] | None
    query_prefix: str
    passage_prefix: str
    max_length: Annotated[int, Field(ge=8)]


class Embed(Group):
    batch_size: Count


class Sampling(Group):
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    max_tokens: Count | None


class WritingSampling(Group):
    cot: Sampling
    positive: Sampling
    negative: Sampling


class QuerySampling(Group):
    write_situation: Sampling
    write_direct: Sampling
    write_claim: Sampling


class VerdictSampling(Group):
    relabel: Sampling


class ComparisonSampling(Group):
    compare: Sampling


class PromptSampling(QuerySampling, WritingSampling, VerdictSampling, ComparisonSampling):
    pass


class AnyTeacher(Group):
    backend: Literal["recorded", "openai"]
    model: Name
    base_url: Annotated[str, Field(pattern="^https?://[^/]")] | None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"]
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class QueryWritingTeacher(AnyTeacher):
    recorded_queries: Name
    sampling: QuerySampling


class RecordedTeacher(AnyTeacher):
    recorded: Name


class WritingTeacher(RecordedTeacher):
    sampling: WritingSampling


class JudgingTeacher(RecordedTeacher):
    reasks: Annotated[int, Field(ge=0)]


class VerifyingTeacher(JudgingTeacher):
    sampling: VerdictSampling


class ComparingTeacher(JudgingTeacher):
    sampling: ComparisonSampling


class Teacher(JudgingTeacher):
    recorded_queries: Name
    sampling: PromptSampling


class WriteQueries(Group):
    per_passage: Annotated[int, Field(ge=0)]
    kinds: Annotated[list[Literal["situation", "direct", "claim"]], Field(min_length=1)]
    passages: Count | None
    keep_top: Count | None
    hard_negatives: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _each_once(self) -> "WriteQueries":
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: each kind at most once")
        return self


class Synthesize(Group):
    cot: bool
    passages: bool


class Verify(Group):
    mode: Literal["relabel", "discard", "skip"]


class Weights(Group):
    labelled: NotNegative
    positive: NotNegative
    cot: NotNegative

    @model_validator(mode="after")
    def _one_is_positive(self) -> "Weights":
        if not self.labelled + self.positive + self.cot > 0:
            raise ValueError("at least one weight must be above 0")
        return self


class DistillLoss(Group):
    tau: Annotated[float, Field(gt=0, le=10)]
    distill: Literal[
        "soft_nearest_neighbor",
        "info_nce",
        "multiple_negatives_ranking",
        "multi_positive_info_nce",
    ]
    weights: Weights


class AlignLoss(Group):
    tau: Annotated[float, Field(gt=0, le=10)]
    align: Literal["partial_plackett_luce", "bradley_terry", "plackett_luce"]


class Loss(DistillLoss, AlignLoss):
    pass


class Training(Group):
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    warmup: NotNegative
    weight_decay: NotNegative
    max_grad_norm: Positive
    dropout: Share
    chunk_size: Count


class TrainStage1(Training):
    interpolate: Share


class TrainStage2(TrainStage1):
    replay: NotNegative


class TopK(Group):
    top_k: Annotated[int, Field(ge=2)]


class MinePairs(TopK):
    pairs: Annotated[int, Field(ge=0)] | None
    both_orders: bool
    model: Name | None
    written_negatives: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _pairs_exist(self) -> "MinePairs":
        most = self.top_k * (self.top_k - 1) // 2
        if self.pairs is not None and self.pairs > most:
            raise ValueError(
                f"pairs: {self.pairs} is more than the {most} pairs of top_k: {self.top_k}; "
                "null takes them all"
            )
        return self


class Splits(Group):
    splits: Annotated[list[Literal["dev", "test"]], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> "Splits":
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: each split at most once")
        return self


class BM25(Group):
    bm25_k1: Annotated[float, Field(ge=0, le=100)]
    bm25_b: Annotated[float, Field(ge=0, le=1)]


class Scoring(BM25):
    ignore_identical_ids: bool
    bootstrap_samples: Count


class SplitScoring(Splits, Scoring):
    pass


class Evaluate(SplitScoring):
    collections: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], Name]


class RuntimeTeacher(Group):
    mode: Literal["live", "batch"]
    concurrency: Count
    requests_per_minute: Count | None
    tokens_per_minute: Count | None
    timeout_s: Positive
    max_attempts: Count
    price_input: NotNegative | None
    price_output: NotNegative | None
    budget_usd: Positive | None
    allow_unpriced: bool


class Runtime(Group):
    checkpoint_every_steps: Count
    activation_checkpointing: bool
    teacher: RuntimeTeacher


class Params(Group):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    compute: Compute
    collection: Collection
    encoder: Encoder
    embed: Embed
    teacher: Teacher
    write_queries: WriteQueries
    synthesize: Synthesize
    verify: Verify
    loss: Loss
    train_stage1: TrainStage1
    mine_pairs: MinePairs
    train_stage2: TrainStage2
    evaluate: Evaluate
    runtime: Runtime
