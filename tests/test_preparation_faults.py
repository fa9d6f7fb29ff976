"""A faulty collection is one message with file, line and mend, and leaves nothing behind."""

from pathlib import Path

import pytest
from small_collections import CORPUS, HEADER, QUERIES, lines, outputs, prepare, refused, view, write

from syntriever import collection_files, preparation
from syntriever.errors import SyntrieverError


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Outputs are relative to the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "True, of type bool"),
        (1.5, "1.5, of type float"),
        (None, "missing or null"),
        ("", "no white space"),
        ("two words", "no white space"),
        ("tab\t", "no white space"),
        (["p"], "of type list"),
    ],
)
@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_other_ids_are_refused(name, value, words):
    """Only text and whole numbers are ids."""
    records = {"corpus": CORPUS, "queries": QUERIES}[name]
    write(**{name: [*records, {"_id": value, "text": "something"}]})
    refused(f"collection/{name}.jsonl, line 7", words)


def test_a_missing_id_is_refused():
    """So is a line that calls its id otherwise."""
    write(corpus=[*CORPUS, {"id": "p7", "text": "something"}])
    refused("collection/corpus.jsonl, line 7", '"_id" is missing', "unique text id")


@pytest.mark.parametrize("second", ["p1", 7])
def test_a_doubled_passage_id_names_both_lines(second):
    """Also where one is blank, or one is written as a number."""
    corpus = [*CORPUS, {"_id": "7", "text": ""}, {"_id": second, "text": "another"}]
    write(corpus=corpus)
    first = {"p1": 2, 7: 7}[second]
    refused("corpus.jsonl, line 8", f"stands already in line {first}", "Remove one of the two")


def test_ids_with_equal_hashes_are_no_doubles(monkeypatch):
    """64-bit hashes only raise a suspicion; the ids themselves decide."""
    monkeypatch.setattr(collection_files, "_hash", lambda text: 1)
    write()
    prepare()
    write(corpus=[*CORPUS, CORPUS[3]])
    with pytest.raises(SyntrieverError, match=r"line 7.*already in line 4"):
        prepare()


def test_a_doubled_query_id_names_both_lines():
    """Which of the two texts is meant nobody can know."""
    write(queries=[*QUERIES, {"_id": "q2", "text": "another"}])
    refused("collection/queries.jsonl, line 7", "'q2'", "line 3", "Remove one of the two")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"_id": "x", "title": "t", "contents": "c"}, '"text" is missing'),
        ({"_id": "x", "title": "t", "text": 5}, '"text" is of type int. It must be text or null'),
        (
            {"_id": "x", "title": ["t"], "text": "c"},
            '"title" is of type list. It must be text or null',
        ),
        ({"_id": "x", "text": "half \ud83d"}, "half a character ('\\ud83d'). Remove it"),
    ],
)
def test_a_passage_without_proper_text_is_refused(record, words):
    """A field of another name or type is an error, not a blank passage."""
    write(corpus=[*CORPUS, record])
    refused("collection/corpus.jsonl, line 7", words)


@pytest.mark.parametrize("text", ["", "  \t", None])
def test_a_blank_query_is_refused(text):
    """The line is named."""
    write(queries=[*QUERIES[:2], {"_id": "x", "text": text}, *QUERIES[2:]])
    refused("collection/queries.jsonl, line 3", "the query is blank", "Give it a text")


@pytest.mark.parametrize("name", ["corpus", "queries"])
@pytest.mark.parametrize(
    ("line", "words"),
    [('{"_id": "x", "text": ', "not JSON"), ('["x"]', "a JSON object is expected")],
)
def test_a_line_that_is_no_json_object_is_refused(name, line, words):
    """Each line must be one."""
    records = {"corpus": CORPUS, "queries": QUERIES}[name]
    write(**{name: lines(records) + line + "\n"})
    refused(f"collection/{name}.jsonl, line 7", words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("q3 p4 1", "separated by tabs"),
        ("q3\t0\tp4\t1", "separated by tabs"),
        ("q3\tp4", "separated by tabs"),
        ("q3\t\t1", "separated by tabs"),
        ("q3\tp4\t0.5", "'0.5'. It must be a whole number"),
        ("q3\tp4\t-1", "'-1'. It must be a whole number"),
        ("q3\tp4\tyes", "'yes'. It must be a whole number"),
        ("q99\tp4\t1", "query 'q99' is not in queries.jsonl. Add it there or remove the line"),
        ("q3\tp99\t1", "passage 'p99' is not in corpus.jsonl. Add it there or remove the line"),
    ],
)
def test_a_faulty_judgement_is_refused(row, words):
    """Three columns, whole grades from 0 up, ids that exist; else the line is named."""
    write(test=f"{HEADER}q3\tp4\t1\n{row}\n")
    refused("collection/qrels/test.tsv, line 3", words)


def test_a_judgement_that_is_not_utf8_is_refused():
    """The line is named, and the mend."""
    write()
    Path("collection/qrels/test.tsv").write_bytes(b"q3\tp4\t1\nq3\tp\xe9\t1\n")
    refused("collection/qrels/test.tsv, line 2", "not UTF-8", "Convert the file")


def test_contradicting_judgements_name_both_lines():
    """Two grades for one pair are an error."""
    write(test=[("q3", "p4", 1), ("q4", "p4", 2), ("q3", "p4", 2)])
    refused("test.tsv, line 4", "'q3'", "'p4'", "another score in line 2", "Remove one of the two")


@pytest.mark.parametrize("text", ["", HEADER])
def test_a_qrels_file_without_judgements_is_refused(text):
    """Empty, or its header alone."""
    write(dev=text)
    refused("collection/qrels/dev.tsv holds no judgements", "Fill it, or delete it")


@pytest.mark.parametrize("name", ["corpus", "queries"])
@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_refused(name, text):
    """No bytes, or blank lines alone."""
    write(**{name: text})
    refused(f"collection/{name}.jsonl is empty", "a line")


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels"])
def test_a_folder_that_is_no_collection_is_refused(name):
    """The missing part is named, and the command that finds collections."""
    write()
    Path("collection", name).rename("elsewhere")
    with pytest.raises(SyntrieverError) as error:
        prepare()
    assert f"collection/{name} does not exist" in str(error.value)
    assert "stages.collection get NAME" in str(error.value)


def test_top_k_beyond_the_corpus_is_refused():
    """Blank passages don't count: they are never retrieved."""
    write(corpus=[*CORPUS, {"_id": "blank", "text": ""}])
    assert prepare(top_k=6)["passages"] == 6
    for file in outputs():
        Path(file).unlink()
    refused("mine_pairs.top_k is 7", "only 6 passages", "Lower top_k", top_k=7)


def test_a_fault_leaves_what_stood_there():
    """An earlier prepared form outlives a failing run, byte for byte."""
    write()
    prepare()
    before = outputs()
    write(corpus=[*CORPUS, CORPUS[0]])
    with pytest.raises(SyntrieverError):
        prepare()
    assert outputs() == before


def test_an_encoder_that_cannot_be_fetched_leaves_nothing():
    """The encoder comes last, and its failing takes the written files back."""

    def no_network():
        raise SyntrieverError("no network")

    write()
    with pytest.raises(SyntrieverError, match="no network"):
        preparation.prepare(view(), no_network)
    assert outputs() == {}
