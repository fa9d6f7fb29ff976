"""The cards of an exported bundle: data, recipe, scores, licences. No dates, no absolute paths."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from syntriever import params, paths
from syntriever.collection import read_origin
from syntriever.files import read_json
from syntriever.tables.overrides import flatten
from syntriever.tolerance import TOLERATED_FALL

_SYSTEMS = {
    "bm25": "BM25",
    "untrained": "untrained encoder",
    "stage1": "distilled (stage 1)",
    "stage2": "distilled and aligned (stage 2)",
}
_MEASURES = {
    "ndcg_at_10": "nDCG@10",
    "ndcg_at_10_unseen": "nDCG@10 unseen",
    "ndcg_at_1": "nDCG@1",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
    "queries": "queries",
}
# The stages whose counts tell what each system was made from.
_MADE_FROM = {
    "untrained": ("prepare",),
    "stage1": ("prepare", "write_queries", "synthesize", "verify"),
    "stage2": ("prepare", "write_queries", "synthesize", "verify", "mine_pairs"),
}

# The groups of params that make each system, from the collection to its weights.
_STAGE1_GROUPS = ("encoder", "write_queries", "synthesize", "verify", "loss", "train_stage1")
_GROUPS = {
    "untrained": ("encoder",),
    "stage1": _STAGE1_GROUPS,
    "stage2": (*_STAGE1_GROUPS, "mine_pairs", "train_stage2"),
}

_UNTRAINED = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, dense-retrieval]
---

# Dense retriever, untrained

The pre-trained encoder as it came, with the pooling, prefixes and length limit of this folder.
"""


@dataclass(frozen=True)
class Facts:
    """What the cards tell of one system, read from params and metrics."""

    system: str
    collection: str
    encoder: str
    teacher: str
    collection_licence: str | None
    recipe: dict[str, object]
    """Param -> value, of all that make this system."""
    counts: dict[str, dict]
    """Stage -> its metrics."""
    scores: dict[str, dict[str, dict]]
    """Split -> system -> measures."""
    elsewhere: dict[str, dict[str, dict]]
    """Collection that was not trained on -> system -> measures."""
    written_tests: bool
    """The teacher wrote the queries that it was scored on."""


def gather(system: str) -> Facts:
    """Read params.yaml, metrics and the collection's licence.

    Raises:
        SyntrieverError: params.yaml or one of the metrics is malformed.
    """
    settings = params.load_all()
    collection = Path(settings.collection.path)
    scores = {
        split.name: {file.stem: read_json(file) for file in sorted(split.glob("*.json"))}
        for split in sorted((paths.METRICS / "evaluate").glob("*/"))
    }
    files = {stage: paths.METRICS / f"{stage}.json" for stage in _MADE_FROM[system]}
    # A file of a collection that params.yaml no longer names is of an earlier model.
    transfer = [paths.METRICS / f"transfer/{name}.json" for name in settings.evaluate.collections]
    return Facts(
        system=system,
        collection=collection.resolve().name,
        encoder=_public(settings.encoder.name),
        teacher=_public(settings.teacher.model),
        collection_licence=_licence(collection / "README.md"),
        recipe={
            name: _public(value) if isinstance(value, str) else value
            for name, value in flatten(settings).items()
            if name.split(".")[0] in _GROUPS[system] or name in ("seed", "collection.use_labels")
        },
        counts={stage: read_json(file) for stage, file in files.items() if file.exists()},
        scores=scores,
        elsewhere={file.stem: read_json(file) for file in transfer if file.exists()},
        written_tests=read_origin(paths.ORIGIN).test_queries == "written",
    )


def of_model(facts: Facts, earlier: str | None) -> str:
    """Return the card of the bundle's model folder.

    Args:
        facts: what is known of it.
        earlier: the card that training wrote, which holds the recipe; None for the untrained.
    """
    # Where nothing was aligned stage 2 is stage 1, card and all.
    text = re.sub(r'"models/\w+"', '"model"', earlier or _UNTRAINED)
    sections = [_recipe(facts), _data(facts), _scores(facts), _elsewhere(facts), _licences(facts)]
    return "\n\n".join([text.rstrip(), *filter(None, sections)]) + "\n"


def of_bundle(facts: Facts, passages: int, dimensions: int) -> str:
    """Return the README.md of the bundle."""
    return f"""# A retriever for *{facts.collection}*

| file | what |
|---|---|
| `model/` | the encoder, {_SYSTEMS[facts.system]}: a SentenceTransformer folder with its card |
| `index.faiss` | exact FAISS index (IndexFlatIP): {passages} vectors of {dimensions} dimensions |
| `passages.jsonl` | one passage a line (`id`, `title`, `text`), in the order of the index |
| `usage.py` | how to search |

```
pip install sentence-transformers faiss-cpu
python usage.py "your question"
```

Encode questions with `encode_query` and passages (title, a space, text) with `encode_document`:
prefixes, pooling, length limit and unit length are part of the model folder. The score is the inner
product, here the cosine similarity. To add a passage, add its vector to the index and its line to
`passages.jsonl`.

Data, recipe, scores and licences: [model/README.md](model/README.md).
"""


def _data(facts: Facts) -> str:
    lines = [
        "## Data",
        "",
        f"Collection: *{facts.collection}*. Pre-trained encoder: {facts.encoder}.",
    ]
    if facts.system != "untrained":
        lines[-1] += f" Teacher: {facts.teacher}."
    rows = [
        [f"`{stage}`", ", ".join(f"{n} {_number(v)}" for n, v in counts.items() if v is not None)]
        for stage, counts in facts.counts.items()
    ]
    return "\n".join([*lines, "", *_table(["stage", "what it counted"], rows)])


def _recipe(facts: Facts) -> str:
    """All params of the run, those of earlier stages too, so that it can be made again."""
    rows = [[f"`{name}`", json.dumps(value)] for name, value in facts.recipe.items()]
    head = "## Recipe\n\nAs params.yaml stood when the bundle was made, for all stages up to this:"
    return "\n".join([head, "", *_table(["param", "value"], rows)])


def _scores(facts: Facts) -> str:
    if not facts.scores:
        return "## Scores\n\nThis encoder was not evaluated when the bundle was made."
    lines = [
        "## Scores",
        "",
        "As the repository's metrics stood when the bundle was made (`metrics/evaluate`). *Unseen*",
        "are queries none of whose relevant passages was labelled in training.",
    ]
    if facts.written_tests:
        lines += ["", "**The teacher wrote these queries**: people's own may be harder."]
    for split, systems in facts.scores.items():
        lines += ["", f"{split} queries of *{facts.collection}*:", "", *_measures(systems)]
    return "\n".join(lines)


def _elsewhere(facts: Facts) -> str | None:
    if facts.system == "untrained" and not facts.elsewhere:
        return None
    lines = ["## On collections that it was not trained on"]
    if not facts.elsewhere:
        lines += ["", "Not scored: what training cost there is not known (`evaluate.collections`)."]
    for name, systems in facts.elsewhere.items():
        lines += ["", f"*{name}*, test queries:", "", *_measures(systems)]
        gain = systems.get(facts.system, {}).get("gain")
        if gain is not None and gain < -TOLERATED_FALL:
            lines += ["", f"**Warning**: training cost {-gain:.4f} nDCG@10 on {name}."]
    return "\n".join(lines)


def _licences(facts: Facts) -> str:
    lines = [
        "## Licences",
        "",
        f"- The pre-trained encoder, {facts.encoder}: its licence holds for this model too.",
        f"- The passages of *{facts.collection}*: "
        + (facts.collection_licence or "see where the collection came from."),
    ]
    if facts.system != "untrained":
        lines.append(
            f"- The teacher, {facts.teacher}: its provider's terms may limit what a model trained "
            "on its texts may be used for."
        )
    return "\n".join(lines)


def _measures(systems: dict[str, dict]) -> list[str]:
    found = [name for name in _SYSTEMS if name in systems]
    shown = [measure for measure in _MEASURES if any(measure in systems[name] for name in found)]
    rows = [
        [_SYSTEMS[name], *(_number(systems[name].get(measure)) for measure in shown)]
        for name in found
    ]
    return _table(["", *(_MEASURES[measure] for measure in shown)], rows)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _public(name: str) -> str:
    """Return a name without the place on this machine, where it is a path."""
    return Path(name).name if Path(name).is_absolute() else name


def _licence(readme: Path) -> str | None:
    """Return what stands below the heading Licence (or License) of a collection's README.md."""
    if not readme.is_file():
        return None
    text = readme.read_text("utf-8", errors="replace")
    found = re.search(r"^#+ *licen[cs]e\s*\n(.+?)(?=^#|\Z)", text, re.M | re.S | re.I)
    return " ".join(found[1].split()) if found else None
