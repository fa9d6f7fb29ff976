"""One encoder, one vector for a text: in training, search, evaluation and plain use."""

import hashlib
import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from project import inside, run_stage, set_params
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from syntriever import embedding, encoder, light_encoder, params, paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_jsonl
from syntriever.vectors import read_vectors

TEXTS = ["one", "two words", "a rather longer text with many words in it", "two  words"]


def settings(**changes):
    return params.load_all().encoder.model_copy(update=changes)


@pytest.mark.parametrize("system", ["untrained", "stage1", "stage2"])
def test_plain_loading_gives_the_stored_vectors(finished_project, system):
    """The folder loaded by plain SentenceTransformer gives the vectors that search uses, so
    prefixes, pooling, length limit and unit length are part of it."""
    model = SentenceTransformer(str(finished_project / "models" / system), device="cpu")
    folder = finished_project / paths.embeddings(system)
    passages = [
        f"{line['title']} {line['text']}"
        for line in read_jsonl(finished_project / "collection/corpus.jsonl")
    ]
    plain = model.encode_document(passages)
    assert np.allclose(plain, np.load(folder / "corpus.npy"), atol=1e-5)
    queries = [line["query"] for line in read_jsonl(finished_project / paths.queries("test"))]
    assert np.allclose(model.encode_query(queries), np.load(folder / "test.npy"), atol=1e-5)
    assert np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)
    assert model.max_seq_length == 32


def test_each_prefix_once_everywhere(project, monkeypatch):
    """Every text that any stage encodes carries its prefix exactly once, as tokenised."""
    seen = []
    preprocess = SentenceTransformer.preprocess

    def spy(self, inputs, prompt=None, **options):
        features = preprocess(self, inputs, prompt=prompt, **options)
        seen.extend(self.tokenizer.batch_decode(features["input_ids"], skip_special_tokens=True))
        return features

    monkeypatch.setattr(SentenceTransformer, "preprocess", spy)
    for stage in (("embed", "untrained"), ("train_stage1",), ("train_stage2",)):
        seen.clear()
        run_stage(*stage)
        starts = [re.match(r"((query|passage) ?: ?)+", text) for text in seen]
        assert all(starts), stage
        assert {re.sub(r"\W", "", start[0]) for start in starts} == {"query", "passage"}, stage


def test_texts_keep_their_place(finished_project):
    """Sorting by length for speed gives every vector back to its text."""
    with inside(finished_project):
        model = encoder.load(paths.model("untrained"))
    with torch.inference_mode():
        together = encoder.forward(model, TEXTS, "query", 2)
        alone = torch.cat([encoder.forward(model, [text], "query", 2) for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-6)


def test_equal_texts_get_equal_vectors(tmp_path, monkeypatch):
    """Whichever batch they are in, white space apart: the first one's, in each place."""
    noise = np.random.default_rng(0)

    def encode(model, batches, *rest):
        for texts in batches:
            yield noise.normal(size=(len(texts), 4)).astype(np.float32)

    class Model:
        def get_embedding_dimension(self):
            return 4

    monkeypatch.setattr(encoder, "encode", encode)
    view = SimpleNamespace(compute=None, embed=SimpleNamespace(batch_size=2))
    batches = iter([["a b", "c"], ["d", "a  b", "c"], ["a b", "e"]])
    embedding.write(tmp_path / "x.npy", Model(), batches, 7, "document", view)
    vectors = np.load(tmp_path / "x.npy")
    assert (vectors[[3, 5]] == vectors[0]).all() and (vectors[4] == vectors[1]).all()
    assert len(np.unique(vectors, axis=0)) == 4


def test_half_precision_weights_become_float32(project):
    """A model saved in half precision works and gives float32 vectors."""
    model = SentenceTransformer("models/untrained", device="cpu").half()
    shutil.rmtree("models/untrained")
    model.save_pretrained("models/untrained", create_model_card=False)
    run_stage("embed", "untrained")
    assert np.load(paths.embeddings("untrained") / "corpus.npy").dtype == np.float32


def test_a_weight_that_is_not_finite_is_refused(project):
    """NaN in a saved weight stops encoding and training instead of ranking nonsense."""
    model = SentenceTransformer("models/stage1", device="cpu")
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = float("nan")
    model.save_pretrained("models/stage1", create_model_card=False)
    for stage in (("embed", "stage1"), ("train_stage2",)):
        with pytest.raises(SyntrieverError, match="not finite"):
            run_stage(*stage)


def test_vectors_that_are_not_finite_are_refused(project):
    """NaN in stored vectors stops mining and evaluation."""
    file = paths.embeddings("stage1") / "corpus.npy"
    vectors = np.load(file)
    vectors[3, 1] = np.nan
    np.save(file, vectors)
    for stage in ("mine_pairs", "evaluate"):
        with pytest.raises(SyntrieverError, match=r"corpus\.npy.*not finite"):
            run_stage(stage)
    with pytest.raises(SyntrieverError, match="does not exist"):
        read_vectors(file.with_name("none.npy"), 3)


def test_weights_are_checked(project):
    """Other weights than encoder.sha256 says are refused; the right hash is accepted."""
    weights = (project / "tiny-encoder/model.safetensors").read_bytes()
    with pytest.raises(SyntrieverError, match="sha256"):
        encoder.prepare(settings(sha256="0" * 64), project / "copy")
    assert not (project / "copy").exists()
    encoder.prepare(settings(sha256=hashlib.sha256(weights).hexdigest()), project / "copy")
    (project / "tiny-encoder/model.safetensors").rename(project / "elsewhere")
    with pytest.raises(SyntrieverError, match="safetensors"):
        encoder.prepare(settings(sha256="0" * 64), project / "copy")


def test_unknown_encoder_without_network(project):
    """A name that is neither package, folder nor reachable is one message, and nothing is left."""
    with pytest.raises(SyntrieverError, match=r"no-such-model.*all-MiniLM-L6-v2"):
        encoder.prepare(settings(name="no-such-model"), project / "copy")
    (project / "broken").mkdir()
    with pytest.raises(SyntrieverError, match="broken can't be loaded"):
        encoder.prepare(settings(name="broken"), project / "copy")
    assert not (project / "copy").exists()


def test_length_beyond_the_encoder(project):
    """A length limit above the encoder's positions is refused with the number."""
    with pytest.raises(SyntrieverError, match="64 positions"):
        encoder.prepare(settings(max_length=65), project / "copy")


def test_pooling_can_be_chosen(project):
    """encoder.pooling replaces the folder's own; null keeps it."""
    found = {}
    for pooling in (None, "cls", "mean"):
        encoder.prepare(settings(pooling=pooling), project / "copy")
        found[pooling] = SentenceTransformer(str(project / "copy"), device="cpu").encode(TEXTS)
    assert np.allclose(found[None], found["mean"])
    assert not np.allclose(found["cls"], found["mean"], atol=1e-3)


def test_folder_has_nothing_that_varies(project):
    """A model folder holds no clock time, path, build name or pickle."""
    for system in ("untrained", "stage1", "stage2"):
        folder = paths.model(system)
        names = {file.name for file in folder.rglob("*")}
        assert not names & {"training_args.bin", "trainer_state.json"}
        config = json.loads((folder / "config_sentence_transformers.json").read_text())
        assert "+" not in config["__version__"]["pytorch"]
        for file in folder.rglob("*.json"):
            assert str(project) not in file.read_text("utf-8")
        assert {oct(f.stat().st_mode)[-3:] for f in folder.rglob("*") if f.is_file()} == {"644"}


def test_bf16_is_settled_before_work(project, monkeypatch):
    """bf16 on a CPU without bf16 units is refused in words before training begins."""
    monkeypatch.setattr(encoder, "has_bf16_units", lambda: False)
    set_params(project, {"compute.precision": "bf16", "compute.instructions": "native"})
    for stage in (("train_stage1",), ("train_stage2",), ("embed", "stage1")):
        with pytest.raises(SyntrieverError, match="six times slower"):
            run_stage(*stage)


def test_no_gpu_is_said(project, monkeypatch):
    """device: cuda without a GPU is one message."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_params(project, {"compute.device": "cuda"})
    with pytest.raises(SyntrieverError, match="no GPU here"):
        run_stage("embed", "untrained")


def test_a_full_disk_is_found_before_anything_is_encoded(project, monkeypatch):
    """Found by a write through the memory map, it would kill the process without a word."""

    def full(*_):
        raise OSError(28, "No space left on device")

    before = np.load(paths.embeddings("stage1") / "corpus.npy")
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(encoder, "encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(OSError, match="No space left"):
        run_stage("embed", "stage1")
    assert np.array_equal(np.load(paths.embeddings("stage1") / "corpus.npy"), before)


def test_a_missing_model_is_said(project):
    """A stage run before the one it needs says what makes its input."""
    shutil.rmtree("models/stage1")
    with pytest.raises(SyntrieverError, match="dvc repro"):
        run_stage("embed", "stage1")


def test_token_counter_counts_uncut(finished_project):
    """Tokens are counted with special ones, beyond the length limit."""
    count = encoder.token_counter(finished_project / "models/untrained")
    assert count(["one", "word " * 100]) == [3, 102]


@pytest.mark.skipif(not encoder.has_bf16_units(), reason="this CPU has no bf16 units")
def test_bf16_runs_where_it_can(project):
    """bf16 autocast trains and encodes; vectors stay float32, near the float32 ones."""
    before = np.load(paths.embeddings("untrained") / "corpus.npy")
    set_params(project, {"compute.precision": "bf16", "compute.instructions": "native"})
    run_stage("embed", "untrained")
    run_stage("train_stage1")
    run_stage("train_stage2")
    after = np.load(paths.embeddings("untrained") / "corpus.npy")
    assert after.dtype == np.float32
    assert 0 < np.abs(after - before).max() < 0.02


def test_scores_stay_float32_under_autocast():
    """The loss sees float32 scores whatever autocast says."""
    vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    plain = encoder.scores(vectors, vectors, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.scores(vectors, vectors, 0.05), plain)


def test_an_encoder_that_sees_no_text_is_refused(project):
    """Without a tokenizer, or with a prefix that fills the length, all texts would be equal."""
    full = "one two three four five six seven "
    with pytest.raises(SyntrieverError, match="no difference between two texts"):
        encoder.prepare(settings(max_length=8, query_prefix=full), project / "copy")
    (project / "tiny-encoder/tokenizer.json").unlink()
    with pytest.raises(SyntrieverError):
        encoder.prepare(settings(), project / "copy")
    assert not (project / "copy").exists()


def test_a_model_without_its_tokenizer_is_refused(project):
    """By the library and by the light loading: it would rank every question alike."""
    for file in (project / "models/stage1").glob("tokenizer*"):
        file.unlink()
    for load in (encoder.load, light_encoder.load):
        with pytest.raises(SyntrieverError, match=r"tokenizer is missing|can't be loaded"):
            load(project / "models/stage1")


def _keep_weights(project, kept):
    """Keep some of the pre-trained encoder's weights, under the names that `kept` gives them."""
    file = project / "tiny-encoder/model.safetensors"
    weights = {kept(name): value for name, value in load_file(file).items() if kept(name)}
    save_file(weights, file, {"format": "pt"})


def test_weights_that_do_not_fit_are_refused(project):
    """transformers would make them up, otherwise ones each time, and only warn."""
    _keep_weights(project, lambda name: f"student.{name}")
    with pytest.raises(SyntrieverError, match=r"lacks weights.* would be random"):
        encoder.prepare(settings(), project / "copy")
    assert not (project / "copy").exists()


def test_a_lacking_pooler_is_the_same_each_time(project):
    """No vector is made of it, but the folder's bytes are."""
    _keep_weights(project, lambda name: None if "pooler" in name else name)
    found = []
    for name in ("one", "two"):
        torch.rand(len(name))
        encoder.prepare(settings(), project / name)
        found.append((project / name / "model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_an_encoder_without_pooling_is_refused(project):
    """A folder whose modules give no vector of a text is refused when it is fetched."""
    file = project / "tiny-encoder/modules.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    with pytest.raises(SyntrieverError, match="names no pooling"):
        encoder.prepare(settings(), project / "copy")


def test_damaged_weights_are_said(project):
    """Truncated weights are one message, in a pre-trained encoder and in a trained one."""
    for folder in ("tiny-encoder", "models/stage1"):
        weights = project / folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SyntrieverError, match="can't be loaded"):
        encoder.prepare(settings(), project / "copy")
    with pytest.raises(SyntrieverError, match="can't be loaded"):
        run_stage("embed", "stage1")
