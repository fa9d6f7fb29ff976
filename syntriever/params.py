"""params.yaml as typed, validated models, one view a stage. Nothing else reads the file.

Every stage checks the whole file, then sees only the groups that its view declares; a test holds
the views against the `params` of dvc.yaml, so that no stage can depend on what DVC does not track.
"""

import difflib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from syntriever.errors import SyntrieverError

PARAMS_FILE = Path("params.yaml")

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


class VerdictSampling(Group):
    relabel: Sampling


class ComparisonSampling(Group):
    compare: Sampling


class PromptSampling(WritingSampling, VerdictSampling, ComparisonSampling):
    pass


class AnyTeacher(Group):
    backend: Literal["recorded", "openai"]
    recorded: Name
    model: Name
    base_url: Annotated[str, Field(pattern="^https?://[^/]")] | None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"]
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class WritingTeacher(AnyTeacher):
    sampling: WritingSampling


class JudgingTeacher(AnyTeacher):
    reasks: Annotated[int, Field(ge=0)]


class VerifyingTeacher(JudgingTeacher):
    sampling: VerdictSampling


class ComparingTeacher(JudgingTeacher):
    sampling: ComparisonSampling


class Teacher(JudgingTeacher):
    sampling: PromptSampling


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
    align: Literal["partial_plackett_luce", "bradley_terry"]


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


class TopK(Group):
    top_k: Annotated[int, Field(ge=2)]


class MinePairs(TopK):
    pairs: Count | None
    both_orders: bool

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


class Evaluate(Splits):
    ignore_identical_ids: bool
    bm25_k1: Annotated[float, Field(ge=0, le=100)]
    bm25_b: Annotated[float, Field(ge=0, le=1)]
    bootstrap_samples: Count


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
    teacher: RuntimeTeacher


class Params(Group):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    compute: Compute
    collection: Collection
    encoder: Encoder
    embed: Embed
    teacher: Teacher
    synthesize: Synthesize
    verify: Verify
    loss: Loss
    train_stage1: Training
    mine_pairs: MinePairs
    train_stage2: Training
    evaluate: Evaluate
    runtime: Runtime


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
    train_stage1: Training


class MinePairsView(View):
    seed: int
    compute: Compute
    collection: UseLabels
    teacher: ComparingTeacher
    mine_pairs: MinePairs


class TrainStage2View(View):
    seed: int
    compute: Compute
    collection: UseLabels
    loss: AlignLoss
    train_stage2: Training


class EvaluateView(View):
    compute: Compute
    evaluate: Evaluate


VIEWS: dict[str, type[View]] = {
    "prepare": PrepareView,
    "embed": EmbedView,
    "synthesize": SynthesizeView,
    "verify": VerifyView,
    "train_stage1": TrainStage1View,
    "mine_pairs": MinePairsView,
    "train_stage2": TrainStage2View,
    "evaluate": EvaluateView,
}

SomeView = TypeVar("SomeView", bound=View)


def load(view: type[SomeView], path: Path = PARAMS_FILE) -> SomeView:
    """Check the whole of params.yaml and return one stage's view of it.

    Raises:
        SyntrieverError: the file is missing or malformed, or a name, type or value is wrong; every
            fault is listed with its line.
    """
    return view.model_validate(_restrict(load_all(path), view))


def _restrict(values: BaseModel, model: type[BaseModel]) -> dict:
    """The values of the fields that `model` declares, down to the leaves."""
    restricted = {}
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        is_group = isinstance(value, BaseModel)
        restricted[name] = _restrict(value, field.annotation) if is_group else value
    return restricted


def load_all(path: Path = PARAMS_FILE) -> Params:
    """Check params.yaml and return all of it. For `runtime` and for tests; stages use `load`."""
    values = _read(path, "safe")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = _read(path, "rt")
        faults = "\n".join(f"  {path}, {_fault(one, lines)}" for one in error.errors())
        raise SyntrieverError(f"{path} does not hold what the stages expect:\n{faults}") from None


def read_compute(path: Path = PARAMS_FILE) -> tuple[str, int]:
    """Return (instructions, threads) for the process environment, before anything is checked.

    Falls back to the defaults on a broken file, which the stage then reports properly.
    """
    try:
        compute = _read(path, "safe")["compute"]
        native = compute["instructions"] == "native"
        return ("native" if native else "avx2"), max(1, int(compute["threads"]))
    except (SyntrieverError, KeyError, TypeError, ValueError, OverflowError):
        return "avx2", 2


def _read(path: Path, kind: str) -> dict:
    """Parse by YAML 1.2 rules, as DVC does (1.1 would read 2e-5 as text)."""
    try:
        values = YAML(typ=kind, pure=True).load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SyntrieverError(
            f"{path} does not exist here. Run stages from the repository's root."
        ) from None
    except OSError as error:
        raise SyntrieverError(f"{path} can't be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SyntrieverError(f"{path}, line {line}: not UTF-8. Convert the file.") from None
    except ReaderError as error:
        raise SyntrieverError(
            f"{path}: not YAML (the character U+{error.character:04X} at {error.position}). "
            "Remove it."
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise SyntrieverError(
            f"{path}, line {mark.line + 1 if mark else '?'}: not YAML ({error.problem})."
        ) from None
    if not isinstance(values, dict):
        raise SyntrieverError(f"{path} must hold groups of params, such as `loss:`.")
    return values


def _fault(fault: dict, document: dict) -> str:
    """One validation error as 'line 12: loss.tua is not a param; did you mean loss.tau?'."""
    location = [str(part) for part in fault["loc"] if isinstance(part, (str, int))]
    group, line = document, 1
    for part in location:
        if not isinstance(group, dict) or part not in group:
            break
        if part not in (group.lc.data or {}):  # merged in by <<
            break
        line = group.lc.key(part)[0] + 1
        group = group[part]
    name = ".".join(location) or "params"
    if fault["type"] == "extra_forbidden":
        nearest = _nearest(location)
        hint = f"; did you mean {nearest}?" if nearest else ""
        return f"line {line}: {name} is not a param{hint}"
    if fault["type"] == "missing":
        return f"line {line}: {name} is missing"
    found = "" if isinstance(fault["input"], dict) else f", found {fault['input']!r}"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"line {line}: {name} {message}{found}"


def _nearest(location: list[str]) -> str | None:
    *groups, name = location
    model: type[BaseModel] = Params
    for group in groups:
        model = model.model_fields[group].annotation
    close = difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.5)
    return ".".join([*groups, close[0]]) if close else None
