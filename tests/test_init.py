"""What `init` makes of raw files: passages, ids, duplicates, labels, splits, and a summary."""

import re
import shutil
from pathlib import Path

import pytest
from project import ROOT
from raw_files import COLLECTION, LONG, about, corpus, draft, judged, label, plan_of, put, table

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.intake import make, summary


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)


def refused(*words, source="raw", **changes):
    """Expect one error that holds all words, and nothing written."""
    before = sorted(Path("data").rglob("*"))
    with pytest.raises(SyntrieverError) as error:
        draft(source, **changes)
    for word in words:
        assert word in str(error.value)
    assert [path for path in sorted(Path("data").rglob("*")) if path.is_file()] == [
        path for path in before if path.is_file()
    ]


def four_files():
    """Four short documents, one labelled query each."""
    for name in "abcd":
        put(f"{name}.txt", f"This is the text of {name}.")
    label(*(f"{name}.txt" for name in "abcd"))


# Passages


def test_ids_lead_back_and_stay_when_files_come_and_go():
    """<path>#<n>: the same for the same file, whatever stands beside it."""
    put("guide/my oven.md", "# Oven\n\n" + LONG)
    put("z.txt", "Last")
    label("z.txt", "guide/my oven.md")
    draft()
    before = corpus()
    assert list(before)[:2] == ["guide/my%20oven.md#1", "guide/my%20oven.md#2"]
    assert {title for title, _ in list(before.values())[:-1]} == {"Oven"}
    shutil.rmtree(COLLECTION)
    put("a.txt", "A new file that sorts first")
    Path("raw/z.txt").unlink()
    label("a.txt", "guide/my oven.md")
    draft()
    after = corpus()
    assert {k: v for k, v in after.items() if "oven" in k} == {
        k: v for k, v in before.items() if "oven" in k
    }


def test_an_overlap_that_leaves_no_room_is_refused():
    """It would loop for ever."""
    put("a.txt", "Text")
    label("a.txt")
    refused("--overlap 50", "50 words", chunk_words=50, overlap=50)


def test_duplicates_and_blanks_are_counted_and_left_out():
    """Equal but for white space; a label on a copy goes to the one that is kept."""
    put("a/page.txt", "The same text.")
    put("b/page.txt", " The same\n text. ")
    put("c.txt", "Another text.")
    put("d.txt", " \u200b\n")
    label("b/page.txt", "c.txt")
    made = draft()
    assert list(corpus()) == ["a/page.txt#1", "c.txt#1"]
    counts = made.counts
    assert counts["passages"] == 4 == counts["kept"] + counts["duplicates"] + counts["blank"]
    assert {one[:2] for split in ("train", "test") for one in judged(split)} == {
        ("q0", "a/page.txt#1"),
        ("q1", "c.txt#1"),
    }


def test_the_summary_adds_up():
    """Files read and skipped with reasons, passages, queries; collection.json says the same."""
    put("a.txt", LONG)
    put("copy/a.txt", LONG)
    put("b.txt", "Größe".encode("latin-1"))
    put("c.pdf", "x")
    put("d.txt", "")
    label("a.txt", "b.txt", "b.txt")
    table("queries.tsv", ("id", "text"), *((f"q{i}", f"number {i}") for i in range(5)))
    made = draft()
    text = "\n".join(summary.lines(plan_of(), made))
    assert "read: 4 files (cp1252 1, utf-8 3)" in text
    assert "b.txt: taken for cp1252" in text
    assert "skipped: 1 files\n  1 no text format (.pdf): c.pdf" in text
    whole, kept, copies, blank = map(
        int, re.search(r"passages: (\d+) .* = (\d+) kept \+ (\d+) .* (\d+) blank", text).groups()
    )
    assert whole == kept + copies + blank and copies == kept - 1 and blank == 1
    assert kept == len(corpus())
    assert "queries: 5 = 1 train + 2 test + 2 without labels" in text or (
        "queries: 5 = 2 train + 1 test + 2 without labels" in text
    )
    assert about()["skipped"] == {"no text format (.pdf)": ["c.pdf"]}
    assert about()["counts"]["kept"] == kept and about()["test_queries"] == "labelled"


def test_the_summary_says_where_the_passages_lie_and_what_is_generated():
    """So that copies and long indexes are noticed before they are trained on."""
    for name in ("a.html", "genindex.html", "lib/b.html", "_sources/lib/b.rst.txt"):
        put(name, f"Text of {name}")
    label("a.html", "lib/b.html")
    made = draft(test_share=0.5)
    text = "\n".join(summary.lines(plan_of(), made))
    assert "kept by folder: no folder 2, _sources/ 1, lib/ 1" in text
    assert "indexes: _sources 1, genindex* 1; without them: --exclude _sources" in text
    assert "--exclude 'genindex*'" in text
    assert about()["kept_by_folder"] == {"": 2, "_sources": 1, "lib": 1}
    shutil.rmtree(COLLECTION)
    changes = {"exclude": ["_sources", "genindex*"], "test_share": 0.5}
    text = "\n".join(summary.lines(plan_of(), draft(**changes)))
    assert "kept by folder: no folder 1, lib/ 1" in text and "--exclude" not in text


def test_same_files_same_bytes():
    """Nothing of time, place or order of the file system gets into a collection."""
    four_files()
    draft()
    first = {p.name: p.read_bytes() for p in COLLECTION.rglob("*") if p.is_file()}
    shutil.move("raw", "elsewhere")
    shutil.rmtree(COLLECTION)
    draft("elsewhere")
    assert {p.name: p.read_bytes() for p in COLLECTION.rglob("*") if p.is_file()} == first


# Queries and labels


def test_a_label_on_a_document_judges_all_its_passages():
    """Its grade goes to each; a label on a passage itself goes before."""
    put("long.txt", LONG)
    put("short.txt", "Short")
    label("short.txt")
    table("queries.tsv", ("id", "query"), ("q0", "zero"), ("q1", "one"))
    table(
        "qrels.tsv",
        ("query-id", "corpus-id", "score"),
        ("q0", "short.txt#1", "1"),
        ("q1", "long.txt", "2"),
        ("q1", "long.txt#2", "0"),
    )
    draft(test_share=0.5)
    grades = {passage: grade for split in ("train", "test") for _, passage, grade in judged(split)}
    passages = [one for one in corpus() if one.startswith("long")]
    assert len(passages) > 3 and all(
        grades[one] == ("0" if one == "long.txt#2" else "2") for one in passages
    )


def test_unlabelled_twins_of_test_queries_do_not_train():
    """With all labels in the test, the queries without labels are what trains."""
    put("a.txt", "Text a")
    table("queries.tsv", ("id", "text"), ("q1", "hello"), ("q2", "Hello "), ("q3", "other"))
    table("qrels.tsv", ("query-id", "corpus-id"), ("q1", "a.txt"))
    made = draft(test_share=1.0)
    assert list(made.queries) == ["q1", "q3"] and made.counts["twins"] == 1
    plan = plan_of(test_share=1.0)
    assert "left out: 1 queries without labels" in "\n".join(summary.lines(plan, made))


def test_queries_that_share_a_passage_or_their_words_stay_together():
    """Whatever the share, no test query has a relevant passage of training, nor a twin there."""
    for i in range(20):
        put(f"{i}.txt", f"Text number {i}")
    label(*(f"{i // 2}.txt" for i in range(40)))
    lines = Path("queries.tsv").read_text().replace("number 4\n", "NUMBER  7\n")
    Path("queries.tsv").write_text(lines)
    draft()
    train, test = judged("train"), judged("test")
    assert len(train) + len(test) == 40 and 6 <= len(test) <= 8
    assert not {one[1] for one in train} & {one[1] for one in test}
    assert ("q4" in {one[0] for one in test}) == ("q7" in {one[0] for one in test})
    before = test  # by a hash: no seed, no order
    shutil.rmtree(COLLECTION)
    lines = Path("qrels.tsv").read_text().splitlines(keepends=True)
    Path("qrels.tsv").write_text(lines[0] + "".join(reversed(lines[1:])))
    draft()
    assert sorted(judged("test")) == sorted(before)


def test_all_labels_may_be_kept_for_the_test():
    """--test-share 1: nothing labelled trains, and the params say so."""
    four_files()
    made = draft(test_share=1)
    assert len(judged("test")) == 4 and not (COLLECTION / "qrels/train.tsv").exists()
    assert make.settings(plan_of(), made, values(per_passage=0, written_negatives=0)) == {
        "collection.path": "data/collections/mine",
        "collection.use_labels": False,
        "evaluate.splits": ["test"],
        "write_queries.per_passage": 1,
        "mine_pairs.written_negatives": 2,
    }
    chosen = make.settings(plan_of(), made, values(per_passage=3, written_negatives=1))
    assert not {"write_queries.per_passage", "mine_pairs.written_negatives"} & set(chosen)


def values(written_negatives=1, **writing):
    """The repository's params, with these of written queries."""
    whole = params.load_all(ROOT / "params.yaml")
    mining = {"written_negatives": written_negatives}
    changes = {
        "write_queries": whole.write_queries.model_copy(update={"passages": None} | writing),
        "mine_pairs": whole.mine_pairs.model_copy(update=mining),
    }
    return whole.model_copy(update=changes)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("current", "kept", "expected"),
    [
        ({}, 1001, {"write_queries.passages": 1000}),
        ({}, 1000, {}),
        ({"passages": 150}, 5000, {}),
        ({"passages": 3000}, 5000, {}),
    ],
)
def test_of_a_large_corpus_some_passages_get_queries(labelled, current, kept, expected):
    """Whatever trains beside them; a number that the user has chosen stays."""
    four_files()
    made = draft(test_share=0.5 if labelled else 1)
    made.counts["kept"] = kept
    chosen = make.settings(plan_of(), made, values(**{"per_passage": 1} | current))
    assert {k: v for k, v in chosen.items() if k == "write_queries.passages"} == expected


def test_queries_without_ids_and_labels_without_scores():
    """Rows are q1, q2, …; a label without a score is a 1; a semicolon export works here too."""
    put("a.txt", "Text a")
    put("b.txt", "Text b")
    Path("queries.csv").write_text("question\nwhere is a\nwhere is b\n")
    Path("qrels.csv").write_text("qid;file\nq1;a.txt\nq2;b.txt\n")
    draft(queries=Path("queries.csv"), qrels=Path("qrels.csv"), test_share=0.5)
    assert sorted(judged("train") + judged("test")) == [
        ("q1", "a.txt#1", "1"),
        ("q2", "b.txt#1", "1"),
    ]


def test_a_label_may_name_a_passage_of_a_file_with_a_blank():
    """As the summary and the corpus write it, or as the file is called."""
    for name in ("my oven.md", "b.txt", "c.txt"):
        put(name, f"Text of {name}")
    Path("queries.csv").write_text("question\nwhere is a\nwhere is b\nwhere is c\n")
    Path("qrels.csv").write_text("qid;file\nq1;my oven.md#1\nq2;b.txt\nq3;c.txt\n")
    draft(queries=Path("queries.csv"), qrels=Path("qrels.csv"), test_share=0.4)
    assert ("q1", "my%20oven.md#1", "1") in judged("train") + judged("test")


@pytest.mark.parametrize(
    ("ids", "target", "readings"),
    [
        (("page", "page#1"), "page#1", ("passage 'page#1'", "document 'page%231'")),
        (("a b", "a%20b"), "a%20b", ("document 'a%20b'", "document 'a%2520b'")),
        (("a b", "a%20b"), "a%20b#1", ("passage 'a%20b#1'", "passage 'a%2520b#1'")),
        (("a b", "a b#1"), "a b#1", ("document 'a%20b%231'", "passage 'a%20b#1'")),
    ],
)
def test_a_label_that_may_mean_two_rows_is_refused(ids, target, readings):
    """Both are named as the corpus writes them; so written, the second is what it says."""
    rows = [f"{own}\tText of {own}\n" for own in (*ids, "more")]
    put("rows.tsv", "id\ttext\n" + "".join(rows))
    label("more", target)
    refused("qrels.tsv, line 3", f"{target!r} may be", *readings, "rename", source="raw/rows.tsv")
    name = readings[1].split("'")[1]
    label("more", name)
    draft("raw/rows.tsv", test_share=1)
    meant = {passage for query, passage, _ in judged("test") if query == "q1"}
    assert meant == {f"{name.removesuffix('#1')}#1"}


@pytest.mark.parametrize(
    ("rows", "passage"),
    [
        ("page#1\tOne\n", "page%231#1"),  # no row is called page
        ("page\tOne\n", "page#1"),
        ("page\tOne\npage#1\tOne\n", "page#1"),  # a duplicate: the passages are the same
    ],
)
def test_a_label_that_can_mean_one_row_only_is_that(rows, passage):
    """However its id is written in the corpus."""
    put("rows.tsv", "id\ttext\n" + rows)
    label("page#1")
    draft("raw/rows.tsv", test_share=1)
    assert [one for _, one, _ in judged("test")] == [passage]


HEAD = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("queries", "qrels", "words"),
    [
        ("id\ttext\n", HEAD, ["queries.tsv holds no queries"]),
        ("id\ttext\nq0\t \n", HEAD, ["queries.tsv, line 2", "blank"]),
        ("id\ttext\nq 0\tx\n", HEAD, ["queries.tsv, line 2", "'q 0'", "white space"]),
        ("id\ttext\nq0\tx\nq0\ty\n", HEAD, ["queries.tsv, line 3", "line 2"]),
        ("id\twords\nq0\tx\n", HEAD, ["queries.tsv, line 2", "no column is the query"]),
        (None, HEAD, ["qrels.tsv holds no labels"]),
        (
            None,
            "q0\ta.txt\t1\nq1\tb.txt\t1\n",
            ["no column is the labelled query", "Begin the file"],
        ),
        (None, HEAD + "nobody\ta.txt\t1\n", ["qrels.tsv, line 2", "'nobody'"]),
        (None, HEAD + "q0\tabsent.txt\t1\n", ["qrels.tsv, line 2", "'absent.txt'"]),
        (None, HEAD + "q0\ta.txt\tyes\n", ["qrels.tsv, line 2", "'yes'", "whole number"]),
        (None, HEAD + "q0\t\t1\n", ["qrels.tsv, line 2", "names no passage"]),
        (
            None,
            HEAD + "q0\ta.txt\t1\nq1\tb.txt\t1\nq0\ta.txt\t1\nq0\ta.txt\t2\n",
            ["qrels.tsv, line 5", "another score in line 2"],
        ),
        (None, HEAD + "q0\ta.txt\t0\n", ["qrels.tsv", "score 1 or more"]),
        (None, HEAD + "q0\ta.txt\t1\nq1\ta.txt\t1\n", ["--test-share", "share a passage"]),
    ],
)
def test_faults_of_queries_and_labels_are_named(queries, qrels, words):
    """One clear message for each, and no folder."""
    four_files()
    if queries:
        Path("queries.tsv").write_text(queries)
    Path("qrels.tsv").write_text(qrels)
    refused(*words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queries": None}, ["--qrels labels queries"]),
        ({"qrels": None}, ["no test", "--write-test-queries"]),
        ({"queries": None, "qrels": None}, ["no test", "--write-test-queries"]),
        ({"test_queries": 5}, ["without labels"]),
        ({"test_share": 0}, ["--test-share 0"]),
        ({"test_share": 20}, ["--test-share 20"]),
        ({"name": "../x"}, ["--name", "plain"]),
        ({"name": "a b"}, ["--name", "plain"]),
        ({"queries": Path("absent.tsv")}, ["absent.tsv does not exist"]),
        ({"queries": Path("raw/a.txt")}, ["a.txt", ".csv"]),
        ({"source": "absent"}, ["absent does not exist"]),
    ],
)
def test_options_that_cannot_be_meant(changes, words):
    """Said before anything is read."""
    four_files()
    refused(*words, **changes)


def test_an_existing_collection_is_left_as_it_is():
    """Not even an empty folder is overwritten."""
    four_files()
    COLLECTION.mkdir(parents=True)
    refused("exists already", "--name")


def test_a_source_of_blanks_is_refused():
    """There would be nothing to rank."""
    put("a.txt", " ")
    label("a.txt")
    refused("blank")
