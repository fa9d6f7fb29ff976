"""Stage 1: rows, batches and loss of the distillation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from syntriever import encoder, losses, params, paths, records
from syntriever.collection import Corpus, read_qrels, read_queries, text_key
from syntriever.errors import SyntrieverError


@dataclass(frozen=True)
class Row:
    """One query with one labelled passage (a corpus row; None without labels) and its texts.

    A query that the teacher wrote is labelled with the passage that it was written for, and has no
    synthetic text.
    """

    query_id: str
    query: str
    labelled: int | None
    positive: str | None
    cot: str | None
    hard_negatives: tuple[str, ...]
    mined: tuple[int, ...] = ()
    """Corpus rows of more hard negatives, for a written query."""


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

    def __init__(self, loss: params.DistillLoss, use_labels: bool, chunk_size: int) -> None:
        """Read the rows from the prepared collection, the verified and the written texts.

        Args:
            loss: which one, and its temperature and weights.
            use_labels: read the training judgements; without them no training query has a labelled
                passage, and none is masked.
            chunk_size: texts encoded at once.

        Raises:
            SyntrieverError: no row has a positive.
        """
        self._loss = loss
        self._chunk_size = chunk_size
        self._corpus = Corpus.open(paths.CORPUS)
        self._labels = read_labels(self._corpus) if use_labels else {}
        self.rows = [*self._read_rows(), *_written_rows(self._corpus)]
        self.query_ids = [row.query_id for row in self.rows]
        if not self.rows:
            raise SyntrieverError(
                "There is nothing to train on: no query has a labelled passage, a synthetic "
                "positive or a chain of thought. Turn on synthesize.cot, synthesize.passages, "
                "collection.use_labels or write_queries.per_passage."
            )

    def _read_rows(self):
        verified = {
            record["query_id"]: record for record in records.read(paths.VERIFIED, records.Verified)
        }
        for query in read_queries(paths.queries("train")):
            record = verified.get(query.query_id)
            if record is None or record["query"] != query.query:
                lacks = "no record" if record is None else "another text"
                raise SyntrieverError(
                    f"{paths.VERIFIED} has {lacks} of the training query {query.query_id!r}. "
                    "Run `dvc repro`, which makes it again."
                )
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

    def synthetic_texts(self) -> list[str]:
        """Return the distinct texts of the teacher that train, in their order."""
        texts = [t for row in self.rows for t in (row.positive, row.cot, *row.hard_negatives) if t]
        return list(dict.fromkeys(texts))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Lay out the texts of some rows, each distinct one once."""
        picked = [self.rows[i] for i in rows]
        columns = _Columns(len(picked))
        for i, row in enumerate(picked):
            if row.labelled is not None:
                columns.add(i, "labelled", self._corpus.texts([row.labelled])[0])
            columns.add(i, "positive", row.positive)
            columns.add(i, "cot", row.cot)
            for text in [*row.hard_negatives, *self._corpus.texts(row.mined)]:
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
        queries = encoder.forward(model, batch.queries, "query", self._chunk_size)
        passages = encoder.forward(model, batch.passages, "document", self._chunk_size)
        scores = encoder.scores(queries, passages, self._loss.tau)
        batch = on_device(batch, scores.device)
        values, counted = distill_loss(scores, batch, self._loss)
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


def _written_rows(corpus: Corpus) -> Iterator[Row]:
    written = list(records.read(paths.WRITTEN, records.WrittenQuery))
    named = {passage for one in written for passage in (one["passage_id"], *one["hard_negatives"])}
    rows = corpus.rows(named)
    if named - rows.keys():
        raise SyntrieverError(
            f"{paths.WRITTEN}: {min(named - rows.keys())!r} is no passage of the corpus. Run "
            "`dvc repro`, which makes the file again."
        )
    for one in written:
        mined = tuple(rows[passage] for passage in one["hard_negatives"])
        passage = rows[one["passage_id"]]
        yield Row(one["query_id"], one["query"], passage, None, None, (), mined)


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
    over the queries that have several to choose from; and how many columns were masked."""
    positives = batch.labelled | batch.positive | batch.cot
    several = positives.sum(dim=1, keepdim=True) > 1
    extras = {"masked": float(batch.masked.sum())}
    if several.any():
        share = losses.numerator_share(scores, positives) * several
        extras |= {
            f"share_{kind}": float((share * getattr(batch, kind)).sum() / several.sum())
            for kind in ("labelled", "positive", "cot")
        }
    return extras
