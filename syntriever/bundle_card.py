"""The cards of an exported bundle: data, recipe, scores, licences. No dates, no absolute paths."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from syntriever import params, paths
from syntriever.collection import read_origin
from syntriever.files import read_json
from syntriever.tables.cells import UPSTREAM
from syntriever.tables.overrides import flatten, leaves
from syntriever.tolerance import TOLERATED_FALL

_SYSTEMS = {
    "bm25": "BM25",
    "untrained": "untrained encoder",
    "stage1": "stage 1",
    "stage2": "stages 1 and 2",
}
_MEASURES = {
    "ndcg_at_10": "nDCG@10",
    "ndcg_at_10_unseen": "nDCG@10 unseen",
    "ndcg_at_1": "nDCG@1",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
    "queries": "queries",
}
# A server's address may be nobody else's to know.
_PRIVATE = {"teacher.base_url"}

_FRONT_MATTER = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, dense-retrieval]
---
"""

_USE = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("model")
scores = model.encode_query(["a question"]) @ model.encode_document(["a passage"]).T
```"""

_METHOD = """Method: Kim & Baek, *Syntriever: How to Train Your Retriever with Synthetic Data from
LLMs*, Findings of NAACL 2025."""


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

    @property
    def trained_on(self) -> list[str]:
        """What stage 1 was trained on, in words."""
        labels = self.recipe["collection.use_labels"] and self._count("prepare", "qrels_train")
        kinds = {
            "labelled passages": labels,
            "queries that a language model wrote": self._count("write_queries", "kept"),
            "a language model's chains of thought": self._count("synthesize", "cot"),
            "a language model's passages": self._count("synthesize", "positive"),
        }
        return [words for words, used in kinds.items() if used]

    @property
    def aligned_with(self) -> list[str]:
        """What stage 2 was trained on, in words; nothing where it is stage 1."""
        asked, undecided = (
            self._count("mine_pairs", name) for name in ("pairs_asked", "undecided")
        )
        kinds = {
            "a language model's preferences": asked - undecided,
            "mined hard negatives for written queries": self._count("mine_pairs", "written_pairs"),
        }
        return [words for words, used in kinds.items() if used]

    @property
    def taught(self) -> bool:
        """Whether a language model had a part in it."""
        if self.system == "untrained":
            return False
        aligned = self.system == "stage2" and bool(self.aligned_with)
        return aligned or self.trained_on != ["labelled passages"]

    def _count(self, stage: str, name: str) -> int:
        return self.counts.get(stage, {}).get(name) or 0


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
    made_by = UPSTREAM[system]
    read = set().union(*(leaves(params.VIEWS[stage]) for stage in made_by)) - _PRIVATE
    files = {stage: paths.METRICS / f"{stage}.json" for stage in made_by}
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
            if name in read
        },
        counts={stage: read_json(file) for stage, file in files.items() if file.exists()},
        scores=scores,
        elsewhere={file.stem: read_json(file) for file in transfer if file.exists()},
        written_tests=read_origin(paths.ORIGIN).test_queries == "written",
    )


def of_model(facts: Facts) -> str:
    """Return the card of the bundle's model folder."""
    sections = [_head(facts), _USE, _recipe(facts), _data(facts), _scores(facts), _elsewhere(facts)]
    return "\n\n".join([*filter(None, sections), _licences(facts)]) + "\n"


def of_bundle(facts: Facts, passages: int, dimensions: int) -> str:
    """Return the README.md of the bundle."""
    return f"""# A retriever for *{facts.collection}*

| file | what |
|---|---|
| `model/` | the encoder ({_SYSTEMS[facts.system]}): a SentenceTransformer folder with its card |
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


def _head(facts: Facts) -> str:
    if facts.system == "untrained":
        name, made = "(untrained)", f"The pre-trained encoder {facts.encoder} as it came."
    else:
        name = f"for *{facts.collection}*"
        made = f"{facts.encoder}, fine-tuned on {', '.join(facts.trained_on)} (stage 1)."
    if facts.system == "stage2" and facts.aligned_with:
        made += f" Then aligned with {' and '.join(facts.aligned_with)} (stage 2)."
    elif facts.system == "stage2":
        made += " Nothing was aligned: stage 2 is stage 1."
    method = f"\n\n{_METHOD}" if facts.taught else ""
    return f"""{_FRONT_MATTER}
# Dense retriever {name}

{made}{method}

Queries and passages are embedded apart and compared by cosine similarity; prefixes, pooling and
length limit are part of this folder."""


def _data(facts: Facts) -> str:
    lines = [
        "## Data",
        "",
        f"Collection: *{facts.collection}*. Pre-trained encoder: {facts.encoder}.",
    ]
    if facts.taught:
        lines[-1] += f" Teacher: {facts.teacher}."
    rows = [
        [f"`{stage}`", ", ".join(f"{n} {_number(v)}" for n, v in counts.items() if v is not None)]
        for stage, counts in facts.counts.items()
    ]
    return "\n".join([*lines, "", *_table(["stage", "what it counted"], rows)])


def _recipe(facts: Facts) -> str:
    """All params of the stages that made it, so that it can be made again."""
    rows = [
        [f"`{name}`", json.dumps(value)]
        for name, value in facts.recipe.items()
        if facts.taught or not name.startswith("teacher.")
    ]
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
    if facts.taught:
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
