"""Search for people: the same rankings as evaluation, a light start, and good manners."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from project import ROOT, inside
from typer.testing import CliRunner

from stages.search import app
from syntriever import encoder, light_encoder, params, paths
from syntriever.collection import SCHEMA
from syntriever.errors import SyntrieverError
from syntriever.files import read_jsonl
from syntriever.searching import SENTENCES, Hit, Searcher, moves, plain, sentences

TEXTS = ["one", "two words", "a rather longer text " * 20, "", "Übung: 東京 – naïve"]
QUERY = "why does my bread collapse"


def run(*arguments, **options):
    """Run the command in this process, in the current folder."""
    return CliRunner().invoke(app, arguments, catch_exceptions=True, **options)


def start(*arguments, **options):
    """Start the command as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(
        [sys.executable, "-m", "stages.search", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {}),
        **options,
    )


def by_library(folder, kind):
    import torch

    with torch.inference_mode():
        return encoder.forward(encoder.load(folder).eval(), TEXTS, kind, 32).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_the_encoders(project, pooling):
    """Without sentence_transformers, each pooling gives the same vectors, prefixes included."""
    settings = params.load_all().encoder.model_copy(update={"pooling": pooling})
    encoder.prepare(settings, project / "copy")
    encode = light_encoder.load(project / "copy")
    assert encode.__qualname__.startswith("_load_light")
    for kind in ("query", "document"):
        assert np.allclose(encode(TEXTS, kind), by_library(project / "copy", kind), atol=1e-6)
    assert not np.allclose(encode(TEXTS, "query"), encode(TEXTS, "document"), atol=1e-3)


def test_trained_models_are_read_light(finished_project):
    """What training wrote gives the stored vectors of the test queries."""
    with inside(finished_project):
        encode = light_encoder.load(paths.model("stage2"))
        assert encode.__qualname__.startswith("_load_light")
        queries = [line["query"] for line in read_jsonl(paths.queries("test"))]
        stored = np.load(paths.embeddings("stage2") / "test.npy")
    assert np.allclose(encode(queries, "query"), stored, atol=1e-6)


def test_other_encoders_are_left_to_the_library(project):
    """A pooling that only sentence_transformers knows costs time, not another vector."""
    file = project / "models/stage2/1_Pooling/config.json"
    config = json.loads(file.read_text())
    for change in ({"pooling_mode": "lasttoken"}, {"include_prompt": False}):
        file.write_text(json.dumps(config | change))
        encode = light_encoder.load(paths.model("stage2"))
        assert encode.__qualname__.startswith("_load_by_library")
        expected = by_library(paths.model("stage2"), "query")
        assert np.allclose(encode(TEXTS, "query"), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "modules.json"])
def test_a_damaged_model_is_said(project, name):
    """Damage is one message, whichever file it is in."""
    file = paths.model("stage2") / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SyntrieverError, match="can't be loaded; run the stage"):
        light_encoder.load(paths.model("stage2"))


@pytest.mark.parametrize("system", ["untrained", "stage1", "stage2"])
def test_ranks_as_evaluation_does(finished_project, system):
    """The ranking of a test query is that of its run file."""
    with inside(finished_project):
        query = next(read_jsonl(paths.queries("test")))
        shown = run(query["query"], "--system", system, "--k", "10", "--json")
        lines = (paths.EVALUATION / f"test/{system}.run").read_text().splitlines()
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    expected = [line.split() for line in lines if line.split()[0] == query["query_id"]][:10]
    assert [r["passage_id"] for r in records] == [fields[2] for fields in expected]
    assert [r["rank"] for r in records] == list(range(1, 11))
    scores = [float(fields[4]) for fields in expected]
    assert np.allclose([r["score"] for r in records], scores, atol=1e-5)
    assert {r["system"] for r in records} == {system}
    assert {r["query"] for r in records} == {query["query"]}


def test_the_sentence_is_the_nearest(finished_project):
    """The sentence shown is the passage's own that the encoder puts nearest to the query."""
    with inside(finished_project):
        searcher = Searcher("stage2")
        encode = light_encoder.load(paths.model("stage2"))
        for hit in searcher.search(QUERY, 3):
            candidates = sentences(hit.text)
            similar = encode(candidates, "document") @ encode([QUERY], "query")[0]
            assert hit.sentence == candidates[int(similar.argmax())]
            assert hit.title and hit.title not in hit.text[: len(hit.title)]


def test_a_copy_stands_in_the_corpus_order(project):
    """Equal vectors rank by the corpus file."""
    file = paths.embeddings("stage2") / "corpus.npy"
    vectors = np.load(file)
    vectors[:] = vectors[0]
    np.save(file, vectors)
    ids = [line["_id"] for line in read_jsonl(project / "collection/corpus.jsonl")]
    assert [hit.passage_id for hit in Searcher("stage2").search(QUERY, 4)] == ids[:4]


def test_more_than_there_is(finished_project, monkeypatch):
    """k beyond the corpus shows the whole corpus once."""
    monkeypatch.setattr("syntriever.searching.sentences", lambda text: [])  # they take time
    with inside(finished_project):
        shown = run(QUERY, "--k", "100000", "--json")
        count = sum(1 for _ in read_jsonl("collection/corpus.jsonl"))
    found = [json.loads(line)["passage_id"] for line in shown.stdout.splitlines()]
    assert len(set(found)) == len(found) == count


def test_one_passage_of_each_document(project):
    """A long document does not push out the others, however many of its passages are better."""
    everything = list(Searcher("stage2").search(QUERY, 1000))
    long = {hit.passage_id for hit in everything[:-4]}
    rename_passages(lambda own, row: f"long.md#{row + 1}" if own in long else f"{own}#1")
    hits = list(Searcher("stage2").search(QUERY, 4, by_document=True))
    shown = run(QUERY, "--json", "-k", "4", "--by-document")
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert [hit.text for hit in hits] == [everything[0].text] + [h.text for h in everything[-4:-1]]
    assert [json.loads(line)["passage_id"] for line in shown.stdout.splitlines()] == [
        hit.passage_id for hit in hits
    ]
    assert len(list(Searcher("stage2").search(QUERY, 9, by_document=True))) == 5


def rename_passages(name):
    """Write the prepared corpus again with other ids."""
    table = pa.ipc.open_file(pa.memory_map(str(paths.CORPUS))).read_all()
    ids = [name(own, row) for row, own in enumerate(table.column("id").to_pylist())]
    renamed = table.set_column(0, SCHEMA.field("id"), pa.array(ids, SCHEMA.field("id").type))
    paths.CORPUS.unlink()
    with pa.OSFile(str(paths.CORPUS), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        writer.write_table(renamed)


def test_what_people_see(finished_project, monkeypatch):
    """Two lines a passage; colour on a terminal alone, and not under NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    with inside(finished_project):
        piped, terminal = run(QUERY, "-k", "3"), run(QUERY, "-k", "3", color=True)
        monkeypatch.setenv("NO_COLOR", "1")
        plain_terminal = run(QUERY, "-k", "3", color=True)
        (first, *_) = Searcher("stage2").search(QUERY, 1)
    assert piped.exit_code == 0 and piped.stderr == ""
    lines = piped.stdout.splitlines()
    assert len(lines) == 6
    assert lines[0] == f" 1  {first.score:.4f}  {first.title} ({first.passage_id})"
    assert lines[1] == f"    {first.sentence}"
    assert "\x1b[" in terminal.stdout
    assert plain_terminal.stdout == piped.stdout


def test_beside_the_untrained(finished_project):
    """Both rankings are shown, with each passage's way from one to the other."""
    with inside(finished_project):
        shown = run(QUERY, "--beside-untrained", "-k", "4").stdout
        records = run(QUERY, "--beside-untrained", "-k", "4", "--json").stdout.splitlines()
        before, after = (list(Searcher(s).search(QUERY, 4)) for s in ("untrained", "stage2"))
    trained, untrained = shown.split("\nuntrained\n")
    for hit, move in zip(after, moves(before, after), strict=True):
        assert f"{hit.rank:2}  {hit.score:.4f}  {move:<5} {hit.title}" in trained
    assert all(f"{hit.title} ({hit.passage_id})" in untrained for hit in before)
    systems = [json.loads(record)["system"] for record in records]
    assert systems == ["stage2"] * 4 + ["untrained"] * 4


def test_moves():
    """Up, down, unmoved and new."""

    def ranking(ids):
        return [Hit(rank, 0.0, name, "", "", "") for rank, name in enumerate(ids, start=1)]

    assert moves(ranking("abcd"), ranking("daxc")) == ["↑3", "↓1", "new", "↓1"]
    assert moves(ranking("ab"), ranking("ab")) == ["=", "="]
    assert moves(ranking(["a#2", "b#1"]), ranking(["a#3", "c#1"])) == ["new", "new"]
    assert moves(ranking(["a#2", "b#1"]), ranking(["a#3", "c#1"]), True) == ["=", "new"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("No stop", ["No stop"]),
        ("One is here. Two is here!  Three?", ["One is here.", "Two is here!", "Three?"]),
        ("It weighs 3.5 kg, i.e. a lot. So there it is.", None),
        ("Dr. Yeast eats sugar. It dies of heat.", ["Dr. Yeast eats sugar.", "It dies of heat."]),
        ("He said “no way!” Then he left.", None),
        ("面包塌了。为什么？", ["面包塌了。", "为什么？"]),
        ("a line\nbroken here. And more of it", ["a line broken here.", "And more of it"]),
    ],
)
def test_sentences(text, expected):
    """Sentences in order, one line each, and no word lost."""
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    if expected is not None:
        assert found == expected


def test_endless_texts_are_cut():
    """No full stop for pages, or no end of sentences: the work stays bounded."""
    assert [len(piece.split()) for piece in sentences("word " * 130)] == [60, 60, 10]
    assert len(sentences("This is a sentence. " * 1000)) == SENTENCES


def test_nothing_steers_the_terminal():
    """Control characters of a text are not printed."""
    assert plain("red\x1b[31m\x07 \n\u009btitle") == "red [31m title"


def test_no_part_of_a_hit_steers_the_terminal(project):
    """Ids, titles and texts come from files of others."""
    corpus = paths.CORPUS
    table = pa.ipc.open_file(corpus).read_all().to_pydict()
    bad = {name: [f"{value}\u009b31m" for value in values] for name, values in table.items()}
    schema = pa.ipc.open_file(corpus).schema
    with pa.ipc.new_file(corpus, schema) as file:
        file.write_table(pa.Table.from_pydict(bad, schema))
    shown = run(QUERY).output
    assert "31m" in shown and "\u009b" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["  "], "query is blank"),
        (["\u200b\ufeff"], "query is blank"),
        (["bread", "--beside-untrained", "--system", "untrained"], "stage2 or stage1"),
    ],
)
def test_refused(finished_project, arguments, words):
    """What makes no sense is said before anything is loaded."""
    with inside(finished_project):
        shown = run(*arguments)
    assert isinstance(shown.exception, SyntrieverError) and words in str(shown.exception)
    assert shown.stdout == ""


@pytest.mark.parametrize(
    "missing", ["models/stage2", "data/prepared/corpus.arrow", "data/embeddings/stage2"]
)
def test_what_is_missing_is_said(project, missing):
    """Each input that is not there is named, with what makes it."""
    path = project / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    shown = run(QUERY)
    assert isinstance(shown.exception, SyntrieverError)
    assert missing in str(shown.exception) and "dvc repro" in str(shown.exception)


def test_vectors_of_another_encoder(project):
    """Vectors that can't be this encoder's are refused."""
    file = paths.embeddings("stage2") / "corpus.npy"
    np.save(file, np.load(file)[:, :16].copy())
    shown = run(QUERY)
    assert "16 dimensions" in str(shown.exception)


def test_queries_from_a_pipe(finished_project):
    """Without a query each line is one, up to an empty line; nothing but answers is printed."""
    with inside(finished_project):
        shown = run("--json", "-k", "1", input="bread\nstone\n\u200b\nnever asked\n")
        nothing = run("--json", input="")
    assert [json.loads(line)["query"] for line in shown.stdout.splitlines()] == ["bread", "stone"]
    assert shown.exit_code == nothing.exit_code == 0
    assert nothing.stdout == ""


def test_a_query_that_begins_with_a_dash(finished_project):
    """It goes after --."""
    with inside(finished_project):
        shown = run("--json", "-k", "1", "--", "-fno-common")
    assert json.loads(shown.stdout)["query"] == "-fno-common"


def test_a_query_that_is_not_utf8(finished_project):
    """Foreign bytes are replaced, not a traceback."""
    with inside(finished_project):
        shown = run("caf\udce9 bread", "--json", "-k", "1")
    assert json.loads(shown.stdout)["query"] == "caf� bread"


def test_a_closed_pipe_is_no_error(finished_project):
    """`| head -1` ends quietly."""
    process = start(QUERY, "--json", cwd=finished_project)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_nothing_heavy_is_imported(finished_project):
    """The whole way to an answer loads no library that costs seconds."""
    code = (
        "import sys; from stages.search import search; search('bread')\n"
        "heavy = {'sentence_transformers', 'datasets', 'pandas', 'pytrec_eval', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=finished_project,
    )
    assert shown.stderr == "[]\n"


def test_a_terminal(finished_project):
    """On a terminal: a prompt, an answer in colour, and Ctrl-C that leaves without a word."""
    ours, theirs = pty.openpty()
    process = start(
        "-k",
        "1",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=finished_project,
        env={"TERM": "xterm", "NO_COLOR": ""},
        # a suite that runs in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        seen = read_until(ours, "query> ")
        os.write(ours, b"bread\n")
        seen += read_until(ours, "query> ")
        assert interrupt(process) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "\x1b[" in seen and "loading stage2" in seen and "Traceback" not in seen


def interrupt(process):
    """Press Ctrl-C as a person does, again where it is not heard: one that comes between Python's
    prompt and its read waits for the end of the line."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            continue


def read_until(terminal, words):
    """Read what a terminal shows until these words have come."""
    seen = ""
    while words not in seen:
        seen += os.read(terminal, 4096).decode("utf-8", "replace")
    return seen
