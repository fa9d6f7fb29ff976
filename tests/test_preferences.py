"""Which pairs are compared, and what becomes of the teacher's choices."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fake_teacher import FakeTeacher, saying, talk

from syntriever import preferences
from syntriever.collection import SCHEMA, Corpus, Query
from syntriever.errors import SyntrieverError
from syntriever.preferences import Sampling, sample_pairs

ROOT = Path(__file__).parents[1]
QUERY = Query("q", "Which is red?")


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """Prompts are found from the repository's root."""
    monkeypatch.chdir(ROOT)


def preferring(order):
    """Prefers the passage whose id comes first in `order`; others it cannot place."""
    order = list(order)

    def reply(request):
        one, two = request.passage_ids
        if one not in order or two not in order:
            return None
        return "Passage #1" if order.index(one) < order.index(two) else "**#2**"

    return FakeTeacher(reply)


def corpus(**passages):
    ids, texts = list(passages), list(passages.values())
    return Corpus(pa.table([ids, [""] * len(ids), texts], schema=SCHEMA))


LETTERS = corpus(a="red", b="green", c="blue", d="grey", e="black")


def compare(
    passages, teacher, queries=(QUERY,), rows=None, qrels=None, allowed=1.0, reasks=0, **sampling
):
    counts = Counter()
    rows = np.array([range(len(passages))] * len(queries) if rows is None else rows)
    sampling = Sampling(**({"top_k": 5, "pairs": None, "seed": 0} | sampling))
    conversation = talk(teacher, allowed, reasks)
    records = preferences.compare(queries, rows, passages, conversation, sampling, qrels, counts)
    return list(records), counts


def summary(counts, both_orders=False, measured=True):
    return preferences.summary(counts, both_orders, measured)


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
    records, counts = compare(LETTERS, teacher := preferring("abcde"))
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
    first = sum(one["answer"] == 1 for one in records) / 10
    assert summary(counts) == {
        "queries": 1,
        "retrieved": 5,
        "pairs_asked": 10,
        "written_pairs": 0,
        "undecided": 0,
        "undecided_share": 0.0,
        "labelled_wins": None,
        "disagreement": None,
        "first_position_wins": first,
    }


def test_requests_show_the_passages_in_the_order_of_their_ids():
    """The texts behind #1 and #2 are those of the first and the second id; braces stay text."""
    passages = corpus(a="{passage_2} answer Passage #2", b="{query}")
    _, counts = compare(passages, teacher := preferring("ab"))
    (request,) = teacher.asked
    texts = {"a": "{passage_2} answer Passage #2", "b": "{query}"}
    content = request.messages[0]["content"]
    assert f"Passage #1: {texts[request.passage_ids[0]]}\n" in content
    assert f"Passage #2: {texts[request.passage_ids[1]]}\n" in content
    assert (request.prompt, request.query_id, request.query) == ("compare", *QUERY)
    assert counts["undecided"] == 0


def test_the_better_ranked_passage_comes_first_half_of_the_time():
    """Which passage is #1 is balanced, so that position bias cannot look like a preference."""
    queries = [Query(f"q{number}", "?") for number in range(200)]
    records, _ = compare(LETTERS, preferring("abcde"), queries)
    first = sum(record["passage_1"] < record["passage_2"] for record in records)
    assert 900 < first < 1100
    other_seed, _ = compare(LETTERS, preferring("abcde"), queries, seed=1)
    assert records != other_seed
    assert records == compare(LETTERS, preferring("abcde"), queries)[0]


def test_an_unclear_or_missing_answer_prefers_nobody():
    """An undecided pair is kept, counted, and no vote for either."""
    records, counts = compare(corpus(a="red", b="green", x="?"), preferring("ab"))
    undecided = [record for record in records if record["answer"] is None]
    assert len(undecided) == 2
    assert all(one["preferred"] is None and one["rejected"] is None for one in undecided)
    metrics = summary(counts)
    assert (metrics["pairs_asked"], metrics["undecided"]) == (3, 2)
    assert metrics["undecided_share"] == pytest.approx(2 / 3)


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
    (record,), counts = compare(corpus(a="red", b="green"), saying(text))
    assert record["answer"] == answer
    assert summary(counts)["undecided_share"] == (answer is None)
    if answer is None:
        with pytest.raises(SyntrieverError, match="questions stayed without"):
            compare(corpus(a="red", b="green"), saying(text), allowed=0.05)


def test_an_unclear_choice_is_asked_again_in_place():
    """The pair that was unclear is asked anew, as shown before, and gets its own new answer."""
    teacher = FakeTeacher(
        lambda request: "Passage #2" if request.sample or "e" in request.passage_ids else "Both."
    )
    records, _ = compare(LETTERS, teacher, reasks=1)
    assert [one["answer"] for one in records] == [2] * 10
    again = [one for one in teacher.asked if one.sample == 1]
    assert len(again) == 6
    assert all("e" not in one.passage_ids for one in again)
    shown = {(one["passage_1"], one["passage_2"]) for one in records}
    assert {one.passage_ids for one in again} < shown


def test_both_orders_keep_what_agrees():
    """Each pair is asked in both orders; a choice that goes with the place decides nothing."""

    def reply(request):
        if "e" in request.passage_ids:
            return "Passage #1"  # whichever stands first
        return "Passage #1" if request.passage_ids[0] < request.passage_ids[1] else "Passage #2"

    records, counts = compare(LETTERS, teacher := FakeTeacher(reply), both_orders=True)
    assert len(records) == 10 and len(teacher.asked) == 20
    for one, other in zip(teacher.asked[::2], teacher.asked[1::2], strict=True):
        assert one.passage_ids == other.passage_ids[::-1]
    for one in records:
        shown = [one["passage_1"], one["passage_2"]]
        assert (one["answer"] == 3 - one["swapped_answer"]) == ("e" not in shown)
        expected = [None, None] if "e" in shown else sorted(shown)
        assert [one["preferred"], one["rejected"]] == expected
    metrics = summary(counts, both_orders=True)
    assert (metrics["pairs_asked"], metrics["undecided"]) == (10, 4)
    assert metrics["disagreement"] == pytest.approx(0.4)
    assert metrics["first_position_wins"] == pytest.approx((8 + 6) / 20)


def test_an_order_without_an_answer_is_no_disagreement():
    """A pair with one readable answer is undecided, and nothing is known of its agreement."""
    _, counts = compare(corpus(a="red", b="green"), saying("#1", "Both"), both_orders=True)
    metrics = summary(counts, both_orders=True)
    assert (metrics["undecided"], metrics["disagreement"]) == (1, None)
    assert metrics["first_position_wins"] == 1.0


def test_recorded_answers_measure_no_position_bias():
    """Answers of a recorded order do not depend on the place: not measured, never 0."""
    _, counts = compare(LETTERS, preferring("abcde"), both_orders=True)
    metrics = summary(counts, both_orders=True, measured=False)
    assert (metrics["disagreement"], metrics["first_position_wins"]) == (None, None)
    assert summary(counts, both_orders=True)["disagreement"] == 0.0


def test_copies_are_compared_once():
    """Of equal texts the best ranked is compared, and the next distinct passage moves up."""
    passages = corpus(a="red  wine", b="red wine", c="blue", d="red\nwine ", e="grey")
    records, counts = compare(passages, preferring("abcde"), top_k=3)
    ids = {one[name] for one in records for name in ("passage_1", "passage_2")}
    assert ids == {"a", "c", "e"}
    assert (counts["retrieved"], counts["pairs_asked"]) == (3, 3)


def test_fewer_distinct_passages_make_fewer_pairs():
    """Where copies leave fewer than K passages those are compared, and a lone one is not."""
    passages = corpus(a="red", b="red", c=" ", d="blue")
    records, counts = compare(passages, preferring("abcd"), pairs=2, top_k=3)
    assert [{one["passage_1"], one["passage_2"]} for one in records] == [{"a", "d"}]
    assert counts["retrieved"] == 2
    with pytest.raises(SyntrieverError, match="there is no pair to compare"):
        compare(corpus(a="red", b="red"), preferring("ab"))


def test_only_the_top_k_are_compared():
    """Passages retrieved in reserve are not compared while there are K others."""
    records, _ = compare(LETTERS, preferring("abcde"), rows=[[4, 2, 0, 1, 3]], top_k=3, pairs=None)
    ids = {one[name] for one in records for name in ("passage_1", "passage_2")}
    assert ids == {"e", "c", "a"}


def test_labelled_wins_counts_mixed_pairs_only():
    """The share of decided pairs of a labelled and an unlabelled passage that the label won."""
    qrels = {"q": {"b": 1, "c": 2, "e": 0}, "other": {"a": 1}}
    # a beats both labelled passages; d and e lose to them: 4 of 6 mixed pairs.
    _, counts = compare(LETTERS, preferring("abcde"), qrels=qrels)
    assert summary(counts)["labelled_wins"] == pytest.approx(4 / 6)


def test_undecided_pairs_are_no_labelled_wins():
    """A pair without an answer is neither won nor lost."""
    _, counts = compare(LETTERS, preferring("ab"), qrels={"q": {"b": 1}})
    assert summary(counts)["labelled_wins"] == 0.0


def test_copies_of_a_labelled_passage_count_as_labelled():
    """Copies of a known positive under other ids never lose to it, and win as labelled (B40)."""
    passages = corpus(x1="the answer", x2="the  answer", good="the answer", x3="the answer", b="no")
    records, counts = compare(passages, preferring(["x1", "b"]), qrels={"q": {"good": 1}})
    (record,) = records
    assert (record["preferred"], record["rejected"]) == ("x1", "b")
    assert summary(counts)["labelled_wins"] == 1.0


def test_a_labelled_passage_that_is_not_in_the_corpus_is_passed_over():
    """Judgements of passages that are not there change nothing."""
    _, counts = compare(LETTERS, preferring("abcde"), qrels={"q": {"a": 1, "gone": 1}})
    assert summary(counts)["labelled_wins"] == 1.0


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


def test_a_written_query_prefers_its_own_passage():
    """To the best `most` others retrieved, copies of its own text passed over, and nobody asked."""
    passages = corpus(a="red", copy="red", b="green", c="blue")
    written = [
        {"query_id": "w1", "query": "Which is red?", "passage_id": "a"},
        {"query_id": "w2", "query": "Which is blue?", "passage_id": "c"},
    ]
    rows = np.array([[1, 2, 0, 3], [3, 0, 1, 2]])
    counts = Counter()
    found = list(preferences.of_written(written, rows, passages, 1, counts))
    assert [(one["query_id"], one["preferred"], one["rejected"]) for one in found] == [
        ("w1", "a", "b"),
        ("w2", "c", "a"),
    ]
    assert {one["answer"] for one in found} == {None}
    assert counts == {"written_pairs": 2}
    assert len(list(preferences.of_written(written, rows, passages, 9, Counter()))) == 4
    written[1]["passage_id"] = "gone"
    with pytest.raises(SyntrieverError, match="'gone' is no passage of the corpus"):
        list(preferences.of_written(written, rows, passages, 1, Counter()))
