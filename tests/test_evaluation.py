"""Scores: the measures, who is judged, unseen queries, equal scores, significance."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from project import run_stage, set_params

from syntriever import evaluation, params, paths, significance
from syntriever.errors import SyntrieverError
from syntriever.evaluation import Split
from syntriever.files import read_json, read_jsonl, write_jsonl


def split(qrels, unseen=()):
    ids = list(qrels)
    judged = [q for q in ids if any(grade >= 1 for grade in qrels[q].values())]
    return Split("test", ids, ids, qrels, judged, [q for q in judged if q in unseen])


def test_measures_by_hand():
    """nDCG, MAP, recall and MRR of a small run, worked out by hand."""
    qrels = {"q": {"a": 1, "b": 2, "c": 0}}
    run = {"q": [("x", 3.0), ("b", 2.0), ("c", 1.5), ("a", 1.0)]}
    found = evaluation.score(run, split(qrels)).loc["q"]
    gain = 2 / math.log2(3) + 1 / math.log2(5)  # trec_eval's gain is the grade itself
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert found["ndcg_at_10"] == pytest.approx(gain / ideal)
    assert found["ndcg_at_1"] == 0
    assert found["ndcg_at_3"] == pytest.approx((2 / math.log2(3)) / ideal)
    assert found["map_at_100"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["recall_at_10"] == 1
    assert found["mrr_at_10"] == 0.5


def test_mrr_is_cut_at_10():
    """A first relevant passage at rank 11 counts 0 for MRR@10."""
    run = {"q": [(f"x{i}", 20.0 - i) for i in range(10)] + [("a", 1.0)]}
    found = evaluation.score(run, split({"q": {"a": 1}})).loc["q"]
    assert found["mrr_at_10"] == 0
    assert found["recall_at_100"] == 1 and found["recall_at_10"] == 0


def test_all_judged_queries_count():
    """An unanswered query counts 0; one without a relevant passage is left out, and does not
    disturb the others."""
    qrels = {"hit": {"a": 1}, "unanswered": {"b": 1}, "only zeros": {"c": 0}, "late": {"d": 1}}
    run = {"hit": [("a", 1.0)], "unanswered": [], "only zeros": [("c", 1.0)], "late": [("d", 1.0)]}
    table = evaluation.score(run, split(qrels))
    assert table["ndcg_at_10"].to_dict() == {"hit": 1, "unanswered": 0, "late": 1}
    found = evaluation.summarise(table, split(qrels, unseen=["unanswered", "hit"]))
    assert found["ndcg_at_10"] == pytest.approx(2 / 3, abs=1e-6)
    assert (found["ndcg_at_10_unseen"], found["queries"], found["queries_unseen"]) == (0.5, 3, 2)


def test_no_unseen_query_is_null_not_zero():
    """Where every query's passage was labelled in training there is no unseen score."""
    table = evaluation.score({"q": [("a", 1.0)]}, split({"q": {"a": 1}}))
    assert evaluation.summarise(table, split({"q": {"a": 1}}))["ndcg_at_10_unseen"] is None


class Ids:
    """A corpus of three passages with identical texts."""

    def __init__(self, *names):
        self.names = names

    def ids(self, rows):
        return [self.names[row] for row in rows]


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
def test_equal_scores_do_not_depend_on_names(names, finished_project, monkeypatch):
    """Three equal passages, the middle one judged: rank 2 whatever the ids are, in the list, in
    the score, and in any tool that sorts the run by score again."""
    monkeypatch.chdir(finished_project)
    settings = params.load(params.EvaluateView).evaluate
    scores = evaluation.strictly_falling(np.ones((1, 3), np.float32))
    found = np.ones((1, 3), bool)
    run = evaluation.to_run(["q"], Ids(*names), scores, np.array([[0, 1, 2]]), found, settings)
    assert [passage for passage, _ in run["q"]] == list(names)
    table = evaluation.score(run, split({"q": {names[1]: 1}}))
    assert table.loc["q", "mrr_at_10"] == 0.5
    written = [(float(f"{value:.9g}"), passage) for passage, value in run["q"]]
    again = sorted(written, key=lambda pair: (np.float32(pair[0]), pair[1]), reverse=True)
    assert [passage for _, passage in again] == list(names)


def test_a_querys_own_id_is_no_answer(finished_project, monkeypatch):
    """A hit with the query's id is removed first, unless told otherwise."""
    monkeypatch.chdir(finished_project)
    settings = params.load(params.EvaluateView).evaluate
    arguments = (
        ["q"], Ids("q", "a"), np.array([[2.0, 1.0]]), np.array([[0, 1]]), np.ones((1, 2), bool),
    )  # fmt: skip
    assert evaluation.to_run(*arguments, settings)["q"] == [("a", 1.0)]
    kept = settings.model_copy(update={"ignore_identical_ids": False})
    assert [p for p, _ in evaluation.to_run(*arguments, kept)["q"]] == ["q", "a"]


def test_bootstrap_against_theory():
    """The interval of a mean of many independent values agrees with the normal one; a clear gain
    is significant, none is not."""
    rng = np.random.default_rng(7)
    values = rng.normal(0.05, 0.2, 2000)
    low, high, p = significance.paired_bootstrap(values, 4000)
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert p < 0.01
    centred = values - values.mean()
    assert significance.paired_bootstrap(centred, 4000)[2] > 0.8
    assert significance.paired_bootstrap(np.zeros(10), 100)[2] == 1
    assert (low, high, p) == significance.paired_bootstrap(values, 4000)


def test_outputs_agree(finished_project):
    """Metrics, per-query scores, run files and significance tell one story, and any trec_eval
    finds the same nDCG in the run files."""
    import pytrec_eval

    for name in ("dev", "test"):
        folder = finished_project / paths.EVALUATION / name
        per_query = pd.read_csv(folder / "per_query.tsv", sep="\t")
        qrels = {}
        for line in (finished_project / paths.qrels(name)).read_text().splitlines()[1:]:
            query, passage, grade = line.split("\t")
            qrels.setdefault(query, {})[passage] = int(grade)
        for system in evaluation.SYSTEMS:
            metrics = read_json(finished_project / f"metrics/evaluate/{name}/{system}.json")
            headline = read_json(finished_project / paths.HEADLINE)[name][system]
            assert headline == metrics["ndcg_at_10"]
            mean = per_query[per_query["system"] == system]["ndcg_at_10"].mean()
            assert mean == pytest.approx(metrics["ndcg_at_10"], abs=1e-5)
            run = {}
            for line in (folder / f"{system}.run").read_text().splitlines():
                query, _, passage, _, value, _ = line.split()
                run.setdefault(query, {})[passage] = float(value)
            again = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
            total = sum(measures["ndcg_cut_10"] for measures in again.values())
            assert total / len(qrels) == pytest.approx(metrics["ndcg_at_10"], abs=1e-5)
        steps = json.loads((folder / "significance.json").read_text())["steps"]
        assert {step["system"] for step in steps} == {"untrained", "stage1", "stage2"}


def test_dev_alone_leaves_test_unseen(project):
    """`evaluate.splits: [dev]` writes no test score anywhere."""
    set_params(project, {"evaluate.splits": ["dev"]})
    run_stage("evaluate")
    made = [
        path.name
        for top in (paths.METRICS / "evaluate", paths.EVALUATION, paths.PLOTS / "evaluate")
        for path in top.rglob("*")
    ]
    assert "dev" in made and "ndcg_dev.json" in made
    assert not [name for name in made if "test" in name]


def test_copies_in_the_corpus(project):
    """Three unjudged copies of a relevant passage change no other score by their names, and the
    copies rank behind the judged original, which stands first in the corpus."""
    corpus = list(read_jsonl(project / "collection/corpus.jsonl"))
    relevant = (project / "collection/qrels/test.tsv").read_text().splitlines()[1].split("\t")[1]
    original = next(line for line in corpus if line["_id"] == relevant)
    copies = [original | {"_id": name} for name in ("000", "zzz", "mmm")]
    write_jsonl(project / "collection/corpus.jsonl", corpus + copies)
    run_stage("prepare")
    assert read_json(paths.METRICS / "prepare.json")["duplicate_passages"] == 3
    for system in ("untrained", "stage1", "stage2"):
        run_stage("embed", system)
    run_stage("evaluate")
    lines = (paths.EVALUATION / "test/stage2.run").read_text().splitlines()
    ranks = {}
    for line in lines:
        query, _, passage, rank, *_ = line.split()
        ranks.setdefault(query, {})[passage] = int(rank)
    for found in ranks.values():
        assert found[relevant] < found["000"] < found["zzz"] < found["mmm"]


def test_a_split_without_judgements_is_said(project):
    """A split that the collection lacks is one message."""
    paths.qrels("dev").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(SyntrieverError, match="no judged dev query"):
        run_stage("evaluate")


def test_relevant_passages_with_the_querys_id_are_refused(project):
    """Where the relevant passage has the query's own id, ignoring such hits would score 0."""
    passage = paths.qrels("test").read_text().splitlines()[1].split("\t")[1]
    queries = list(read_jsonl(paths.queries("test")))
    queries[0]["query_id"] = passage
    write_jsonl(paths.queries("test"), queries)
    paths.qrels("test").write_text(f"query-id\tcorpus-id\tscore\n{passage}\t{passage}\t1\n")
    with pytest.raises(SyntrieverError, match="ignore_identical_ids"):
        run_stage("evaluate")


@pytest.mark.parametrize(
    ("line", "kind"), [("nobody\tp1\t1", "query"), ("{}\tnowhere\t1", "passage")]
)
def test_judgements_of_what_is_not_there_are_refused(project, line, kind):
    """They are of another run: the average would leave queries out, or be lower, without a word."""
    file = paths.qrels("test")
    query = file.read_text().splitlines()[1].split("\t")[0]
    file.write_text(f"{file.read_text()}{line.format(query)}\n")
    with pytest.raises(SyntrieverError, match=f"test.tsv judges the {kind}.*not there"):
        run_stage("evaluate")
