"""Who trains, who is held out, and which queries nearly equal each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntriever import params, splits
from syntriever.collection import Query
from syntriever.errors import SyntrieverError

QUERIES = [Query(f"q{i}", f"query {i}") for i in range(8)]


def view(use_labels=True, dev_share=0.5, evaluate=("dev", "test")):
    """What prepare sees of the params, as far as splits are concerned."""
    return params.PrepareView.model_construct(
        collection=params.Collection(use_labels=use_labels, path="c", dev_share=dev_share),
        evaluate=params.Splits(splits=list(evaluate)),
    )


def divide(tmp_path, judged, **changes):
    """Divide QUERIES with qrels files as given (only their existence is looked at)."""
    (tmp_path / "qrels").mkdir(exist_ok=True)
    for name in judged:
        (tmp_path / "qrels" / f"{name}.tsv").touch()
    return splits.divide(QUERIES, judged, tmp_path, view(**changes))


def ids(split):
    """Return the ids of a split's queries."""
    return [query.query_id for query in split.queries]


def label(*query_ids):
    """One passage of its own for each query."""
    return {query_id: {f"p-{query_id}": 1} for query_id in query_ids}


def test_each_file_is_a_split_in_the_order_of_the_queries(tmp_path):
    """Queries go where their judgements stand; one in no file goes nowhere."""
    judged = {"train": label("q5", "q0"), "dev": label("q2"), "test": label("q4", "q3")}
    parts = divide(tmp_path, judged)
    assert {name: ids(part) for name, part in parts.items()} == {
        "train": ["q0", "q5"],
        "dev": ["q2"],
        "test": ["q3", "q4"],
    }
    assert {name: part.qrels for name, part in parts.items()} == judged


def test_a_query_judged_in_test_never_trains(tmp_path):
    """Test and dev win: a query that stands in training too is left out there, labels and all."""
    judged = {"train": label("q0", "q1", "q2"), "dev": label("q1"), "test": label("q2", "q3")}
    parts = divide(tmp_path, judged)
    assert ids(parts["train"]) == ["q0"]
    assert parts["train"].qrels == label("q0")
    assert ids(parts["test"]) == ["q2", "q3"]


def test_dev_is_made_of_training_queries_where_it_is_missing(tmp_path):
    """A share of the training queries moves to dev, also when only test is evaluated."""
    judged = {"train": label("q0", "q1", "q2", "q3"), "test": label("q7")}
    for evaluate in (["dev", "test"], ["test"]):
        parts = divide(tmp_path, judged, evaluate=evaluate)
        assert len(parts["dev"].queries) == 2
        assert sorted(ids(parts["dev"]) + ids(parts["train"])) == ["q0", "q1", "q2", "q3"]
        assert parts["dev"].qrels.keys() == set(ids(parts["dev"]))


def test_without_labels_and_train_file_all_other_queries_train(tmp_path):
    """Someone without labels trains on every query outside dev and test, with no judgements."""
    parts = divide(tmp_path, {"dev": label("q0"), "test": label("q1")}, use_labels=False)
    assert ids(parts["train"]) == ["q2", "q3", "q4", "q5", "q6", "q7"]
    assert parts["train"].qrels == {}


def test_without_labels_a_train_file_still_says_who_trains(tmp_path):
    """With use_labels: false the training queries are those of train.tsv where it exists."""
    judged = {"train": {"q5": {"p": 0}}, "dev": label("q0"), "test": label("q1")}
    assert ids(divide(tmp_path, judged, use_labels=False)["train"]) == ["q5"]


@pytest.mark.parametrize(
    ("judged", "changes", "words"),
    [
        ({"test": label("q1")}, {}, ["train.tsv does not exist", "use_labels: false"]),
        ({"train": label("q1"), "test": label("q1")}, {}, ["no query is left to train on"]),
        (
            {"train": {"q1": {"p": 0}}, "test": label("q2")},
            {},
            ["train.tsv: no training query", "score 1 or more", "use_labels: false"],
        ),
        (
            {"train": label("q1", "q2"), "test": label("q3")},
            {"dev_share": 0.0},
            ["dev.tsv does not exist", "Set dev_share above 0", "take dev out of evaluate.splits"],
        ),
        (
            {"train": {"q1": {"p": 1}, "q2": {"p": 1}}, "test": label("q3")},
            {"dev_share": 0.9},
            ["dev.tsv does not exist", "dev_share: 0.9", "Add the file", "take dev out"],
        ),
        (
            {"train": label("q1"), "dev": label("q2")},
            {},
            ["test.tsv does not exist", "take test out of evaluate.splits"],
        ),
        (
            {"train": label("q1"), "dev": label("q2"), "test": {"q3": {"p": 0}}},
            {},
            ["test.tsv: no query", "score 1 or more", "take test out"],
        ),
    ],
)
def test_a_split_that_the_run_needs_must_be_there(tmp_path, judged, changes, words):
    """The error names the file and each way to mend it."""
    with pytest.raises(SyntrieverError) as error:
        divide(tmp_path, judged, **changes)
    for word in words:
        assert word in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_split_that_nobody_asks_for_may_be_missing(tmp_path):
    """With evaluate.splits [dev] there need be no test."""
    parts = divide(tmp_path, {"train": label("q1"), "dev": label("q2")}, evaluate=["dev"])
    assert parts["test"] == splits.Split([], {})


def test_queries_that_share_a_labelled_passage_stay_together():
    """q0-q1-q2 are linked in a chain; a passage of score 0 links nothing."""
    qrels = {
        "q0": {"a": 1},
        "q1": {"a": 1, "b": 2},
        "q2": {"b": 1},
        "q3": {"c": 1, "a": 0},
        "q4": {"d": 1, "c": 0},
        "q5": {"e": 0},
    }
    assert splits.choose_dev(qrels, 0.34) == {"q3", "q4"}
    assert splits.choose_dev(qrels, 0.9) == {"q0", "q1", "q2", "q3", "q4"}


def test_dev_is_at_least_one_query_and_never_all():
    """A share of 0.2 of two queries is one; of a single one it is none."""
    assert len(splits.choose_dev(label("q0", "q1"), 0.2)) == 1
    assert splits.choose_dev(label("q0"), 0.9) == set()
    assert splits.choose_dev({}, 0.9) == set()


def test_the_choice_of_dev_is_pinned():
    """Groups come in the order of sha256 of their smallest id, so the choice never moves."""
    assert splits.choose_dev(label(*(f"q{i}" for i in range(10))), 0.3) == {"q7", "q4", "q5"}


judgements = st.dictionaries(
    st.integers(0, 30).map("q{}".format),
    st.dictionaries(
        st.integers(0, 40).map("p{}".format), st.integers(0, 2), min_size=1, max_size=3
    ),
    max_size=25,
)


@given(judgements, st.floats(0.01, 0.99))
def test_dev_lies_on_passages_that_training_does_not_label(qrels, share):
    """Whatever the labels: no passage in common, never more than the share, order of no matter."""
    dev = splits.choose_dev(qrels, share)
    train = qrels.keys() - dev
    labelled = [splits.relevant({query: qrels[query] for query in part}) for part in (dev, train)]
    assert not labelled[0] & labelled[1]
    assert len(dev) <= max(1, int(share * len(qrels)))
    assert all(max(qrels[query].values()) >= 1 for query in dev)
    assert dev == splits.choose_dev(dict(reversed(qrels.items())), share)


WORDS = ["the", "of", "what", "is", "heat", "wing", "flow", "lift", "drag"]
words = st.lists(st.sampled_from(WORDS), max_size=9)
texts = st.lists(words.map(" ".join), max_size=12)


@given(texts, texts, st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.75, 0.9]))
@settings(max_examples=300)
def test_near_equal_finds_what_comparing_all_pairs_finds(a, b, threshold):
    """The index loses no pair and invents none."""

    def jaccard(x, y):
        x, y = set(x.split()), set(y.split())
        return len(x & y) / len(x | y) if x | y else 0.0

    expected = [
        (i, j) for i, x in enumerate(a) for j, y in enumerate(b) if jaccard(x, y) > threshold
    ]
    assert splits.near_equal(a, b, threshold) == expected


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("What is Entropy?", "what is entropy", True),
        ("STRASSE frei", "straße FREI!", True),
        (
            "one two three four five six seven",
            "one two three four five six seven eight nine ten",
            False,
        ),
        (
            "one two three four five six seven eight",
            "one two three four five six seven eight nine",
            True,
        ),
        ("???", "!!!", False),
        ("", "", False),
    ],
)
def test_near_equal_normalises_case_and_punctuation(a, b, equal):
    """Seven words of ten are 0.7, which is not above 0.7; no words equal nothing."""
    assert splits.near_equal([a], [b], 0.7) == ([(0, 0)] if equal else [])
