"""Scores on other collections: the same as evaluate's, whatever the folder is called."""

import shutil
from pathlib import Path

import pytest
from project import hashes, run_stage
from small_collections import QUERIES, write

from stages.transfer import transfer as command
from syntriever import params, paths, transfer
from syntriever.errors import SyntrieverError
from syntriever.evaluation import SYSTEMS
from syntriever.files import read_json, read_jsonl, write_jsonl

NO_MEASURES = ("ndcg_at_10_unseen", "queries_unseen")


def run(name="other", folder="collection"):
    """Run the stage and return what it wrote."""
    run_stage("transfer", name, Path(folder))
    return read_json(transfer.metrics_file(name))


@pytest.fixture
def other(project):
    """The small collection of six passages beside the finished project's own."""
    shutil.rmtree("collection")
    write()
    return project


def test_the_same_collection_scores_as_in_evaluate(project):
    """All systems and measures agree to the last digit, and so does the step over the untrained
    encoder; a query without a relevant passage and a blank passage change nothing."""
    queries = list(read_jsonl("collection/queries.jsonl"))
    corpus = list(read_jsonl("collection/corpus.jsonl"))
    write_jsonl(Path("collection/queries.jsonl"), [*queries, {"_id": "x", "text": "unjudged"}])
    blank = {"_id": "blank", "title": " ", "text": None}
    write_jsonl(Path("collection/corpus.jsonl"), [corpus[0], blank, *corpus[1:]])
    with Path("collection/qrels/test.tsv").open("a") as file:
        file.write(f"x\t{corpus[0]['_id']}\t0\nx\tblank\t1\n")
    found = run()
    assert list(found) == list(SYSTEMS)
    run_stage("prepare")
    for system in transfer.ENCODERS:
        run_stage("embed", system)
    run_stage("evaluate")
    significance = read_json(paths.EVALUATION / "test/significance.json")
    for system in SYSTEMS:
        assert found[system].pop("interval") == significance["intervals"][system]
        expected = read_json(paths.METRICS / "evaluate/test" / f"{system}.json")
        for name in NO_MEASURES:
            expected.pop(name)
        steps = {name: found[system].pop(name, None) for name in ("gain", "low", "high", "p")}
        assert found[system] == expected
        assert expected["queries"] == 6
        assert (steps["gain"] is None) == (system in ("bm25", "untrained"))
    (step,) = [
        step
        for step in significance["steps"]
        if (step["system"], step["queries"]) == ("stage1", "all")
    ]
    again = run()["stage1"]
    assert again["gain"] == step["ndcg_at_10_gain"]
    assert [again[name] for name in ("low", "high", "p")] == [
        step[name] for name in ("low", "high", "p")
    ]


def test_twice_the_same_bytes_and_nothing_else(project, capsys):
    """Two metrics files are all that stays, and a second run gives its bytes again."""
    before = hashes(project)
    found = run()
    once = hashes(project)
    assert once.keys() - before.keys() == {
        "metrics/transfer/other.json",
        "metrics/ndcg_at_10_on/other.json",
    }
    headline = read_json(transfer.headline_file("other"))["other"]
    assert headline == {system: found[system]["ndcg_at_10"] for system in SYSTEMS}
    assert "untrained encoder" in capsys.readouterr().out
    Path("data/.transfer.part").mkdir()  # as a killed run leaves it
    Path("data/.transfer.part/corpus.arrow").touch()
    run()
    assert hashes(project) == once
    assert not Path("data/.transfer.part").exists()


def test_equal_encoders_are_run_once(project, monkeypatch):
    """A stage 2 that is stage 1, but for its card, is not encoded again and scores the same."""
    shutil.rmtree(paths.model("stage2"))
    shutil.copytree(paths.model("stage1"), paths.model("stage2"))
    (paths.model("stage2") / "README.md").write_text("another card")
    loaded = []
    load = transfer.encoder.load
    monkeypatch.setattr(
        transfer.encoder, "load", lambda folder, device: loaded.append(folder) or load(folder)
    )
    found = run()
    assert loaded == [paths.model("untrained"), paths.model("stage1")]
    assert found["stage2"] == found["stage1"] != found["untrained"]


def test_other_params_reach_the_scores(project):
    """BM25 is the one that the params describe."""
    settings = params.load(params.TransferView)
    changed = settings.evaluate.model_copy(update={"bm25_k1": 50.0, "bm25_b": 1.0})
    scores = [
        transfer.score(Path("collection"), settings.model_copy(update={"evaluate": one}))
        for one in (settings.evaluate, changed)
    ]
    assert scores[0]["bm25"] != scores[1]["bm25"]
    assert scores[0]["stage2"] == scores[1]["stage2"]


def test_a_collection_with_nothing_to_train_on_is_scored(other):
    """test.tsv is all that it needs; a fault in another qrels file does not matter."""
    write(train=None, dev="nonsense\n")
    assert run()["untrained"]["queries"] == 1


def test_the_querys_own_passage_is_left_out(other):
    """A passage with the query's id is ranked for the others only; where it is the relevant one
    that is an error."""
    corpus = [{"_id": f"q{i}", "text": "number 3 ddddd"} for i in range(2, 5)]
    write(corpus, train=None, dev=None, test=[("q3", "q2", 1)])
    found = run()
    assert found["bm25"]["ndcg_at_1"] == 1  # q2 stands first in the corpus of equals
    write(corpus, train=None, dev=None, test=[("q2", "q3", 1), ("q3", "q4", 1)])
    assert run()["bm25"]["mrr_at_10"] == pytest.approx((1 + 0.5) / 2)
    write(corpus, train=None, dev=None, test=[("q3", "q3", 1)])
    with pytest.raises(SyntrieverError, match=r"collection/qrels/test\.tsv.*ignore_identical_ids"):
        run()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": None}, ("qrels/test.tsv does not exist", "evaluate.collections")),
        (
            {"test": [("q3", "p4", 0)]},
            ("qrels/test.tsv: no query has a passage of score 1 or more",),
        ),
        ({"test": "query-id\tcorpus-id\tscore\n"}, ("holds no judgements",)),
        ({"test": [("nobody", "p4", 1)]}, ("line 2", "'nobody'")),
        ({"test": [("q3", "nowhere", 1)]}, ("test.tsv, line 2", "'nowhere'")),
        ({"corpus": '{"_id": "a"}\n'}, ("corpus.jsonl, line 1", '"text" is missing')),
        ({"corpus": '{"_id": "p4", "text": ""}\n'}, ("all passages are blank",)),
        ({"corpus": ""}, ("corpus.jsonl is empty",)),
        ({"queries": [*QUERIES, QUERIES[0]]}, ("queries.jsonl, line 7", "stands already")),
        ({"queries": "{"}, ("queries.jsonl, line 1", "not JSON")),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(other, changes, words):
    """Each names the file and what is wrong; no metrics, no workplace."""
    shutil.rmtree("collection")
    write(**changes)
    with pytest.raises(SyntrieverError) as error:
        run()
    for word in words:
        assert word in str(error.value)
    assert not Path("metrics/transfer").exists()
    assert not Path("data/.transfer.part").exists()


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels"])
def test_what_the_folder_lacks_is_named(other, missing):
    """A folder that is no collection, or a path that leads nowhere."""
    path = Path("collection") / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SyntrieverError, match=f"collection/{missing}.* does not exist"):
        run()
    with pytest.raises(SyntrieverError, match=r"nowhere/corpus\.jsonl does not exist"):
        run(folder="nowhere")


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b", "a.json"])
def test_a_name_is_a_plain_name(other, name):
    """It becomes a file's name, and a key in params.yaml, whose rule it follows."""
    with pytest.raises(SyntrieverError, match="no name for a collection"):
        run(name)


def test_an_untrained_project_says_what_is_missing(other):
    """Without models there is nothing to score, and the error says how to get them."""
    shutil.rmtree(paths.model("stage2"))
    with pytest.raises(SyntrieverError, match=r"models/stage2 holds no encoder.*dvc repro"):
        run()


def test_only_a_clear_fall_is_warned_of():
    """More than 0.02 below the untrained encoder; BM25 has not been trained."""
    measures = {system: {"ndcg_at_10": 0.5} for system in SYSTEMS}
    measures["bm25"]["ndcg_at_10"] = 0.1
    measures["stage1"] |= {"ndcg_at_10": 0.469, "gain": -0.031}
    measures["stage2"] |= {"ndcg_at_10": 0.48, "gain": -0.02}
    (warning,) = transfer.warnings("there", measures)
    assert warning == (
        "training cost 0.0310 nDCG@10 on there: untrained encoder 0.5000, "
        "+ distillation (stage 1) 0.4690"
    )


def test_the_command_prints_table_and_warnings(project, monkeypatch, capsys):
    """Through the command line: the table on stdout, the warning on stderr, exit code 0."""
    monkeypatch.setattr("sys.argv", ["transfer", "mine", "collection"])
    monkeypatch.setattr(transfer, "TOLERATED_FALL", -1)
    with pytest.raises(SystemExit) as end:
        command()
    out, err = capsys.readouterr()
    assert end.value.code == 0
    assert out.startswith("mine: 6 test queries")
    assert "p = " in out and err.count("warning: training cost") == 2
