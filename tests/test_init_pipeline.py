"""From raw files to a trained, exported retriever: with labels, without them, without queries."""

import inspect
import shutil
from pathlib import Path

import pytest
from openai_server import Server, completion
from project import PIPELINE, run_stage, set_params
from raw_files import COLLECTION, about, corpus, judged, table

import stages.export
import stages.init
from syntriever import paths, results
from syntriever.collection import read_queries
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl

TOPICS = ("oven", "dough", "salt", "yeast", "crust", "flour", "water", "knife", "tin", "steam")


def init(source="raw", **options):
    """Run the stage with its defaults; return nothing, as it does."""
    function = stages.init.init.__wrapped__
    defaults = {
        name: one.default
        for name, one in inspect.signature(function).parameters.items()
        if one.default is not one.empty
    }
    function(Path(source), **defaults | {"name": "mine"} | options)


def write_raw():
    """Twenty documents of three sentences on ten subjects, as three kinds of file."""
    for i in range(20):
        topic = TOPICS[i % 10]
        text = (
            f"The {topic} of recipe {i} needs care and a little patience. Look after the {topic} "
            f"for {i + 2} hours. When the {topic} is done, go on with step {i} of the recipe."
        )
        suffix = ("txt", "md", "html")[i % 3]
        body = {"txt": text, "md": f"# About {topic} {i}\n\n{text}", "html": f"<p>{text}"}[suffix]
        path = Path("raw") / f"part {i % 2}" / f"{topic}-{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, "utf-8")
    return sorted(path.relative_to("raw").as_posix() for path in Path("raw").rglob("*.*"))


@pytest.fixture
def kitchen(blank_project, tmp_path, monkeypatch):
    """A project in which no stage has run, with ./raw beside it; returns the names of its files."""
    folder = tmp_path / "project"
    shutil.copytree(blank_project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    set_params(folder, {"encoder.max_length": 64, "train_stage2.batch_size": 4})
    return write_raw()


def ask(server, **changes):
    """Set the project to ask a server."""
    live = {
        "teacher.backend": "openai",
        "teacher.model": "stub",
        "teacher.base_url": server.url,
        "runtime.teacher.price_input": 1.0,
        "runtime.teacher.price_output": 1.0,
    }
    set_params(Path(), live | changes)


def answers(body, before):
    """A teacher that writes a query of the passage's own words, and likes all it is shown."""
    asked = body["messages"][-1]["content"]
    if "Which of the two passages" in asked:
        return completion("Passage #1")
    if "Is this passage accurate" in asked:
        return completion("Yes.")
    if "Passage: " in asked:
        passage = asked.partition("Passage: ")[2].partition("\n")[0]
        return completion(f'"Where is it said that {passage[:60]}?"')
    return None


def label_all(files):
    """Two queries a file, each labelled with it."""
    queries = [(f"q{i}", f"what of {name} number {i}") for i, name in enumerate(files * 2)]
    table("queries.tsv", ("id", "text"), *queries)
    labels = [(f"q{i}", name) for i, name in enumerate(files * 2)]
    table("qrels.tsv", ("query-id", "corpus-id"), *labels)
    return {"queries": Path("queries.tsv"), "qrels": Path("qrels.tsv")}


def prepared(split):
    """The ids of a prepared split's queries."""
    return {query.query_id for query in read_queries(paths.queries(split))}


def all_the_way(server, **options):
    """From raw files through every stage to scores and a bundle, with the params that init sets;
    returns the rows of the stages' metrics that tell on what was trained."""
    ask(server)
    init(**options, set_params=True)
    for name, *arguments in PIPELINE:
        run_stage(name, *arguments)
    assert (paths.model("stage2") / "modules.json").exists()
    stages.export.export.__wrapped__(Path("bundle"))
    passages = {one["id"] for one in read_jsonl(Path("bundle/passages.jsonl"))}
    assert passages == set(corpus()) and len(passages) >= 20
    asked = {name: read_json(paths.METRICS / f"{name}.json") for name in ("synthesize", "verify")}
    return {name: one["calls"] for name, one in asked.items()}


def says_written(text):
    """Whether a page or table says that its scores are ones on written queries."""
    said = ("that the teacher wrote, not people", "The teacher wrote these queries")
    return any(words in " ".join(text.split()) for words in said)


def assert_scored_on_written(test_queries):
    """All systems are scored on as many written queries, and every score says what they are."""
    for system in ("bm25", "untrained", "stage1", "stage2"):
        assert read_json(paths.METRICS / f"evaluate/test/{system}.json")["queries"] == test_queries
    assert says_written(results.render("test"))
    assert says_written(Path("bundle/model/README.md").read_text("utf-8"))
    assert "by the teacher, not by people" in Path("reports/index.html").read_text("utf-8")


def test_queries_with_labels_all_the_way(kitchen, capsys):
    """The labels train and test; no score says that its queries are written."""
    with Server(answers) as server:
        all_the_way(server, **label_all(kitchen))
    assert "dvc repro" in capsys.readouterr().out
    sizes = [len(prepared(split)) for split in ("train", "dev", "test")]
    assert sum(sizes) == 40 and sizes[2] == 8 and sizes[1] > 0
    assert read_json(paths.METRICS / "evaluate/test/stage2.json")["queries"] == 8
    assert not says_written(results.render("test"))
    assert not says_written(Path("bundle/model/README.md").read_text("utf-8"))
    assert read_json(paths.METRICS / "prepare.json")["passages_in_two_splits"] == 0


def test_without_a_live_teacher_labels_alone_are_named(kitchen, capsys):
    """Where answers are recorded ones, which know nothing of these texts, both ways on are said;
    where no label trains, there is one."""
    for share, ways in ((0.2, 2), (1.0, 1)):
        init(**label_all(kitchen), test_share=share)
        said = capsys.readouterr().out
        named = ("set a live teacher" in said) + ("on the labels alone, without an LLM" in said)
        assert named == ways and "set a live teacher" in said
        shutil.rmtree(COLLECTION)


def test_a_collection_is_called_after_its_folder_or_file(kitchen, capsys):
    """A dot in a folder's name is no suffix."""
    shutil.copytree("raw", "docs-2.0")
    init("docs-2.0", **label_all(kitchen), name=None)
    assert Path("data/collections/docs-2.0/corpus.jsonl").is_file()
    table("docs-2.1.csv", ("id", "text"), *((name, f"text of {name}") for name in kitchen))
    init("docs-2.1.csv", **label_all(kitchen), name=None)
    assert Path("data/collections/docs-2.1/corpus.jsonl").is_file()


def test_queries_without_labels_all_the_way(kitchen):
    """All of them train, on synthetic positives, beside written ones; no label does."""
    table("queries.tsv", ("text",), *((f"what of {name}",) for name in kitchen))
    with Server(answers) as server:
        calls = all_the_way(server, queries=Path("queries.tsv"), write_test_queries=5)
    assert prepared("train") == {f"q{i + 1}" for i in range(20)}
    assert len(prepared("dev")) == 1 and len(prepared("test")) == 5
    assert calls["synthesize"] > 0 and calls["verify"] > 0
    assert paths.qrels("train").read_text("utf-8").count("\n") == 1
    assert read_json(paths.METRICS / "train_stage1.json")["rows"] == 20 + len(written_for())
    assert read_json(paths.METRICS / "mine_pairs.json")["queries"] == 20
    assert_scored_on_written(5)


def written_for():
    """The passages that the training queries were written for, one each query."""
    return [one["passage_id"] for one in read_jsonl(paths.WRITTEN)]


def test_a_corpus_alone_all_the_way(kitchen):
    """Written queries train, none of them for a passage that is held out for the test."""
    with Server(answers) as server:
        calls = all_the_way(server, write_test_queries=5)
    assert calls == {"synthesize": 0, "verify": 0} and not prepared("train")
    held_out, judged_passages = set(about()["held_out"]), {one for _, one, _ in judged("test")}
    assert judged_passages <= held_out and len(judged_passages) == 5
    assert written_for() and not held_out & set(written_for())
    assert read_json(paths.METRICS / "train_stage1.json")["rows"] == len(written_for())
    assert_scored_on_written(5)


def test_a_corpus_alone_has_written_test_queries(kitchen, capsys):
    """The mark, what is held out, one query a passage, kinds in turn; the params set."""
    with Server(answers) as server:
        ask(server, **{"write_queries.per_passage": 0, "mine_pairs.written_negatives": 0})
        init(write_test_queries=5)
        asked = [call.asked for call in server.calls]
    said = capsys.readouterr().out
    assert "-S write_queries.per_passage=1 -S mine_pairs.written_negatives=2" in said
    assert "6 asked, 0 unanswered, 0 repeated" in said
    found = about()
    passages = [one for split in ("dev", "test") for _, one, _ in judged(split)]
    assert found["test_queries"] == "written" and len(passages) == len(set(passages)) == 6
    assert set(passages) <= set(found["held_out"]) <= set(corpus())
    texts = {passage: " ".join(corpus()[passage]).strip() for passage in passages}
    assert all(sum(text in one for one in asked) == 1 for text in texts.values())
    queries = list(read_jsonl(COLLECTION / "queries.jsonl"))
    assert [one["_id"] for one in queries] == [q for s in ("dev", "test") for q, _, _ in judged(s)]
    assert {one["_id"].rpartition("#")[2] for one in queries} == {"situation", "direct"}
    assert all(one["text"].startswith("Where is it said") for one in queries)


@pytest.mark.parametrize(("overlap", "reach"), [(None, 1), (0, 1), (37, 3)])
def test_neighbours_of_a_held_out_passage_are_held_out_too(kitchen, overlap, reach):
    """They may repeat its sentences."""
    shutil.rmtree("raw")
    Path("raw").mkdir()
    lines = (
        f"In hour {i} of the long bake we look into the oven, note down what its thermometer "
        "says, and wait."
        for i in range(99)
    )
    Path("raw/long.txt").write_text("\n".join(lines))
    with Server(answers) as server:
        ask(server, **{"collection.dev_share": 0.0})
        init(write_test_queries=1, chunk_words=50, overlap=overlap)
    ((_, passage, _),) = judged("test")
    place = int(passage.rpartition("#")[2])
    near = {f"long.txt#{place + step}" for step in range(-reach, reach + 1)}
    assert set(about()["held_out"]) == near & set(corpus())


def test_written_queries_are_asked_once_and_never_twice_the_same(kitchen):
    """A second init asks nothing; a repeated or refused query is left out and counted."""
    said = iter(["same?", "same?", "refused", "four?", "five?", "six?"])

    def reply(body, before):
        text = next(said)
        return completion(None, "content_filter") if text == "refused" else completion(text)

    with Server(reply) as server:
        ask(server, **{"teacher.max_failed_share": 0.5, "runtime.teacher.concurrency": 1})
        init(write_test_queries=5)
        first = (COLLECTION / "queries.jsonl").read_bytes()
        counts = about()["counts"]
        assert (counts["asked"], counts["repeated"], counts["unanswered"]) == (6, 1, 1)
        shutil.rmtree(COLLECTION)
        init(write_test_queries=5)
        assert server.total == 6 and (COLLECTION / "queries.jsonl").read_bytes() == first


def test_a_teacher_that_fails_leaves_no_folder(kitchen):
    """Nothing half-written; the answers stay in the journal."""
    with Server(lambda body, before: completion("Half a", "length")) as server:
        ask(server)
        with pytest.raises(SyntrieverError, match="cut off"):
            init(write_test_queries=5)
    assert not list(Path("data/collections").glob("*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"write_test_queries": 5}, "teacher.backend is recorded"),
        ({"estimate": True}, "Without labels"),
    ],
)
def test_what_needs_a_live_teacher_says_so(kitchen, options, words):
    """Recorded answers know nothing of a new corpus."""
    with pytest.raises(SyntrieverError, match=words):
        init(**options)


def test_too_many_written_queries_are_refused(kitchen):
    """Half of the passages must be left to train on."""
    with Server(answers) as server:
        ask(server)
        with pytest.raises(SyntrieverError, match=r"20 passages of 20 words.*ask for fewer"):
            init(write_test_queries=15)
        assert server.total == 0


def test_the_estimate_asks_and_writes_nothing(kitchen, capsys):
    """Calls and cost of the test queries."""
    with Server(answers) as server:
        ask(server)
        init(write_test_queries=5, estimate=True)
        assert server.total == 0
    said = capsys.readouterr().out
    assert "write_situation" in said and "Cost, live" in said
    assert "read: 20 files" in said and "passages: 20" in said and "part 0/ 10" in said
    assert not Path("data/collections/mine").exists()
