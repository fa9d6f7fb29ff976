"""What the losses of both stages see of a batch."""

import pytest
import torch
from project import set_params

from syntriever import alignment, distillation, losses, params, paths
from syntriever.collection import Corpus, text_key
from syntriever.errors import SyntrieverError
from syntriever.files import read_jsonl, write_jsonl


def stage1(**records):
    """The objective of stage 1, with some verified records replaced first."""
    lines = [records.get(line["query_id"], {}) | {} or line for line in read_jsonl(paths.VERIFIED)]
    lines = [line | records.get(line["query_id"], {}) for line in read_jsonl(paths.VERIFIED)]
    write_jsonl(paths.VERIFIED, lines)
    settings = params.load(params.TrainStage1View)
    return distillation.Distillation(settings.loss, settings.collection.use_labels, 32)


def columns(batch, mask, row):
    return [text for text, is_in in zip(batch.passages, mask[row], strict=True) if is_in]


def test_a_row_has_its_texts(project):
    """Label, synthetic positive and chain of thought are a query's positives; each text is once."""
    objective = stage1()
    batch = objective.batch(range(5))
    records = {record["query_id"]: record for record in read_jsonl(paths.VERIFIED)}
    assert len({text_key(text) for text in batch.passages}) == len(batch.passages)
    for i, row in enumerate(objective.rows[:5]):
        record = records[row.query_id]
        assert columns(batch, batch.positive, i) == [record["positive"]]
        assert columns(batch, batch.cot, i) == [record["cot"]]
        assert columns(batch, batch.labelled, i) == objective._corpus.texts([row.labelled])
        for text in record["hard_negatives"]:
            assert text in batch.passages
    assert not batch.masked.any()


def test_equal_texts_are_one(project):
    """64 queries with four distinct positives: none is pushed away from its own positive text,
    white space aside, wherever that text came from."""
    shared = {"positive": "the same text", "hard_negatives": ["the  same text "]}
    ids = [line["query_id"] for line in read_jsonl(paths.VERIFIED)]
    objective = stage1(**dict.fromkeys(ids[:6], shared))
    batch = objective.batch(range(6))
    assert sum(text_key(t) == "the same text" for t in batch.passages) == 1
    column = batch.passages.index("the same text")
    assert batch.positive[:, column].all()
    scores = torch.zeros(batch.cot.shape, requires_grad=True)
    for name in params.DistillLoss.model_fields["distill"].annotation.__args__:
        settings = params.load(params.TrainStage1View).loss.model_copy(update={"distill": name})
        values, _ = distillation.distill_loss(scores, batch, settings)
        (gradient,) = torch.autograd.grad(values.sum(), scores)
        if name != "multiple_negatives_ranking":  # the published code does push it away
            assert (gradient[:, column] <= 0).all(), name


def test_other_labels_are_masked(project):
    """A query's other labelled passages are neither positive nor negative where another row has
    them, and the number of masked places is logged."""
    qrels = paths.qrels("train")
    lines = qrels.read_text().splitlines()
    first, second = (line.split("\t") for line in lines[1:3])
    qrels.write_text("\n".join([*lines, f"{first[0]}\t{second[1]}\t1", ""]))
    objective = stage1()
    rows = [
        next(i for i, row in enumerate(objective.rows) if row.query_id == query)
        for query in (first[0], second[0])
    ]
    batch = objective.batch(rows)
    assert columns(batch, batch.masked, 0) == columns(batch, batch.labelled, 1)
    assert not batch.masked[1].any()
    settings = params.load(params.TrainStage1View).loss
    scores = torch.zeros(batch.cot.shape, requires_grad=True)
    distillation.distill_loss(scores, batch, settings)[0].sum().backward()
    assert (scores.grad[0][batch.masked[0]] == 0).all()


def test_a_query_with_two_labels_has_two_rows(project):
    """Each (query, labelled passage) is a row."""
    before = len(stage1().rows)
    qrels = paths.qrels("train")
    lines = qrels.read_text().splitlines()
    extra = f"{lines[1].split(chr(9))[0]}\t{lines[2].split(chr(9))[1]}\t2"
    qrels.write_text("\n".join([*lines, extra, ""]))
    assert len(stage1().rows) == before + 1


def test_without_labels_no_qrels_are_read(project):
    """`use_labels: false` trains on synthetic positives alone; the training qrels may be absent."""
    set_params(project, {"collection.use_labels": False})
    paths.qrels("train").unlink()
    objective = stage1()
    batch = objective.batch(range(4))
    assert not batch.labelled.any() and not batch.masked.any()
    assert batch.positive.any(dim=1).all()
    alignment.Alignment(params.load(params.TrainStage2View))


def test_a_refused_positive_only_repels(project):
    """A relabelled positive is a hard negative of its query: in the denominator alone."""
    line = next(read_jsonl(paths.VERIFIED))
    refused = {"positive": None, "hard_negatives": [*line["hard_negatives"], line["positive"]]}
    objective = stage1(**{line["query_id"]: refused})
    batch = objective.batch(range(4))
    column = batch.passages.index(line["positive"])
    positives = batch.labelled | batch.positive | batch.cot
    row = [r.query_id for r in objective.rows].index(line["query_id"])
    assert not positives[row, column] and not batch.masked[row, column]
    assert positives[row].sum() == 2


def test_stage1_loss_is_the_papers_formula(project):
    """On a batch without shared texts the loss equals L_distill written out term by term."""
    torch.manual_seed(0)
    batch = stage1().batch(range(5))
    scores = torch.randn(batch.cot.shape, dtype=torch.float64) * 3
    settings = params.load(params.TrainStage1View).loss
    settings = settings.model_copy(update={"distill": "soft_nearest_neighbor"})
    values, counted = distillation.distill_loss(scores, batch, settings)
    assert counted.all()
    for i in range(5):
        own = (batch.labelled | batch.positive | batch.cot)[i]
        expected = -torch.log(scores[i].exp()[own].sum() / scores[i].exp().sum())
        assert values[i].item() == pytest.approx(expected.item())


def literal_pairwise_loss(scores, batch, rows):
    """L_align pair by pair, each pair with its own passages and those of the other queries."""
    total = []
    for pair, query in enumerate(batch.query.tolist()):
        others = [
            column
            for column in range(scores.shape[1])
            if batch.candidates[pair, column]
            and column not in (batch.preferred[pair].item(), batch.rejected[pair].item())
        ]
        s = scores[query]
        a, b = s[batch.preferred[pair]], s[batch.rejected[pair]]
        rest = s[others].exp().sum()
        total.append(
            -torch.log(a.exp() / (a.exp() + b.exp() + rest)) - torch.log(b.exp() / (b.exp() + rest))
        )
    return torch.stack(total).mean()


def test_stage2_equals_the_literal_pairs(project):
    """Encoding each passage once gives the value and the gradient of the pairs written out, with
    the same in-batch passages, in float64."""
    objective = alignment.Alignment(params.load(params.TrainStage2View))
    rows = range(min(5, len(objective.rows)))
    batch = objective.batch(rows)
    torch.manual_seed(0)
    queries = torch.randn(len(batch.queries), 8, dtype=torch.float64, requires_grad=True)
    passages = torch.randn(len(batch.passages), 8, dtype=torch.float64, requires_grad=True)

    def both(loss):
        return loss, *torch.autograd.grad(loss, (queries, passages))

    scores = queries @ passages.T
    ours = both(alignment.align_loss(scores, batch, "partial_plackett_luce").mean())
    literal = both(literal_pairwise_loss(queries @ passages.T, batch, rows))
    for mine, theirs in zip(ours, literal, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_stage2_candidates(project):
    """A pair's candidates are itself and the other rows' passages: never its query's own remaining
    passages, nor what is labelled relevant to the query."""
    objective = alignment.Alignment(params.load(params.TrainStage2View))
    batch = objective.batch(range(len(objective.rows)))
    corpus = Corpus.open(paths.CORPUS)
    labels = distillation.read_labels(corpus)
    for pair, query in enumerate(batch.query.tolist()):
        row = objective.rows[query]
        own = set(corpus.texts(row.passages))
        labelled = set(corpus.texts(labels.get(row.query_id, [])))  # a written query has none
        chosen = set(columns(batch, batch.candidates, pair))
        a, b = (batch.passages[i[pair]] for i in (batch.preferred, batch.rejected))
        assert chosen & own == {a, b}
        assert not (chosen - {a, b}) & labelled
        others = {t for r in objective.rows if r != row for t in corpus.texts(r.passages)}
        assert chosen - {a, b} == others - own - labelled


def test_bradley_terry_sees_only_the_pair(project):
    """The baseline ignores the other passages."""
    objective = alignment.Alignment(params.load(params.TrainStage2View))
    batch = objective.batch(range(3))
    scores = torch.randn(len(batch.queries), len(batch.passages))
    rows = scores[batch.query]
    expected = losses.bradley_terry(rows, batch.preferred, batch.rejected)
    assert torch.equal(alignment.align_loss(scores, batch, "bradley_terry"), expected)


def write_queries(*records):
    """Queries that the teacher wrote, for passages of the corpus by row."""
    corpus = Corpus.open(paths.CORPUS)
    ids = list(corpus.ids(range(len(corpus))))
    lines = [
        {
            "query_id": f"{ids[row]}#{number}",
            "query": text,
            "passage_id": ids[row],
            "kind": "direct",
            "hard_negatives": [ids[negative] for negative in negatives],
        }
        for number, (row, text, negatives) in enumerate(records)
    ]
    write_jsonl(paths.WRITTEN, lines)
    return corpus


def test_a_written_query_is_a_row_of_its_own(project):
    """Its passage is its labelled one; it has no synthetic text, and mined negatives repel it."""
    write_queries()
    before = len(stage1().rows)
    corpus = write_queries((3, "what is three", [5, 6]), (4, "what is four", []))
    objective = stage1()
    assert len(objective.rows) == before + 2
    batch = objective.batch([before, before + 1])
    assert batch.queries == ["what is three", "what is four"]
    assert columns(batch, batch.labelled, 0) == corpus.texts([3])
    assert columns(batch, batch.labelled, 1) == corpus.texts([4])
    assert not batch.positive.any() and not batch.cot.any()
    assert set(batch.passages) == set(corpus.texts([3, 4, 5, 6]))


def test_two_queries_of_one_passage_share_its_column(project):
    """Neither is pushed away from the passage that both were written for."""
    write_queries((3, "what is three", []), (3, "three of it", []))
    objective = stage1()
    batch = objective.batch([len(objective.rows) - 2, len(objective.rows) - 1])
    assert len(batch.passages) == 1 and batch.labelled.all()


def test_written_queries_alone_train_without_labels(project):
    """No training query has a text of any kind; the written ones are what there is."""
    set_params(project, {"collection.use_labels": False})
    write_queries((3, "what is three", []))
    nothing = {"positive": None, "cot": None, "hard_negatives": []}
    ids = [line["query_id"] for line in read_jsonl(paths.VERIFIED)]
    assert [row.query for row in stage1(**dict.fromkeys(ids, nothing)).rows] == ["what is three"]


def test_a_written_query_of_an_unknown_passage_is_refused(project):
    """The file does not fit the corpus: it is named, with the mend."""
    write_queries((3, "what is three", []))
    (line,) = read_jsonl(paths.WRITTEN)
    write_jsonl(paths.WRITTEN, [line | {"hard_negatives": ["nowhere"]}])
    with pytest.raises(SyntrieverError, match="'nowhere' is no passage of the corpus"):
        stage1()


def test_plackett_luce_is_the_whole_order(project):
    """Where all pairs of a query are decided, the loss is that of drawing its passages in the
    teacher's order, each before all that rank below it and the other rows' passages."""
    objective = alignment.Alignment(params.load(params.TrainStage2View))
    order = [4, 1, 3]
    pairs = tuple((order[i], order[j]) for i in range(3) for j in range(i + 1, 3))
    objective.rows = [alignment.Row("a", "a", pairs), alignment.Row("b", "b", ((7, 8),))]
    objective._labels = {}
    batch = objective.batch([0, 1])
    torch.manual_seed(0)
    scores = torch.randn(2, len(batch.passages), dtype=torch.float64) * 3
    values = alignment.align_loss(scores, batch, "plackett_luce")
    assert values.shape == (3,)  # two draws of the first query, one of the second
    texts = Corpus.open(paths.CORPUS).texts(order)
    place = [batch.passages.index(text) for text in texts]
    rest = [column for column in range(len(batch.passages)) if column not in place]
    for draw in range(2):
        left = scores[0, place[draw:] + rest]
        expected = torch.logsumexp(left, dim=0) - scores[0, place[draw]]
        assert values[draw].item() == pytest.approx(expected.item())


def test_undecided_pairs_make_no_order(project):
    """A passage is drawn before those that it beat; what was not compared has no say in it."""
    objective = alignment.Alignment(params.load(params.TrainStage2View))
    objective.rows = [alignment.Row("a", "a", ((4, 1), (3, 2)))]
    objective._labels = {}
    batch = objective.batch([0])
    texts = Corpus.open(paths.CORPUS).texts([4, 1, 3, 2])
    winner, loser, other, last = (batch.passages.index(text) for text in texts)
    assert batch.winner.tolist() == [winner, other]
    assert columns(batch, batch.below, 0) == [batch.passages[loser]]
    assert columns(batch, batch.below, 1) == [batch.passages[last]]
