"""Training: the batches' order, what a batch holds, resuming, diverging."""

import shutil

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT, hashes, inside, run_stage, set_params
from ruamel.yaml import YAML
from safetensors.torch import load_file

from syntriever import encoder, params, paths, training
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl

QUERY_IDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(QUERY_IDS, st.integers(2, 9), st.integers(1, 3), st.integers(0, 5))
def test_schedule_holds_every_row_once_an_epoch(query_ids, batch_size, epochs, seed):
    """Each epoch has every row once; no batch is too large or holds a query twice, and all are of
    one size, give or take one row."""
    every = training.schedule(query_ids, batch_size, epochs, seed)
    assert len(every) == epochs
    for batches in every:
        assert sorted(row for batch in batches for row in batch) == list(range(len(query_ids)))
        sizes = [len(batch) for batch in batches]
        assert min(sizes) >= 1 and max(sizes) <= min(batch_size, min(sizes) + 1)
        for batch in batches:
            assert len({query_ids[row] for row in batch}) == len(batch)


def test_schedule_depends_on_the_seed_alone():
    """One seed gives one order, epochs differ, another seed gives another."""
    ids = [str(i) for i in range(20)]
    once = training.schedule(ids, 5, 2, seed=0)
    assert once == training.schedule(ids, 5, 2, seed=0)
    assert once[0] != once[1]
    assert once != training.schedule(ids, 5, 2, seed=1)


def test_batches_are_even():
    """31 rows in batches of 30 make 16 and 15, not 30 and 1."""
    (batches,) = training.schedule([str(i) for i in range(31)], 30, 1, 0)
    assert sorted(len(batch) for batch in batches) == [15, 16]


def test_a_query_with_many_labels_leaves_no_tiny_batches():
    """50 rows of one query need 50 batches; the other rows are spread over them."""
    ids = ["many"] * 50 + [f"other-{i}" for i in range(310)]
    (batches,) = training.schedule(ids, 30, 1, seed=0)
    assert len(batches) == 50
    assert {len(batch) for batch in batches} == {7, 8}


def test_summary_means_each_epoch_by_its_own_steps():
    """Batches of written queries alone have no share to average."""
    log = [[{"loss": 4.0}, {"loss": 2.0, "share_cot": 0.5}], [{"loss": 1.0, "share_cot": 0.25}]]
    assert training.summary(log) == {
        "steps": 3,
        "loss_first_epoch": 3.0,
        "loss_last_epoch": 1.0,
        "share_cot_first_epoch": 0.5,
        "share_cot_last_epoch": 0.25,
    }


def test_a_resumed_run_ends_with_the_same_bytes(project, monkeypatch):
    """A training that dies after a checkpoint goes on from it, to the very same files."""
    before = hashes(project)
    set_params(project, {"runtime.checkpoint_every_steps": 1})
    step = training._Trainer.compute_loss

    def dies_at_step_3(self, *arguments, **options):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    monkeypatch.setattr(training._Trainer, "compute_loss", dies_at_step_3)
    with pytest.raises(KeyboardInterrupt):
        run_stage("train_stage1")
    monkeypatch.setattr(training._Trainer, "compute_loss", step)
    (checkpoints,) = (project / ".checkpoints").iterdir()
    assert {f.name for f in checkpoints.iterdir()} == {"checkpoint-1", "checkpoint-2"}
    (checkpoints / "checkpoint-2" / "trainer_state.json").write_text('{"half')  # killed in saving
    shutil.copytree(checkpoints / "checkpoint-1", checkpoints / "checkpoint-3")
    (checkpoints / "checkpoint-3" / "model.safetensors").write_bytes(b"half")
    resumed_from = []
    train = training._Trainer.train
    monkeypatch.setattr(
        training._Trainer,
        "train",
        lambda self, resume_from_checkpoint: (
            resumed_from.append(resume_from_checkpoint),
            train(self, resume_from_checkpoint=resume_from_checkpoint),
        ),
    )
    run_stage("train_stage1")
    assert resumed_from[0].endswith("checkpoint-1")
    assert hashes(project) == before
    assert not checkpoints.exists()


def test_checkpointed_activations_change_no_byte(project, monkeypatch):
    """Less is kept for the way back, and computed again: the same gradients come of it."""
    before = hashes(project)
    kept = []
    forward = encoder.forward

    def counting(*arguments):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            vectors = forward(*arguments)
        kept.append(sum(sizes))
        return vectors

    monkeypatch.setattr(encoder, "forward", counting)
    sums = []
    for chosen in (False, True):
        set_params(project, {"runtime.activation_checkpointing": chosen})
        kept.clear()
        run_stage("train_stage1")
        sums.append(sum(kept))
    assert hashes(project) == before
    assert sums[1] < sums[0] / 2


def test_an_encoder_that_keeps_its_activations_is_said(project, monkeypatch):
    """One message, before the first step."""
    set_params(project, {"runtime.activation_checkpointing": True})
    monkeypatch.setattr(transformers.PreTrainedModel, "supports_gradient_checkpointing", False)
    monkeypatch.setattr(transformers.BertModel, "supports_gradient_checkpointing", False)
    with pytest.raises(SyntrieverError, match="Set it to false"):
        run_stage("train_stage1")


def test_of_several_gpus_one_is_used(tmp_path, monkeypatch):
    """transformers would take all, in a way that our losses know nothing of."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = params.load_all(ROOT / "params.yaml")
    cuda = chosen.compute.model_copy(update={"device": "cuda"})
    made = training._arguments(chosen.train_stage1, cuda, 0, 10, tmp_path, 10)
    assert made.n_gpu == 1


@pytest.mark.parametrize(("steps", "every"), [(10, 7), (700, 7), (701, 8), (1500, 15)])
def test_long_trainings_write_a_hundred_checkpoints(tmp_path, steps, every):
    """Fewer than `runtime.checkpoint_every_steps` asks for: each is as large as three encoders."""
    chosen = params.load_all(ROOT / "params.yaml")
    made = training._arguments(chosen.train_stage1, chosen.compute, 0, steps, tmp_path, 7)
    assert made.save_steps == every


def test_other_params_take_no_old_checkpoint(project):
    """Checkpoints are kept by a hash of params, inputs and code."""
    from stages.train_stage1 import INPUTS
    from syntriever import params

    def folder():
        view = params.load(params.TrainStage1View)
        return training.checkpoint_folder("train_stage1", view, INPUTS)

    first = folder()
    assert first == folder()
    set_params(project, {"loss.tau": 0.1})
    assert folder() != first
    set_params(project, {"loss.tau": 0.05})
    assert folder() == first
    with paths.VERIFIED.open("a") as file:
        file.write("\n")
    assert folder() != first


def test_diverging_stops_and_keeps_the_last_model(project, monkeypatch):
    """The first loss that is not finite stops the stage; the model, the metrics and the curves that
    stood there stay."""
    from syntriever.distillation import Distillation

    before = hashes(project)
    loss = Distillation.loss
    steps = []

    def diverges_at_step_3(self, model, rows):
        steps.append(rows)
        value, extras = loss(self, model, rows)
        return value * (float("inf") if len(steps) == 3 else 1), extras

    monkeypatch.setattr(Distillation, "loss", diverges_at_step_3)
    with pytest.raises(SyntrieverError, match="the loss of step 3 is inf"):
        run_stage("train_stage1")
    assert len(steps) == 3
    assert hashes(project) == before
    assert not list(project.rglob("*.part"))


def test_interpolation_mixes_the_starting_weights_in(project):
    """train_stage1.interpolate is a share of the weights that training started from."""
    weights = {}
    for share in (0.0, 0.25):
        set_params(project, {"train_stage1.interpolate": share})
        run_stage("train_stage1")
        weights[share] = load_file(project / "models/stage1/model.safetensors")
    start = load_file(project / "models/untrained/model.safetensors")
    for name, trained in weights[0.0].items():
        expected = torch.lerp(trained, start[name], 0.25)
        assert torch.allclose(weights[0.25][name], expected, atol=1e-7), name
    assert any(not torch.equal(weights[0.0][name], start[name]) for name in start)


def test_no_pairs_means_no_alignment(project):
    """Nothing asked and nothing mined: stage 2 is stage 1, whatever stood there before."""
    set_params(project, {"mine_pairs.pairs": 0, "mine_pairs.written_negatives": 0})
    run_stage("mine_pairs")
    assert paths.COMPARISONS.read_bytes() == b""
    counted = read_json(paths.METRICS / "mine_pairs.json")
    assert (counted["pairs_asked"], counted["retrieved"]) == (0, 0)  # nor is anything searched for
    run_stage("train_stage2")
    one, two = (project / f"models/{stage}" for stage in ("stage1", "stage2"))
    for file in one.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (two / file.relative_to(one)).read_bytes()
    assert read_json(paths.METRICS / "train_stage2.json") == {"rows": 0, "pairs": 0, "steps": 0}


def test_replay_adds_the_stage1_loss(project):
    """train_stage2.replay weighs the stage-1 loss of the same queries, added to each step's."""
    from syntriever import encoder
    from syntriever.alignment import Alignment
    from syntriever.distillation import Distillation

    def losses(replay):
        set_params(project, {"train_stage2.replay": replay})
        settings = params.load(params.TrainStage2View)
        model = encoder.load(project / "models/stage1")
        with torch.no_grad():
            return settings, *Alignment(settings).loss(model, [0, 1, 2])

    _, plain, extras = losses(0.0)
    assert "replayed" not in extras
    settings, with_replay, extras = losses(0.5)
    stage1 = Distillation(settings.loss, True, 32)
    query_ids = Alignment(settings).query_ids[:3]
    rows = [stage1.query_ids.index(query_id) for query_id in query_ids]
    with torch.no_grad():
        alone, _ = stage1.loss(encoder.load(project / "models/stage1"), rows)
    assert extras["replayed"] == pytest.approx(alone.item(), rel=1e-5)
    assert with_replay.item() == pytest.approx(plain.item() + 0.5 * alone.item(), rel=1e-5)


def test_seeds_train_differently(project):
    """Another seed gives another model, and synthesis does not depend on it."""
    before = hashes(project)
    set_params(project, {"seed": 1})
    run_stage("train_stage1")
    changed = {name for name, digest in hashes(project).items() if before[name] != digest}
    assert "models/stage1/model.safetensors" in changed


def test_dropout_trains_differently_and_repeats(project):
    """Dropout is a param; its random numbers are seeded."""
    set_params(project, {"train_stage1.dropout": 0.1})
    found = []
    for _ in range(2):
        run_stage("train_stage1")
        found.append((project / "models/stage1/model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_chunks_do_not_change_gradients(finished_project):
    """Encoding a batch in chunks of 4 or all at once gives the same gradients."""
    gradients = []
    with inside(finished_project):
        for size in (4, 100):
            model = encoder.load(paths.model("untrained"))
            texts = [f"text {i} " * (i % 7 + 1) for i in range(16)]
            vectors = encoder.forward(model, texts, "document", size)
            (vectors @ vectors.T / 0.05).logsumexp(1).mean().backward()
            gradients.append(
                torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            )
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)
    assert gradients[0].abs().max() > 1e-3


def test_metrics_say_what_the_loss_sees(finished_project):
    """The shares of the positives in the numerator sum to 1; ordered pairs before and after."""
    stage1 = read_json(finished_project / "metrics/train_stage1.json")
    for when in ("first_epoch", "last_epoch"):
        kinds = ("labelled", "positive", "cot")
        assert sum(stage1[f"share_{kind}_{when}"] for kind in kinds) == pytest.approx(1, abs=1e-4)
    stage2 = read_json(finished_project / "metrics/train_stage2.json")
    assert 0 < stage2["ordered_before"] < 1 and 0 < stage2["ordered_after"] <= 1
    decided = [
        record
        for record in read_jsonl(finished_project / paths.COMPARISONS)
        if record["preferred"] is not None
    ]
    assert stage2["pairs"] == len(decided)


def test_synthetic_texts_that_get_cut_are_a_share(finished_project, monkeypatch):
    """Of the distinct texts, prefix included: the tiny encoder reads 32 tokens, fewer than all."""
    monkeypatch.chdir(finished_project)
    measured = read_json(paths.METRICS / "train_stage1.json")["synthetic_over_limit"]
    records = read_jsonl(paths.VERIFIED)
    texts = {t for r in records for t in (r["positive"], r["cot"], *r["hard_negatives"]) if t}
    count = encoder.token_counter(paths.model("untrained"))
    lengths = count([f"passage: {text}" for text in texts])
    assert measured == sum(length > 32 for length in lengths) / len(texts) > 0


def test_curves_are_whole(finished_project):
    """plots/ has a row for every step of both stages, without clock times."""
    for stage in ("train_stage1", "train_stage2"):
        steps = read_json(finished_project / f"metrics/{stage}.json")["steps"]
        folder = finished_project / f"plots/{stage}/plots/metrics"
        assert (folder / "loss.tsv").exists()
        for file in folder.iterdir():
            header, *rows = file.read_text().splitlines()
            assert header == f"step\t{file.stem}"
            assert [int(row.split("\t")[0]) for row in rows] == list(range(1, steps + 1))


def test_ordered_share_counts_pairs(project):
    """The share of pairs ordered rightly equals a count over plain SentenceTransformer scores."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("models/stage1", device="cpu")
    passages = {
        record["_id"]: f"{record['title']} {record['text']}"
        for record in read_jsonl(project / "collection/corpus.jsonl")
    }
    right = []
    for record in read_jsonl(paths.COMPARISONS):
        if record["preferred"] is not None:
            texts = [passages[record["preferred"]], passages[record["rejected"]]]
            better, worse = model.encode_document(texts) @ model.encode_query(record["query"])
            right.append(better > worse)
    found = read_json(paths.METRICS / "train_stage2.json")["ordered_before"]
    assert found == pytest.approx(np.mean(right), abs=0.02)


def test_params_file_is_left_alone(finished_project, blank_project):
    """Stages only read params.yaml."""
    yaml = YAML(typ="safe", pure=True)
    for_both = [
        yaml.load((p / "params.yaml").read_text()) for p in (finished_project, blank_project)
    ]
    assert for_both[0] == for_both[1]
