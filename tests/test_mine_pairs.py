"""The stage `mine_pairs`: what it reads, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from syntriever import files, paths
from syntriever.collection import SCHEMA, Query

ROOT = Path(__file__).parents[1]


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
    assert (metrics["pairs_asked"], metrics["calls"], metrics["undecided"]) == (20, 20, 0)
    assert (metrics["first_position_wins"], metrics["prompt_tokens"]) == (None, None)
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
