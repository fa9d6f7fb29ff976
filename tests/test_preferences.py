"""Which pairs are compared, and what becomes of the teacher's choices."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from syntriever import files, paths, preferences
from syntriever.collection import SCHEMA, Corpus, Query
from syntriever.errors import SyntrieverError
from syntriever.preferences import Sampling, sample_pairs
from syntriever.teacher import Answer

ROOT = Path(__file__).parents[1]
QUERY = Query("q", "Which is red?")


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """Prompts are found from the repository's root."""
    monkeypatch.chdir(ROOT)


class Teacher:
    """Prefers the passage whose id comes first in `order`; others it cannot place."""

    def __init__(self, order):
        self.order = list(order)
        self.asked = []

    def answer(self, requests):
        for request in requests:
            self.asked.append(request)
            yield Answer(self._choose(*request.passage_ids))

    def _choose(self, one, two):
        if one not in self.order or two not in self.order:
            return None
        return "Passage #1" if self.order.index(one) < self.order.index(two) else "**#2**"


def corpus(**passages):
    ids, texts = list(passages), list(passages.values())
    return Corpus(pa.table([ids, [""] * len(ids), texts], schema=SCHEMA))


LETTERS = corpus(a="red", b="green", c="blue", d="grey", e="black")


def compare(passages, teacher, queries=(QUERY,), rows=None, qrels=None, **sampling):
    counts = Counter()
    rows = np.array([range(len(passages))] * len(queries) if rows is None else rows)
    sampling = Sampling(**({"top_k": 5, "pairs": None, "seed": 0} | sampling))
    records = preferences.compare(queries, rows, passages, teacher, sampling, qrels, counts)
    return list(records), counts


@pytest.mark.parametrize("n", [None, 10, 99])
def test_all_pairs_where_as_many_are_wanted(n):
    """All K(K-1)/2 pairs, each once, in the order of their ranks."""
    pairs = sample_pairs(5, n, 0, "q")
    assert pairs == sorted(set(pairs))
    assert len(pairs) == 10
    assert all(0 <= one < two < 5 for one, two in pairs)


def test_a_sample_is_distinct_sorted_and_seeded():
    """A sample depends on seed and query, and on nothing else."""
    pairs = sample_pairs(20, 30, 1, "q")
    assert len(set(pairs)) == 30 and pairs == sorted(pairs)
    assert pairs == sample_pairs(20, 30, 1, "q")
    assert pairs != sample_pairs(20, 30, 2, "q")
    assert pairs != sample_pairs(20, 30, 1, "r")


def test_a_sample_is_the_same_on_every_machine():
    """The sample is written down here: a change would change everybody's results."""
    assert sample_pairs(5, 3, 0, "q1") == [(0, 2), (0, 4), (1, 4)]


def test_samples_cover_all_pairs_evenly():
    """No rank is drawn more often than another."""
    drawn = Counter(pair for i in range(2000) for pair in sample_pairs(5, 5, 0, f"q{i}"))
    assert len(drawn) == 10
    assert all(abs(times - 1000) < 100 for times in drawn.values())


@pytest.mark.parametrize("k", [0, 1])
def test_fewer_than_two_passages_make_no_pair(k):
    """Nothing to compare is no error."""
    assert sample_pairs(k, 3, 0, "q") == []


def test_one_comparison_a_pair():
    """Each record names the pair as shown, the answer, and who is preferred to whom."""
    records, counts = compare(LETTERS, teacher := Teacher("abcde"))
    assert len(records) == len(teacher.asked) == 10
    for record in records:
        shown = (record["passage_1"], record["passage_2"])
        assert (record["query_id"], record["query"]) == QUERY
        assert (record["preferred"], record["rejected"]) == tuple(sorted(shown))
        assert record["answer"] == (1 if shown[0] < shown[1] else 2)
    assert len({frozenset((one["passage_1"], one["passage_2"])) for one in records}) == 10
    assert list(records[0]) == [
        "query_id",
        "query",
        "passage_1",
        "passage_2",
        "answer",
        "preferred",
        "rejected",
    ]
    assert preferences.summary(counts) == {
        "queries": 1,
        "retrieved": 5,
        "pairs_asked": 10,
        "answered": 10,
        "undecided": 0,
        "labelled_wins": None,
    }


def test_requests_show_the_passages_in_the_order_of_their_ids():
    """The texts behind #1 and #2 are those of the first and the second id; braces stay text."""
    passages = corpus(a="{passage_2} answer Passage #2", b="{query}")
    _, counts = compare(passages, teacher := Teacher("ab"))
    (request,) = teacher.asked
    texts = {"a": "{passage_2} answer Passage #2", "b": "{query}"}
    content = request.messages[0]["content"]
    assert f"Passage #1: {texts[request.passage_ids[0]]}\n" in content
    assert f"Passage #2: {texts[request.passage_ids[1]]}\n" in content
    assert (request.prompt, request.query_id, request.query) == ("compare", *QUERY)
    assert counts["answered"] == 1


def test_the_better_ranked_passage_comes_first_half_of_the_time():
    """Which passage is #1 is balanced, so that position bias cannot look like a preference."""
    queries = [Query(f"q{number}", "?") for number in range(200)]
    records, _ = compare(LETTERS, Teacher("abcde"), queries)
    first = sum(record["passage_1"] < record["passage_2"] for record in records)
    assert 900 < first < 1100
    other_seed, _ = compare(LETTERS, Teacher("abcde"), queries, seed=1)
    assert records != other_seed
    assert records == compare(LETTERS, Teacher("abcde"), queries)[0]


def test_an_unclear_or_missing_answer_prefers_nobody():
    """An undecided pair is kept, counted, and no vote for either."""
    records, counts = compare(corpus(a="red", b="green", x="?"), Teacher("ab"))
    undecided = [record for record in records if record["answer"] is None]
    assert len(undecided) == 2
    assert all(one["preferred"] is None and one["rejected"] is None for one in undecided)
    summary = preferences.summary(counts)
    assert (summary["pairs_asked"], summary["answered"], summary["undecided"]) == (3, 1, 2)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Passage A is better than Passage B", 1),
        ("**B**", 2),
        ("Both", None),
        ("Neither", None),
        ("", None),
    ],
)
def test_odd_answers_have_no_default_winner(text, answer):
    """A, B, and three times no preference (B18)."""

    class Says:
        def answer(self, requests):
            return (Answer(text) for _ in requests)

    (record,), counts = compare(corpus(a="red", b="green"), Says())
    assert record["answer"] == answer
    assert counts["answered"] == 1
    assert counts["undecided"] == (answer is None)


def test_copies_are_compared_once():
    """Of equal texts the best ranked is compared, and the next distinct passage moves up."""
    passages = corpus(a="red  wine", b="red wine", c="blue", d="red\nwine ", e="grey")
    records, counts = compare(passages, Teacher("abcde"), top_k=3)
    ids = {one[name] for one in records for name in ("passage_1", "passage_2")}
    assert ids == {"a", "c", "e"}
    assert (counts["retrieved"], counts["pairs_asked"]) == (3, 3)


def test_fewer_distinct_passages_make_fewer_pairs():
    """Where copies leave fewer than K passages those are compared, and a lone one is not."""
    passages = corpus(a="red", b="red", c=" ", d="blue")
    records, counts = compare(passages, Teacher("abcd"), pairs=2, top_k=3)
    assert [{one["passage_1"], one["passage_2"]} for one in records] == [{"a", "d"}]
    assert counts["retrieved"] == 2
    records, counts = compare(corpus(a="red", b="red"), Teacher("ab"))
    assert (records, counts["queries"], counts["retrieved"]) == ([], 1, 1)


def test_only_the_top_k_are_compared():
    """Passages retrieved in reserve are not compared while there are K others."""
    records, _ = compare(LETTERS, Teacher("abcde"), rows=[[4, 2, 0, 1, 3]], top_k=3, pairs=None)
    ids = {one[name] for one in records for name in ("passage_1", "passage_2")}
    assert ids == {"e", "c", "a"}


def test_labelled_wins_counts_mixed_pairs_only():
    """The share of decided pairs of a labelled and an unlabelled passage that the label won."""
    qrels = {"q": {"b": 1, "c": 2, "e": 0}, "other": {"a": 1}}
    # a beats both labelled passages; d and e lose to them: 4 of 6 mixed pairs.
    _, counts = compare(LETTERS, Teacher("abcde"), qrels=qrels)
    assert preferences.summary(counts)["labelled_wins"] == pytest.approx(4 / 6)


def test_undecided_pairs_are_no_labelled_wins():
    """A pair without an answer is neither won nor lost."""
    _, counts = compare(LETTERS, Teacher("ab"), qrels={"q": {"b": 1}})
    assert preferences.summary(counts)["labelled_wins"] == 0.0


def test_copies_of_a_labelled_passage_count_as_labelled():
    """Copies of a known positive under other ids never lose to it, and win as labelled (B40)."""
    passages = corpus(x1="the answer", x2="the  answer", good="the answer", x3="the answer", b="no")
    records, counts = compare(passages, Teacher(["x1", "b"]), qrels={"q": {"good": 1}})
    (record,) = records
    assert (record["preferred"], record["rejected"]) == ("x1", "b")
    assert preferences.summary(counts)["labelled_wins"] == 1.0


def test_a_labelled_passage_that_is_not_in_the_corpus_is_passed_over():
    """Judgements of passages that are not there change nothing."""
    _, counts = compare(LETTERS, Teacher("abcde"), qrels={"q": {"a": 1, "gone": 1}})
    assert preferences.summary(counts)["labelled_wins"] == 1.0


def test_retrieve_takes_some_more_than_k():
    """Best first, with passages in reserve for copies, and never more than there are."""
    vectors = np.eye(40, dtype=np.float32)
    query = np.arange(40, dtype=np.float32)[None]
    rows = preferences.retrieve(query, vectors, 5)
    assert rows.tolist() == [list(range(39, 39 - 5 - preferences.SPARE, -1))]
    assert preferences.retrieve(query, vectors, 30).shape == (1, 40)


def test_a_k_larger_than_the_corpus_is_an_error():
    """K above the number of passages is said in words."""
    vectors = np.eye(4, dtype=np.float32)
    with pytest.raises(SyntrieverError, match=r"mine_pairs.top_k: 5 is more than the 4 passages"):
        preferences.retrieve(vectors, vectors, 5)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """What the stage reads: a corpus, two recorded queries, their embeddings, no qrels."""
    recorded = list(files.read_jsonl(ROOT / "data/teacher/concepts.jsonl"))[:2]
    ids = list(dict.fromkeys(one for record in recorded for one in record["preference_order"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mine_pairs"])
    paths.QUERIES.mkdir(parents=True)
    (tmp_path / "prompts").symlink_to(ROOT / "prompts")
    (tmp_path / "data/teacher").symlink_to(ROOT / "data/teacher")
    use_labels(tmp_path, True)
    files.write_jsonl(
        paths.queries("train"), [{name: one[name] for name in Query._fields} for one in recorded]
    )
    table = pa.table([ids, [""] * len(ids), [f"About {one}." for one in ids]], schema=SCHEMA)
    with pa.ipc.new_file(paths.CORPUS, SCHEMA) as file:
        file.write_table(table)
    vectors = np.random.default_rng(0).normal(size=(len(ids) + 2, 8)).astype(np.float32)
    for i, one in enumerate(recorded):  # each query is nearest to the passages of its own order
        for passage_id in one["preference_order"]:
            vectors[ids.index(passage_id), i] += 20
        vectors[len(ids) + i, i] += 20
    paths.embeddings("stage1").mkdir(parents=True)
    np.save(paths.embeddings("stage1") / "corpus.npy", vectors[: len(ids)])
    np.save(paths.embeddings("stage1") / "train.npy", vectors[len(ids) :])
    return recorded


def use_labels(folder, value):
    text = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(
        text.replace("use_labels: true", f"use_labels: {str(value).lower()}")
    )


def write_qrels(recorded):
    paths.QRELS.mkdir(parents=True, exist_ok=True)
    rows = [f"{one['query_id']}\t{one['preference_order'][0]}\t1\n" for one in recorded]
    paths.qrels("train").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))


def run():
    import stages.mine_pairs

    with pytest.raises(SystemExit) as end:
        stages.mine_pairs.mine_pairs()
    return end.value.code


def test_the_stage_writes_comparisons_and_metrics(workplace):
    """All ten pairs of the top five, decided by the recorded order; the same bytes each time."""
    write_qrels(workplace)
    assert run() == 0
    records = list(files.read_jsonl(paths.COMPARISONS))
    assert [one["query_id"] for one in records] == [
        one["query_id"] for one in workplace for _ in range(10)
    ]
    orders = {one["query_id"]: one["preference_order"] for one in workplace}
    for one in records:
        order = orders[one["query_id"]]
        assert order.index(one["preferred"]) < order.index(one["rejected"])
    metrics = json.loads((paths.METRICS / "mine_pairs.json").read_text())
    assert (metrics["pairs_asked"], metrics["answered"], metrics["undecided"]) == (20, 20, 0)
    before = paths.COMPARISONS.read_bytes()
    assert run() == 0
    assert paths.COMPARISONS.read_bytes() == before


def test_without_labels_the_training_judgements_are_not_opened(workplace, tmp_path):
    """`collection.use_labels: false` works where there are no judgements at all."""
    use_labels(tmp_path, False)
    assert not paths.QRELS.exists()
    assert run() == 0
    assert json.loads((paths.METRICS / "mine_pairs.json").read_text())["labelled_wins"] is None


def test_with_labels_missing_judgements_are_an_error(workplace, capsys):
    """Labels that are asked for and not there are named; nothing is written."""
    assert run() == 1
    assert "train.tsv does not exist" in capsys.readouterr().err
    assert not paths.COMPARISONS.parent.exists()


def test_a_recorded_file_of_other_passages_stops_the_stage(workplace, capsys):
    """Where not one pair is answered the stage names the file and leaves nothing behind."""
    write_qrels(workplace)
    lines = [one | {"query": "Another?"} for one in files.read_jsonl(paths.queries("train"))]
    files.write_jsonl(paths.queries("train"), lines)
    assert run() == 1
    error = capsys.readouterr().err
    assert "data/teacher/concepts.jsonl" in error and "knows 0 of the 2 queries" in error
    assert not list(paths.COMPARISONS.parent.glob("*")) and not paths.METRICS.exists()
