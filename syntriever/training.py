"""What both training stages share: the batches' order, the trainer, checkpoints, curves.

The trainer is transformers'. A stage gives it an `Objective`: rows, and a loss of some of them.
"""

import hashlib
import heapq
import itertools
import json
import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.files import restoring

# Keys of the trainer's log that are worth a curve; the others are clock times or fixed.
_CURVES = ("grad_norm", "learning_rate")
MOST_CHECKPOINTS = 100  # of one training, each of three times the encoder's size


class Objective(Protocol):
    """The rows of one training stage and the loss of a batch of them."""

    query_ids: Sequence[str]
    """The query of each row."""

    def loss(self, model: SentenceTransformer, rows: Sequence[int]) -> tuple[Tensor, dict]:
        """Return the scalar loss of these rows and what else is worth a curve, as floats."""


def schedule(
    query_ids: Sequence[str], batch_size: int, epochs: int, seed: int
) -> list[list[list[int]]]:
    """Return for each epoch the rows of each of its batches, fixed by the seed alone.

    An epoch holds every row once, in as many batches as the rows need at `batch_size`, or as the
    query with the most rows needs: none has two rows of one query (the paper: queries in a batch
    are distinct), and their sizes differ by few, since a tiny batch has hardly a negative.
    """
    epochs_of_batches = []
    for epoch in range(epochs):
        shuffle = random.Random(f"{seed}/{epoch}").shuffle
        order = list(range(len(query_ids)))
        shuffle(order)
        batches = _batches_of_distinct_queries(order, query_ids, batch_size)
        shuffle(batches)
        epochs_of_batches.append(batches)
    return epochs_of_batches


def _batches_of_distinct_queries(
    order: list[int], query_ids: Sequence[str], batch_size: int
) -> list[list[int]]:
    """Deal the rows out: those of one query to the batches that are the emptiest so far."""
    rows_of: dict[str, list[int]] = {}
    for row in order:
        rows_of.setdefault(query_ids[row], []).append(row)
    most = max(map(len, rows_of.values()), default=0)
    batches: list[list[int]] = [[] for _ in range(max(most, -(-len(order) // batch_size)))]
    emptiest = [(0, place) for place in range(len(batches))]  # a heap of (size, place)
    # The queries with the most rows first, while all batches have room; sorted is stable.
    for rows in sorted(rows_of.values(), key=len, reverse=True):
        taken = [heapq.heappop(emptiest) for _ in rows]
        for row, (size, place) in zip(rows, taken, strict=True):
            batches[place].append(row)
            heapq.heappush(emptiest, (size + 1, place))
    return batches


def train(
    model: SentenceTransformer,
    objective: Objective,
    settings: params.TrainStage1 | params.TrainStage2,
    compute: params.Compute,
    seed: int,
    checkpoints: Path,
    runtime: params.Runtime,
    curves: Path,
) -> list[list[dict]]:
    """Train `model` in place and return the log of each epoch: one record of floats a step.

    Goes on from the last whole checkpoint in `checkpoints` if there is one, with the same final
    bytes as an uninterrupted run; the folder is removed at the end. The curves of an earlier run
    come back where this one fails.

    Raises:
        SyntrieverError: the loss is not finite, or the encoder can't checkpoint its activations.
    """
    _set_dropout(model, settings.dropout)
    if runtime.activation_checkpointing:
        _checkpoint_activations(model)
    epochs = schedule(objective.query_ids, settings.batch_size, settings.epochs, seed)
    batches = [batch for epoch in epochs for batch in epoch]
    start = _copy_of_weights(model) if settings.interpolate else {}
    trainer = _Trainer(
        objective=objective,
        batches=batches,
        model=model,
        args=_arguments(
            settings, compute, seed, len(batches), checkpoints, runtime.checkpoint_every_steps
        ),
        callbacks=[_Curves(curves)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    with restoring(curves):
        trainer.train(resume_from_checkpoint=_last_whole(checkpoints))
    model.eval()
    _average_in(model, start, settings.interpolate)
    shutil.rmtree(checkpoints, ignore_errors=True)
    log = iter(record for record in trainer.state.log_history if "loss" in record)
    return [list(itertools.islice(log, len(epoch))) for epoch in epochs]


def summary(log: list[list[dict]]) -> dict[str, float | int]:
    """Return the number of steps, and the mean of the loss and of each share over the first and
    over the last epoch. All other curves are in plots/ only.

    Args:
        log: of `train`, one list an epoch.
    """
    # sorted: a log that went through a checkpoint has lost its order
    shares = sorted({name for one in log[0] for name in one if name.startswith("share_")})
    return {"steps": sum(map(len, log))} | {
        f"{name}_{when}": _mean(name, epoch)
        for name in ("loss", *shares)
        for when, epoch in (("first_epoch", log[0]), ("last_epoch", log[-1]))
    }


def _mean(name: str, epoch: list[dict]) -> float:
    """The mean over the steps that measured it: batches of written queries alone have no share."""
    values = [record[name] for record in epoch if name in record]
    return round(sum(values) / max(1, len(values)), 6)


def _copy_of_weights(model: SentenceTransformer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def _average_in(model: SentenceTransformer, start: dict[str, Tensor], share: float) -> None:
    """Mix `share` of the starting weights into the trained ones, which forgets less (Wortsman et
    al., Robust fine-tuning of zero-shot models, CVPR 2022)."""
    weights = dict(model.named_parameters())
    for name, before in start.items():
        weights[name].lerp_(before, share)


def checkpoint_folder(stage: str, settings: params.View, inputs: Sequence[Path]) -> Path:
    """Return where a training stage keeps its checkpoints: under $DVC_ROOT, where DVC removes
    nothing, in a folder named by a hash of all that decides the result (params, inputs, code)."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    code = sorted(Path(__file__).parent.rglob("*.py"))
    for path in [*inputs, *code]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    root = Path(os.environ.get("DVC_ROOT", "."))
    return root / ".checkpoints" / f"{stage}-{digest.hexdigest()[:16]}"


def _arguments(
    settings: params.Training,
    compute: params.Compute,
    seed: int,
    steps: int,
    checkpoints: Path,
    checkpoint_every: int,
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item is a whole batch of rows, see `schedule`
        optim="adamw_torch",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=compute.precision == "bf16",
        use_cpu=compute.device == "cpu",
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        # of many short steps, as on a GPU, most of the time would go into writing
        save_steps=max(checkpoint_every, math.ceil(steps / MOST_CHECKPOINTS)),
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to=[],
    )
    # With several GPUs the trainer would take them all, and wrap the model in DataParallel, which
    # is no SentenceTransformer any more.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _last_whole(checkpoints: Path) -> str | None:
    """Return the newest whole checkpoint; remove the broken ones before it."""
    folders = sorted(checkpoints.glob("checkpoint-*"), key=lambda f: -int(f.name.split("-")[1]))
    for folder in folders:
        try:
            json.loads((folder / "trainer_state.json").read_text("utf-8"))
            with safe_open(folder / "model.safetensors", framework="pt"):
                pass
        except (OSError, ValueError, SafetensorError):
            shutil.rmtree(folder)
        else:
            return str(folder)
    return None


def _set_dropout(model: SentenceTransformer, dropout: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout


def _checkpoint_activations(model: SentenceTransformer) -> None:
    """Keep the inputs of each layer alone, and compute the rest again on the way back."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            try:
                module.activation_checkpointing_enable()
            except ValueError as error:
                raise SyntrieverError(
                    f"runtime.activation_checkpointing: {error} Set it to false."
                ) from None


class _Trainer(Trainer):
    """transformers' trainer over a fixed list of batches of rows."""

    def __init__(self, objective: Objective, batches: list[list[int]], **arguments) -> None:
        super().__init__(train_dataset=batches, data_collator=_only_item, **arguments)
        self._objective = objective
        self._extras: dict[str, float] = {}

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, self._extras = self._objective.loss(model, inputs["rows"])
        if not torch.isfinite(loss):
            raise SyntrieverError(
                f"Training diverged: the loss of step {self.state.global_step + 1} is "
                f"{loss.item()}. Lower the learning rate or the dropout, or raise loss.tau."
            )
        self._extras["loss"] = loss.item()  # the trainer's own log rounds it
        return loss

    def log(self, logs: dict, start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {name: logs[name] for name in _CURVES if name in logs} | self._extras
        super().log(logs, start_time)


def _only_item(items: list[list[int]]) -> dict:
    return {"rows": items[0]}


class _Curves(TrainerCallback):
    """A progress bar, and live curves in TSV files, whole again after a resumed run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_begin(self, args, state, control, **kwargs):
        from dvclive import Live

        self._live = Live(dir=str(self._folder), dvcyaml=None, save_dvc_exp=False)
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step")
        for record in state.log_history:
            self._write(record)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self._write(state.log_history[-1])
            self._bar.set_postfix(loss=f"{logs['loss']:.4f}")

    def on_step_end(self, args, state, control, **kwargs):
        self._bar.update()

    def on_train_end(self, args, state, control, **kwargs):
        self._bar.close()

    def _write(self, record: dict) -> None:
        self._live.step = record["step"]
        for name, value in record.items():
            if name not in ("step", "epoch"):
                self._live.log_metric(name, value)
