"""The report: what stands on the page, that texts stay texts, and what it does without plots."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from project import run_stage

from syntriever import paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl, write_json, write_jsonl
from syntriever.report import charts, collect, curves
from syntriever.report.collect import SYSTEMS
from syntriever.report.page import embedded

PAGE = Path("reports/index.html")
NASTY = '</script><script>window.broken = 1</script><!-- <img src=x onerror="window.broken=1">'


class Reader(HTMLParser):
    """Notes the page's elements and its data."""

    def __init__(self):
        super().__init__()
        self.elements, self.data, self._inside = [], "", False

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self._inside = attributes.get("id") == "data"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, text):
        if self._inside:
            self.data += text


def page():
    """Make the page in the current project and read it."""
    run_stage("report")
    reader = Reader()
    reader.feed(PAGE.read_text("utf-8"))
    return reader, json.loads(reader.data)


def ids(reader, tag):
    return [attributes.get("id") for name, attributes in reader.elements if name == tag]


def test_same_inputs_same_bytes(project):
    """The page holds no time and no path of this machine, and comes out the same again."""
    run_stage("report")
    first = PAGE.read_bytes()
    PAGE.unlink()
    run_stage("report")
    assert PAGE.read_bytes() == first
    assert str(project).encode() not in first and str(Path.home()).encode() not in first


def test_every_test_query_with_its_ranks(project):
    """Each judged query is there; ranks and grades are those of the run files and the qrels."""
    _, data = page()
    assert data["split"] == "test"
    judged = {line.split("\t")[0] for line in paths.qrels("test").read_text().splitlines()[1:]}
    queries = {query["id"]: query for query in data["tested"]["queries"]}
    assert set(queries) == judged
    query = next(iter(queries.values()))
    for place, system in enumerate(SYSTEMS):
        top = sorted((row for row in query["rows"] if 1 <= row[2 + place] <= 10),
                     key=lambda row: row[2 + place])  # fmt: skip
        lines = (paths.EVALUATION / f"test/{system}.run").read_text().splitlines()
        ranked = [line.split()[2] for line in lines if line.split()[0] == query["id"]][:10]
        assert [data["passages"][row[0]][0] for row in top] == ranked
    relevant = {data["passages"][row[0]][0] for row in query["rows"] if row[1] >= 1}
    assert relevant == {
        line.split("\t")[1]
        for line in paths.qrels("test").read_text().splitlines()[1:]
        if line.split("\t")[0] == query["id"]
    }


def test_each_passage_text_once(project):
    """A passage stands once on the page, title and text apart, as the collection has it."""
    _, data = page()
    there = {line["_id"]: line for line in read_jsonl(Path("collection/corpus.jsonl"))}
    shown = data["passages"]
    assert len({passage for passage, _, _ in shown}) == len(shown)
    for passage, title, text in shown:
        assert (title, text) == (there[passage]["title"], there[passage]["text"].strip())


def test_what_the_teacher_wrote_and_preferred(project):
    """Every training query with its texts, every comparison with the preferred side."""
    _, data = page()
    verified = list(read_jsonl(paths.VERIFIED))
    assert [
        (q["id"], q["cot"], q["positive"], q["verdict"]) for q in data["taught"]["queries"]
    ] == [(r["query_id"], r["cot"], r["positive"], r["verdict"]) for r in verified]
    names = [passage for passage, _, _ in data["passages"]]
    shown = [
        (query["id"], names[a], names[b], {0: None, 1: names[a], 2: names[b]}[side])
        for query in data["compared"]["queries"]
        for a, b, side in query["pairs"]
    ]
    assert shown == [
        (r["query_id"], r["passage_1"], r["passage_2"], r["preferred"])
        for r in read_jsonl(paths.COMPARISONS)
    ]


def test_texts_stay_texts(project):
    """Markup in a query, a chain of thought or a passage becomes no element."""
    records = list(read_jsonl(paths.VERIFIED))
    records[0] |= {"query": NASTY, "cot": NASTY, "positive": NASTY}
    write_jsonl(paths.VERIFIED, records)
    plain, _ = page()
    assert "broken" in plain.data
    assert [tag for tag, _ in plain.elements].count("script") == 2
    assert not [tag for tag, _ in plain.elements if tag == "img"]
    assert json.loads(plain.data)["taught"]["queries"][0]["cot"] == NASTY


@pytest.mark.parametrize("text", [NASTY, "<!--<script>", "\u2028\u2029 \\ \" & '", "naïve – 日本"])
def test_embedded_json_comes_back(text):
    """What is embedded has no `<` and is the same when it is parsed."""
    assert "<" not in embedded({"text": text})
    assert json.loads(embedded({"text": text})) == {"text": text}


def test_nothing_from_elsewhere(project):
    """The page names no other file: no link out, no source, and its policy forbids them."""
    reader, _ = page()
    named = [a[key] for _, a in reader.elements for key in ("src", "href", "action") if key in a]
    assert all(name.startswith(("#", "data:,")) for name in named)
    [policy] = [a["content"] for _, a in reader.elements if "http-equiv" in a]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_sections_and_navigation_agree(project):
    """Each link of the navigation leads to a section; without written queries theirs is hidden."""
    write_jsonl(paths.WRITTEN, [])
    reader, _ = page()
    anchors = [a["href"][1:] for tag, a in reader.elements if tag == "a"]
    assert set(anchors) == set(ids(reader, "section"))
    [written] = [a for tag, a in reader.elements if a.get("id") == "written"]
    assert "hidden" in written
    assert len(set(filter(None, (a.get("id") for _, a in reader.elements)))) == sum(
        "id" in a for _, a in reader.elements
    )
    assert all("scope" in a for tag, a in reader.elements if tag == "th"), (
        "each th says what it heads"
    )


def test_written_queries_where_there_are_some(project):
    """A written query is shown with its passage and kind."""
    passage = next(read_jsonl(Path("collection/corpus.jsonl")))["_id"]
    record = {"query_id": "w1", "query": "who wrote this", "passage_id": passage, "kind": "direct"}
    write_jsonl(paths.WRITTEN, [record | {"hard_negatives": []}])
    reader, data = page()
    [shown] = data["written"]["queries"]
    assert data["passages"][shown["passage"]][0] == passage and shown["kind"] == "direct"
    assert all("hidden" not in a for tag, a in reader.elements if tag in ("section", "li"))


def test_dev_alone(project):
    """Without test the page is about dev."""
    for folder in (paths.EVALUATION, paths.METRICS / "evaluate"):
        shutil.rmtree(folder / "test")
    _, data = page()
    assert data["split"] == "dev"
    text = PAGE.read_text("utf-8")
    assert "Each dev query" in text and "Results on" not in text


def test_without_plots(project):
    """Missing plots are said, and are no fault."""
    shutil.rmtree("plots")
    page()
    assert "There are no plots" in PAGE.read_text("utf-8")


def test_empty_ranking(project):
    """A query for which BM25 found nothing is shown with what the others found."""
    run = paths.EVALUATION / "test/bm25.run"
    first = run.read_text().split()[0]
    kept = [line for line in run.read_text().splitlines(True) if line.split()[0] != first]
    run.write_text("".join(kept))
    _, data = page()
    [query] = [query for query in data["tested"]["queries"] if query["id"] == first]
    assert all(row[2] == 0 for row in query["rows"]) and any(row[5] for row in query["rows"])


def test_no_comparisons_no_labels(project):
    """Nothing compared and nothing labelled leave their lists empty."""
    write_jsonl(paths.COMPARISONS, [])
    paths.qrels("train").write_text("query-id\tcorpus-id\tscore\n")
    _, data = page()
    assert data["compared"]["queries"] == []
    assert not any(query["labelled"] for query in data["taught"]["queries"])


def test_large_collections_are_sampled(project, monkeypatch):
    """With more queries than open at once, those that changed most stay, and the page says so."""
    monkeypatch.setitem(collect.__globals__, "MOST_QUERIES", 3)
    _, data = page()
    tested = data["tested"]
    assert len(tested["queries"]) == 3 and tested["of"] > 3
    change = [abs(query["scores"][3] - query["scores"][1]) for query in tested["queries"]]
    assert sorted(change) == sorted(map(abs, tested["changes"]))[-3:]
    assert f"Here are 3 of {tested['of']}" in PAGE.read_text("utf-8")
    assert len(data["taught"]["queries"]) <= 3 < data["taught"]["of"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda: (paths.EVALUATION / "test/stage2.run").unlink(), ("stage2.run", "dvc repro")),
        (lambda: (paths.EVALUATION / "test/stage2.run").write_text("a b\n"), ("run, line 1",)),
        (lambda: (paths.EVALUATION / "test/per_query.tsv").write_text("a\tb\n1\t2\n"), ("line 2",)),
        (lambda: (paths.PLOTS / "evaluate/ndcg_test.json").write_text("[1]"), ("ndcg_test.json",)),
        (
            lambda: write_jsonl(
                paths.COMPARISONS,
                [next(read_jsonl(paths.COMPARISONS)) | {"passage_1": "of another run"}],
            ),
            ("'of another run'", "different runs"),
        ),
        (lambda: shutil.rmtree(paths.EVALUATION), ("data/evaluation", "dvc repro")),
    ],
)
def test_broken_inputs(project, damage, words):
    """A fault names the file and the mend, and leaves the page that stood there."""
    before = PAGE.read_bytes()
    damage()
    with pytest.raises(SyntrieverError) as error:
        run_stage("report")
    assert all(word in str(error.value) for word in words)
    assert PAGE.read_bytes() == before


def test_what_the_results_say(project):
    """The words beside the numbers follow the interval of each step."""
    path = paths.EVALUATION / "test/significance.json"
    found = read_json(path)
    for step in found["steps"]:
        step |= {"low": -0.1, "high": 0.1} if step["system"] == "stage2" else {"low": 0.1}
        step["high"] = max(step["high"], step["low"])
    write_json(path, found)
    page()
    text = PAGE.read_text("utf-8")
    assert text.count("(p = ") == 4  # two steps, dev and test
    assert "may be chance: its interval holds 0" in text


def test_training_curves(tmp_path, monkeypatch):
    """Long logs are averaged, values that are no numbers left out, strange lines refused."""
    monkeypatch.chdir(tmp_path)
    folder = paths.PLOTS / "train_stage1/plots/metrics"
    folder.mkdir(parents=True)
    rows = "".join(f"{i}\t{i % 2}\n" for i in range(1, 1001))
    (folder / "loss.tsv").write_text("step\tloss\n" + rows)
    (folder / "grad_norm.tsv").write_text("step\tgrad_norm\n1\tnan\n2\t3.0\n")
    found = curves.training_curves("stage1")
    assert len(found["loss"]) <= curves.MOST_POINTS
    assert found["grad_norm"] == [(2.0, 3.0)]
    (folder / "loss.tsv").write_text("step\tloss\nfirst\t1\n")
    with pytest.raises(SyntrieverError, match=r"loss\.tsv, line 2"):
        curves.training_curves("stage1")
    assert curves.training_curves("stage2") == {}


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-5, 2e-5], [-1.0, 3.0], [5.0], [1e6, 2e9]])
def test_charts_hold_any_values(values):
    """A chart of any values has numbers in all places, inside its frame."""
    points = list(enumerate(values, start=1))
    drawn = charts.lines("a chart", [charts.Line("stage1", "last <b>", points)])
    assert "nan" not in drawn and "inf" not in drawn and "<b>" not in drawn
    first = drawn.split('class="line" d="M')[1].split('"')[0]
    for place in first.split("L"):
        x, y = map(float, place.split())
        assert 0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT


def test_labels_of_lines_do_not_overlap():
    """Lines that end at one place have names that can be read."""
    same = [
        charts.Line(style, style, [(1, 0.0), (2, 0.0)])
        for style in ("bm25", "untrained", "stage1", "stage2")
    ]
    drawn = charts.lines("a chart", same)
    heights = sorted(float(p.split(' y="')[1].split('"')[0])
                     for p in drawn.split("<text") if 'class="label' in p)  # fmt: skip
    assert all(b - a >= 14.9 for a, b in pairwise(heights))
    assert heights[-1] <= charts.HEIGHT - 30


def test_nothing_heavy_is_imported(project):
    """The stage loads neither torch nor faiss."""
    from project import ROOT

    code = (
        "import sys; from stages.report import report; report.__wrapped__(); "
        "print([m for m in ('torch', 'faiss', 'sentence_transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, cwd=project,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
