"""Stage 1: rows, batches and loss of the distillation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from syntriever import encoder, losses, params, paths, records
from syntriever.collection import Corpus, read_qrels, read_queries, text_key
from syntriever.errors import SyntrieverError


@dataclass(frozen=True)
class Row:
    """One query with one labelled passage (a corpus row; None without labels) and its texts."""

    query_id: str
    query: str
    labelled: int | None
    positive: str | None
    cot: str | None
    hard_negatives: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """A batch's distinct texts and what each is to each query.

    All masks are (queries, passages) bool. A text equal to one of a query's positives is that
    positive, wherever it came from, so that nothing equal to a positive is pushed away.
    """

    queries: list[str]
    passages: list[str]
    labelled: Tensor
    positive: Tensor
    cot: Tensor
    masked: Tensor
    """The query's other labelled passages, where they stand in the batch for another query."""


class Distillation:
    """The objective of stage 1."""

    def __init__(self, settings: params.TrainStage1View) -> None:
        """Read the rows from the prepared collection and the verified synthetic texts.

        Raises:
            SyntrieverError: no row has a positive.
        """
        self._settings = settings
        self._corpus = Corpus.open(paths.CORPUS)
        self._labels = read_labels(self._corpus) if settings.collection.use_labels else {}
        self.rows = list(self._read_rows())
        self.query_ids = [row.query_id for row in self.rows]
        if not self.rows:
            raise SyntrieverError(
                "There is nothing to train on: no query has a labelled passage, a synthetic "
                "positive or a chain of thought. Turn on synthesize.cot, synthesize.passages or "
                "collection.use_labels."
            )

    def _read_rows(self):
        verified = {
            record["query_id"]: record for record in records.read(paths.VERIFIED, records.Verified)
        }
        for query in read_queries(paths.queries("train")):
            if query.query_id not in verified:
                raise SyntrieverError(
                    f"{paths.VERIFIED} has no record of the training query {query.query_id!r}. "
                    "Run `dvc repro`, which makes it again."
                )
            record = verified[query.query_id]
            texts = {
                "positive": record["positive"],
                "cot": record["cot"],
                "hard_negatives": tuple(record["hard_negatives"]),
            }
            labels = self._labels.get(query.query_id, [])
            for labelled in labels:
                yield Row(query.query_id, query.query, labelled, **texts)
            if not labels and (texts["positive"] or texts["cot"]):
                yield Row(query.query_id, query.query, None, **texts)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Lay out the texts of some rows, each distinct one once."""
        picked = [self.rows[i] for i in rows]
        columns = _Columns(len(picked))
        for i, row in enumerate(picked):
            if row.labelled is not None:
                columns.add(i, "labelled", self._corpus.texts([row.labelled])[0])
            columns.add(i, "positive", row.positive)
            columns.add(i, "cot", row.cot)
            for text in row.hard_negatives:
                columns.add(i, "hard_negative", text)
        for i, row in enumerate(picked):
            others = [r for r in self._labels.get(row.query_id, []) if r != row.labelled]
            for text in self._corpus.texts(others):
                columns.mark(i, "masked", text)
        positives = columns.mask("labelled") | columns.mask("positive") | columns.mask("cot")
        return Batch(
            queries=[row.query for row in picked],
            passages=columns.texts,
            labelled=columns.mask("labelled"),
            positive=columns.mask("positive"),
            cot=columns.mask("cot"),
            masked=columns.mask("masked") & ~positives,
        )

    def loss(self, model: SentenceTransformer, rows: Sequence[int]) -> tuple[Tensor, dict]:
        """Return the mean loss over the queries that have a positive, and the positives' shares."""
        batch = self.batch(rows)
        size = self._settings.train_stage1.chunk_size
        queries = encoder.forward(model, batch.queries, "query", size)
        passages = encoder.forward(model, batch.passages, "document", size)
        scores = encoder.scores(queries, passages, self._settings.loss.tau)
        batch = on_device(batch, scores.device)
        values, counted = distill_loss(scores, batch, self._settings.loss)
        return losses.mean_counted(values, counted), _extras(scores.detach(), batch)


def distill_loss(
    scores: Tensor, batch: Batch, settings: params.DistillLoss
) -> tuple[Tensor, Tensor]:
    """Return each query's loss and whether it counts (it has what the loss needs), (queries,) both.

    The target of the single-target losses is the labelled passage; without labels the synthetic
    positive, else the chain of thought.
    """
    positives = batch.labelled | batch.positive | batch.cot
    candidates = ~batch.masked
    counted = positives.any(dim=1)
    match settings.distill:
        case "soft_nearest_neighbor":
            return losses.soft_nearest_neighbor(scores, positives, candidates), counted
        case "info_nce":
            target = _target(batch)
            return losses.info_nce(scores, target, candidates & ~positives), counted
        case "multiple_negatives_ranking":
            return losses.multiple_negatives_ranking(scores, _target(batch)), counted
        case "multi_positive_info_nce":
            weights = (
                settings.weights.labelled * batch.labelled
                + settings.weights.positive * batch.positive
                + settings.weights.cot * batch.cot
            )
            counted = (weights > 0).any(dim=1)
            return losses.multi_positive_info_nce(scores, positives, candidates, weights), counted


def read_labels(corpus: Corpus) -> dict[str, list[int]]:
    """Return the corpus rows of each training query's labelled passages (grade 1 or more)."""
    qrels = read_qrels(paths.qrels("train"))
    rows = corpus.rows({passage for grades in qrels.values() for passage in grades})
    return {
        query: [rows[p] for p, grade in grades.items() if grade >= 1 and p in rows]
        for query, grades in qrels.items()
    }


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with its masks on `device`."""
    masks = {
        name: value.to(device) for name, value in vars(batch).items() if isinstance(value, Tensor)
    }
    return Batch(queries=batch.queries, passages=batch.passages, **masks)


class _Columns:
    """The distinct texts of a batch in order of first appearance, and masks over them."""

    def __init__(self, queries: int) -> None:
        self.texts: list[str] = []
        self._queries = queries
        self._column: dict[str, int] = {}
        self._marks: dict[str, list[tuple[int, int]]] = {}

    def add(self, query: int, role: str, text: str | None) -> None:
        """Put a text in the batch as `role` of a query."""
        if text is None:
            return
        if text_key(text) not in self._column:
            self._column[text_key(text)] = len(self.texts)
            self.texts.append(text)
        self.mark(query, role, text)

    def mark(self, query: int, role: str, text: str) -> None:
        """Mark a text as `role` of a query where the batch has it."""
        if text_key(text) in self._column:
            self._marks.setdefault(role, []).append((query, self._column[text_key(text)]))

    def mask(self, role: str) -> Tensor:
        mask = torch.zeros(self._queries, len(self.texts), dtype=torch.bool)
        for query, column in self._marks.get(role, []):
            mask[query, column] = True
        return mask


def _target(batch: Batch) -> Tensor:
    """The column of each query's single target, (queries,) long; -1 where it has none."""
    target = torch.full((len(batch.queries),), -1, device=batch.cot.device)
    for mask in (batch.cot, batch.positive, batch.labelled):
        target = torch.where(mask.any(dim=1), mask.long().argmax(dim=1), target)
    return target


def _extras(scores: Tensor, batch: Batch) -> dict[str, float]:
    """The share of the soft-nearest-neighbour numerator that each kind of positive holds, averaged
    over the queries that have a positive; and how many columns were masked."""
    positives = batch.labelled | batch.positive | batch.cot
    share = losses.numerator_share(scores, positives)
    queries = max(1, int(positives.any(dim=1).sum()))
    extras = {
        f"share_{kind}": float((share * getattr(batch, kind)).sum() / queries)
        for kind in ("labelled", "positive", "cot")
    }
    return extras | {"masked": float(batch.masked.sum())}
