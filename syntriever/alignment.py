"""Stage 2: rows, batches and loss of the alignment (paper, equation 7).

A row is one query with the passages that the teacher compared for it, each encoded once; the losses
of all its pairs come from those vectors. Encoding pair by pair, as the equation reads, gives the
same value (a test shows it) at up to four times the cost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from tqdm import tqdm

from syntriever import encoder, losses, params, paths, records
from syntriever.collection import Corpus, text_key
from syntriever.distillation import Distillation, read_labels
from syntriever.errors import SyntrieverError


@dataclass(frozen=True)
class Row:
    """One query and its decided pairs of corpus rows, (preferred, rejected)."""

    query_id: str
    query: str
    pairs: tuple[tuple[int, int], ...]

    @property
    def passages(self) -> list[int]:
        """The distinct corpus rows of all pairs, in order of first appearance."""
        return list(dict.fromkeys(row for pair in self.pairs for row in pair))

    @property
    def beaten(self) -> dict[int, list[int]]:
        """For each passage that won a pair, those that lost to it."""
        beaten: dict[int, list[int]] = {}
        for preferred, rejected in self.pairs:
            beaten.setdefault(preferred, []).append(rejected)
        return beaten


@dataclass(frozen=True)
class Batch:
    """A batch's distinct passages, one entry a pair, and one a passage that won pairs.

    query, preferred, rejected: (pairs,) long, into the queries and passages; candidates: (pairs,
    passages) bool, the pair itself and the passages of the other rows.
    winner_query, winner: (winners,) long; below: (winners, passages) bool, the passages that lost
    to the winner and those of the other rows.
    """

    queries: list[str]
    passages: list[str]
    query: Tensor
    preferred: Tensor
    rejected: Tensor
    candidates: Tensor
    winner_query: Tensor
    winner: Tensor
    below: Tensor
    masked: int
    """How many (row, passage) places were masked as labelled for the row's query."""


class Alignment:
    """The objective of stage 2."""

    def __init__(self, settings: params.TrainStage2View) -> None:
        """Read the rows from the teacher's comparisons.

        Where no pair was asked for or mined, there are no rows.

        Raises:
            SyntrieverError: no pair was decided of those that were asked.
        """
        self._settings = settings
        self._corpus = Corpus.open(paths.CORPUS)
        self._labels = read_labels(self._corpus) if settings.collection.use_labels else {}
        self.rows = list(_read_rows(self._corpus))
        self.query_ids = [row.query_id for row in self.rows]
        self._replay = _Replay(settings) if settings.train_stage2.replay and self.rows else None
        if not self.rows and any(records.read(paths.COMPARISONS, records.Comparison)):
            raise SyntrieverError(
                f"{paths.COMPARISONS} holds no decided pair, so there is nothing to align with. "
                "See metrics/mine_pairs.json: how many pairs were asked, and how many answered."
            )

    def batch(self, rows: Sequence[int]) -> Batch:
        """Lay out the passages of some rows, each distinct text once."""
        picked = [self.rows[i] for i in rows]
        texts, column = self._columns(picked)
        own = torch.zeros(len(picked), len(texts), dtype=torch.bool)
        labelled = torch.zeros_like(own)
        for i, row in enumerate(picked):
            own[i, [column[p] for p in row.passages]] = True
            labelled[i] = self._labelled(row, texts)
        others = ~own & ~labelled
        query = torch.tensor([i for i, row in enumerate(picked) for _ in row.pairs])
        pairs = torch.tensor([[column[p] for p in pair] for row in picked for pair in row.pairs])
        candidates = others[query].scatter(1, pairs, True)
        winners = [
            (i, one, lost) for i, row in enumerate(picked) for one, lost in row.beaten.items()
        ]
        below = others[torch.tensor([i for i, _, _ in winners])]
        for place, (_, _, lost) in enumerate(winners):
            below[place, [column[p] for p in lost]] = True
        return Batch(
            queries=[row.query for row in picked],
            passages=texts,
            query=query,
            preferred=pairs[:, 0],
            rejected=pairs[:, 1],
            candidates=candidates,
            winner_query=torch.tensor([i for i, _, _ in winners]),
            winner=torch.tensor([column[one] for _, one, _ in winners]),
            below=below,
            masked=int((labelled & ~own).sum()),
        )

    def _columns(self, picked: list[Row]) -> tuple[list[str], dict[int, int]]:
        """The batch's distinct texts, and the column of each corpus row."""
        texts: list[str] = []
        by_key: dict[str, int] = {}
        column: dict[int, int] = {}
        passages = list(dict.fromkeys(p for row in picked for p in row.passages))
        for passage, text in zip(passages, self._corpus.texts(passages), strict=True):
            if text_key(text) not in by_key:
                by_key[text_key(text)] = len(texts)
                texts.append(text)
            column[passage] = by_key[text_key(text)]
        return texts, column

    def _labelled(self, row: Row, texts: list[str]) -> Tensor:
        labelled = {text_key(t) for t in self._corpus.texts(self._labels.get(row.query_id, []))}
        return torch.tensor([text_key(text) in labelled for text in texts])

    def loss(self, model: SentenceTransformer, rows: Sequence[int]) -> tuple[Tensor, dict]:
        """Return the mean loss over the pairs (`plackett_luce`: over the draws), with the replayed
        stage-1 loss, and the share of the pairs that is ordered rightly."""
        batch = self.batch(rows)
        size = self._settings.train_stage2.chunk_size
        queries = encoder.forward(model, batch.queries, "query", size)
        passages = encoder.forward(model, batch.passages, "document", size)
        scores = encoder.scores(queries, passages, self._settings.loss.tau)
        values = align_loss(scores, batch, self._settings.loss.align)
        extras = {
            "ordered": float(_ordered(scores.detach(), batch)),
            "masked": float(batch.masked),
        }
        if self._replay is None:
            return values.mean(), extras
        replayed = self._replay.loss(model, [self.query_ids[i] for i in rows])
        weight = self._settings.train_stage2.replay
        return values.mean() + weight * replayed, extras | {"replayed": replayed.item()}

    def ordered_share(self, model: SentenceTransformer, compute: params.Compute) -> float:
        """Return the share of all pairs whose preferred passage scores above the rejected one."""
        size = self._settings.train_stage2.chunk_size
        passages = sorted({p for row in self.rows for p in row.passages})
        place = {passage: i for i, passage in enumerate(passages)}
        vectors = {}
        for kind, total, batches in (
            ("document", len(passages), _sliced(passages, self._corpus.texts)),
            ("query", len(self.rows), _sliced(self.rows, lambda rows: [r.query for r in rows])),
        ):
            parts = encoder.encode(model, batches, kind, compute, size)
            steps = -(-total // _SLICE)
            vectors[kind] = np.concatenate(list(tqdm(parts, f"score pairs, {kind}", steps)))
        right = count = 0
        for i, row in enumerate(self.rows):
            for preferred, rejected in row.pairs:
                gap = vectors["document"][place[preferred]] - vectors["document"][place[rejected]]
                right += bool(vectors["query"][i] @ gap > 0)
                count += 1
        return right / count


class _Replay:
    """The stage-1 loss of the queries of a batch of stage 2, so that stage 1 is not forgotten."""

    def __init__(self, settings: params.TrainStage2View) -> None:
        use_labels = settings.collection.use_labels
        self._stage1 = Distillation(settings.loss, use_labels, settings.train_stage2.chunk_size)
        self._row: dict[str, int] = {}  # a query's first, where it has several labels
        for i, query_id in enumerate(self._stage1.query_ids):
            self._row.setdefault(query_id, i)

    def loss(self, model: SentenceTransformer, query_ids: Sequence[str]) -> Tensor:
        rows = [self._row[query_id] for query_id in query_ids if query_id in self._row]
        return self._stage1.loss(model, rows)[0] if rows else torch.zeros((), device=model.device)


_SLICE = 256


def align_loss(scores: Tensor, batch: Batch, loss: str) -> Tensor:
    """Return the loss of each pair, (pairs,), from `scores` (queries, passages) over tau.

    `plackett_luce` returns one of each winner, (winners,), instead: the negative log of its chance
    to be drawn before the passages that lost to it and those of the other rows. Where the teacher
    decided all pairs without contradiction, these are the draws of the whole order (Xia et al.,
    Listwise approach to learning to rank, ICML 2008), but for the last one.
    """
    device = scores.device
    if loss == "plackett_luce":
        scores = scores[batch.winner_query.to(device)]
        return losses.info_nce(scores, batch.winner.to(device), batch.below.to(device))
    scores = scores[batch.query.to(device)]
    preferred, rejected = batch.preferred.to(device), batch.rejected.to(device)
    if loss == "bradley_terry":
        return losses.bradley_terry(scores, preferred, rejected)
    return losses.partial_plackett_luce(scores, preferred, rejected, batch.candidates.to(device))


def _ordered(scores: Tensor, batch: Batch) -> Tensor:
    scores = scores.cpu()
    return (
        (scores[batch.query, batch.preferred] > scores[batch.query, batch.rejected]).float().mean()
    )


def _sliced(items: list, texts_of) -> Iterator[list[str]]:
    for start in range(0, len(items), _SLICE):
        yield texts_of(items[start : start + _SLICE])


def _read_rows(corpus: Corpus) -> Iterator[Row]:
    decided: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for record in records.read(paths.COMPARISONS, records.Comparison):
        if record["preferred"] is not None and record["rejected"] is not None:
            query = (record["query_id"], record["query"])
            decided.setdefault(query, []).append((record["preferred"], record["rejected"]))
    rows = corpus.rows({p for pairs in decided.values() for pair in pairs for p in pair})
    for (query_id, query), pairs in decided.items():
        unknown = {passage for pair in pairs for passage in pair} - rows.keys()
        if unknown:
            raise SyntrieverError(
                f"{paths.COMPARISONS}: {min(unknown)!r}, compared for query {query_id!r}, is no "
                "passage of the corpus. Run `dvc repro`, which makes the file again."
            )
        yield Row(query_id, query, tuple((rows[a], rows[b]) for a, b in pairs))
