"""A bundle works by itself, says what it is, and is written whole or not at all."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import faiss
import numpy as np
import pytest
from project import set_params

from stages.export import export as command
from syntriever import bundle_card, exporting, params, paths
from syntriever.collection import Corpus
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl, write_json
from syntriever.searching import Searcher

FILES = {"README.md", "index.faiss", "model", "passages.jsonl", "usage.py"}
QUERY = "why does my bread collapse"


def export(folder, system="stage2"):
    """Export in this process, in the current folder."""
    command.__wrapped__(folder, system)


def contents(folder):
    """Return the bytes of every file, by name."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def bundle(project, tmp_path):
    """A bundle of stage 2, outside the project."""
    export(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_the_example_runs_elsewhere(project, tmp_path):
    """usage.py, alone with its folder and offline, finds what search finds, copies too."""
    file = paths.embeddings("stage2") / "corpus.npy"
    vectors = np.load(file)
    best = Corpus.open(paths.CORPUS).rows([next(Searcher("stage2").search(QUERY, 1)).passage_id])
    vectors[[2, 30, 60]] = vectors[next(iter(best.values()))]
    np.save(file, vectors)
    export(tmp_path / "bundle")
    hits = list(Searcher("stage2").search(QUERY, 5))
    assert hits[0].score == hits[1].score == hits[2].score
    moved = tmp_path / "elsewhere" / "taken away"
    moved.parent.mkdir()
    shutil.move(tmp_path / "bundle", moved)
    shutil.rmtree(project)
    shown = subprocess.run(
        [sys.executable, str(moved / "usage.py"), *QUERY.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        check=True,
    )
    lines = [line.split("  ") for line in shown.stdout.splitlines()]
    assert [line[1] for line in lines] == [hit.passage_id for hit in hits]
    assert [line[2] for line in lines] == [hit.title for hit in hits]
    assert np.allclose([float(line[0]) for line in lines], [h.score for h in hits], atol=1e-4)


def test_index_and_passages_are_the_corpus(bundle, project, monkeypatch, tmp_path):
    """Each vector and each passage, in one order, however they are sliced."""
    index = faiss.read_index(str(bundle / "index.faiss"))
    vectors = np.load(paths.embeddings("stage2") / "corpus.npy")
    assert isinstance(index, faiss.IndexFlatIP)
    assert (index.reconstruct_n(0, index.ntotal) == vectors).all()
    passages = [
        {"id": line["_id"], "title": line["title"], "text": line["text"].strip()}
        for line in read_jsonl(project / "collection/corpus.jsonl")
    ]
    assert list(read_jsonl(bundle / "passages.jsonl")) == passages
    monkeypatch.setattr(exporting, "SLICE", 7)
    export(tmp_path / "sliced")
    assert contents(tmp_path / "sliced") == contents(bundle)


def test_same_bytes_and_no_trace_of_this_machine(bundle, project, tmp_path):
    """A second export is the same; no text names a folder of this machine."""
    name = params.load_all().encoder.name
    absolute = {"collection.path": "collection", "encoder.name": name}
    set_params(project, {key: str((project / value).resolve()) for key, value in absolute.items()})
    export(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(bundle)
    assert {path.name for path in bundle.iterdir()} == FILES
    for name, content in contents(bundle).items():
        assert str(tmp_path).encode() not in content, name
        assert (bundle / name).stat().st_mode & 0o600 == 0o600


def test_the_model_is_whole(bundle):
    """The model folder is the stage's own but for its card."""
    original = contents(paths.model("stage2"))
    copied = contents(bundle / "model")
    assert original.keys() == copied.keys()
    assert {name for name in copied if copied[name] != original[name]} == {"README.md"}


NOTHING_ASKED = {"mine_pairs": {"pairs_asked": 0, "undecided": 0}}
LABELS_ALONE = {
    "write_queries": {"kept": 0},
    "synthesize": {"cot": 0, "positive": 0},
    **NOTHING_ASKED,
}


@pytest.mark.parametrize(
    ("use_labels", "counts", "said"),
    [
        (
            True,
            {},
            "on labelled passages, queries that a language model wrote, a language model's chains "
            "of thought, a language model's passages (stage 1). Then aligned with a language "
            "model's preferences (stage 2).",
        ),
        (
            False,
            NOTHING_ASKED,
            "tiny-encoder, fine-tuned on queries that a language model wrote, a language model's "
            "chains of thought, a language model's passages (stage 1). Nothing was aligned: ",
        ),
        (  # a corpus alone: the params ask for texts, and there is no query to ask for
            False,
            {
                "synthesize": {"cot": 0, "positive": 0},
                "mine_pairs": {"pairs_asked": 0, "undecided": 0, "written_pairs": 8},
            },
            "fine-tuned on queries that a language model wrote (stage 1). Then aligned with mined "
            "hard negatives for written queries (stage 2).",
        ),
        (
            True,
            LABELS_ALONE,
            "on labelled passages (stage 1). Nothing was aligned: stage 2 is stage 1.",
        ),
    ],
)
def test_the_card_says_what_it_was_trained_on(project, use_labels, counts, said):
    """What there was of the teacher's, whatever the params ask for; no teacher where labels alone
    trained."""
    set_params(project, {"collection.use_labels": use_labels})
    for stage, changed in counts.items():
        write_json(f"metrics/{stage}.json", read_json(f"metrics/{stage}.json") | changed)
    card = bundle_card.of_model(bundle_card.gather("stage2"))
    assert said in card
    taught = counts != LABELS_ALONE
    for words in ("Teacher: ", "provider's terms", "Syntriever", "`teacher.model`"):
        assert (words in card) == taught


def test_the_card_tells_all(bundle, project):
    """Data, the recipe of both stages, scores of each split, licences."""
    card = (bundle / "model/README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert 'SentenceTransformer("model")' in card and "models/stage2" not in card
    assert "| `loss.tau` | 0.05 |" in card
    assert re.search(
        r"^Collection: \*collection\*\. Pre-trained encoder: tiny-encoder\.", card, re.M
    )
    passages = read_json("metrics/prepare.json")["passages"]
    assert f"| `prepare` | passages {passages}, " in card
    assert "| `mine_pairs` | " in card
    assert f"steps {read_json('metrics/train_stage2.json')['steps']}, " in card
    values = params.load_all()
    for name, value in (
        ("encoder.max_length", values.encoder.max_length),
        ("write_queries.per_passage", values.write_queries.per_passage),
        ("train_stage1.epochs", values.train_stage1.epochs),
        ("mine_pairs.written_negatives", values.mine_pairs.written_negatives),
        ("evaluate.bm25_k1", values.evaluate.bm25_k1),
        ("collection.use_labels", "true"),
    ):
        assert f"| `{name}` | {value} |" in card
    for split in ("dev", "test"):
        found = read_json(f"metrics/evaluate/{split}/stage2.json")
        row = f"| stages 1 and 2 | {found['ndcg_at_10']:.4f} |"
        assert row in card.split(f"{split} queries of *collection*:")[1]
    assert "## Licences" in card and "its provider's terms" in card
    assert "BM25 | 0" in card and "Not scored: what training cost there" in card
    assert f"{passages} vectors of 32 dimensions" in (bundle / "README.md").read_text("utf-8")


def test_the_collections_licence_is_passed_on(project, tmp_path):
    """What the collection's README says under Licence stands on the card."""
    for heading, words in (("## Licence", "CC0 1.0,\nfor all."), ("# LICENSE", "None known.")):
        text = f"# A collection\n\n{heading}\n{words}\n\n## More\nOther things.\n"
        (project / "collection/README.md").write_text(text)
        export(tmp_path / heading)
        card = (tmp_path / heading / "model/README.md").read_text("utf-8")
        assert f"*collection*: {' '.join(words.split())}\n" in card
        assert "Other things" not in card


def test_other_systems(project, tmp_path):
    """The untrained encoder has a card of its own, which names no teacher."""
    for system in ("untrained", "stage1"):
        export(tmp_path / system, system)
    card = (tmp_path / "untrained/model/README.md").read_text("utf-8")
    assert "# Dense retriever (untrained)" in card
    assert "eacher" not in card and "`synthesize`" not in card
    card = (tmp_path / "stage1/model/README.md").read_text("utf-8")
    assert "`synthesize`" in card and "`mine_pairs`" not in card


def test_losses_elsewhere_are_warned_of(project, tmp_path):
    """Scores on other collections stand on the card; a fall of more than 0.02 is a warning."""
    for name, gain in (("cranfield", -0.0312), ("dbpedia", -0.02)):
        measures = {"untrained": {"ndcg_at_10": 0.4, "queries": 9}}
        measures["stage2"] = {"ndcg_at_10": 0.4 + gain, "queries": 9, "gain": gain}
        (project / "metrics/transfer").mkdir(exist_ok=True)
        write_json(project / f"metrics/transfer/{name}.json", measures)
    export(tmp_path / "earlier")
    card = (tmp_path / "earlier/model/README.md").read_text("utf-8")
    assert "Not scored" in card and "cranfield" not in card  # params.yaml names no other collection
    set_params(project, {"evaluate.collections": {"cranfield": "c", "dbpedia": "d"}})
    export(tmp_path / "bundle")
    card = (tmp_path / "bundle/model/README.md").read_text("utf-8")
    assert "*cranfield*, test queries:" in card and "| untrained encoder | 0.4000 | 9 |" in card
    assert re.findall(r"\*\*Warning\*\*: (.*)", card) == [
        "training cost 0.0312 nDCG@10 on cranfield."
    ]


def test_without_scores(project, tmp_path):
    """A model that was not evaluated says so."""
    shutil.rmtree("metrics/evaluate")
    export(tmp_path / "bundle")
    assert "was not evaluated" in (tmp_path / "bundle/model/README.md").read_text("utf-8")


def test_an_occupied_folder_is_refused(project, tmp_path):
    """Nobody's files are overwritten; an empty folder is as good as none."""
    target = tmp_path / "taken"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    for occupied in (target, target / "mine.txt", project):
        with pytest.raises(SyntrieverError, match="is there already"):
            export(occupied)
    assert [file.name for file in target.iterdir()] == ["mine.txt"]
    (target / "mine.txt").unlink()
    export(target)
    assert {path.name for path in target.iterdir()} == FILES


@pytest.mark.parametrize("missing", ["models/stage2", "data/prepared", "data/embeddings/stage2"])
def test_what_is_missing_is_said(project, tmp_path, missing):
    """Each input that is not there is named, and nothing is written."""
    shutil.rmtree(project / missing)
    with pytest.raises(SyntrieverError, match=f"{missing}.*dvc repro"):
        export(tmp_path / "new" / "bundle")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("pooling_mode", ["mean", "lasttoken"])  # read here, left to the library
def test_vectors_of_another_encoder_are_refused(project, tmp_path, pooling_mode):
    """What usage.py could not search is not written; the encoder's own vectors are."""
    config = paths.model("stage2") / "1_Pooling/config.json"
    write_json(config, read_json(config) | {"pooling_mode": pooling_mode})
    export(tmp_path / "own")
    file = paths.embeddings("stage2") / "corpus.npy"
    np.save(file, np.load(file)[:, :16].copy())
    with pytest.raises(
        SyntrieverError, match=r"16 dimensions, the encoder's have 32\..*embed stage2"
    ):
        export(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_link_to_a_larger_disk_stays_one(project, tmp_path):
    """--to may be a link to an empty folder; the bundle is written behind it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    export(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "disk").iterdir()} == FILES
    assert {path.name for path in tmp_path.glob("*.part")} == set()


def test_all_or_nothing(project, tmp_path, monkeypatch):
    """A failure on the way leaves no folder and no part of one."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.faiss, "write_index", full)
    with pytest.raises(OSError, match="No space"):
        export(tmp_path / "new" / "bundle")
    assert list((tmp_path / "new").iterdir()) == []


def test_read_only_files_of_the_cache(project, tmp_path):
    """A model that DVC linked read-only from its cache is copied to files that can be changed."""
    for file in paths.model("stage2").rglob("*"):
        if file.is_file():
            file.chmod(0o444)
    export(tmp_path / "bundle")
    card = tmp_path / "bundle/model/README.md"
    assert card.stat().st_mode & 0o200


def test_the_command(project, tmp_path, monkeypatch, capsys):
    """The command takes its options, refuses a system that there is not, and says how to go on."""
    to = str(tmp_path / "my bundle")
    monkeypatch.setattr("sys.argv", ["export", "--to", to, "--system", "stage3"])
    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 2 and "'stage3'" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["export", "--to", to])
    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 0
    said, command_line = capsys.readouterr().out.splitlines()
    assert ": stage2 with" in said
    assert shlex.split(command_line) == ["python", f"{to}/usage.py", "your question"]
