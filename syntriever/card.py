"""The model card of a trained retriever: how it came about, and nothing that varies by run."""

from pathlib import Path

from syntriever import params

_STAGES = {
    "stage1": "stage 1 of Syntriever, distillation",
    "stage2": "both stages of Syntriever, distillation and alignment",
}


def write(folder: Path, system: str, settings: params.View, metrics: dict) -> None:
    """Write README.md into a model folder: origin, recipe, training metrics, use."""
    recipe = "\n".join(f"| `{name}` | {value} |" for name, value in _leaves(settings.model_dump()))
    numbers = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    (folder / "README.md").write_text(
        f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, dense-retrieval, syntriever]
---

# Dense retriever, {system}

A dense retriever, trained by {_STAGES[system]}. Queries and passages are embedded apart and
compared by cosine similarity; prefixes, pooling and length limit are part of this folder. What it
was trained on, of labels, a language model's texts and its preferences, is counted on the card that
`python -m stages.export` writes.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("models/{system}")
scores = model.encode_query(["a question"]) @ model.encode_document(["a passage"]).T
```

Method: Kim & Baek, *Syntriever: How to Train Your Retriever with Synthetic Data from LLMs*,
Findings of NAACL 2025. Trained by `python -m stages.train_{system}` with these params:

| param | value |
|---|---|
{recipe}

What training measured:

| metric | value |
|---|---|
{numbers}

Scores on dev and test queries: metrics/evaluate of the repository; on other collections, where they
may have fallen: metrics/transfer. The licence of the pre-trained encoder holds for this model too,
and so do the terms of the teacher, where it was trained on a teacher's texts.
""",
        "utf-8",
    )


def _leaves(values: dict, prefix: str = "") -> list[tuple[str, object]]:
    leaves = []
    for name, value in values.items():
        if isinstance(value, dict):
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, value))
    return leaves
